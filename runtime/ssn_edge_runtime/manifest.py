"""The manifest of a model package: what is in it, and what it needs to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.preprocess import Geometry

SCHEMA_VERSION = 3
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "signature.json"
INT8_ONNXRUNTIME = "int8-onnxruntime"
"""INT8 in the form that ONNX Runtime's CPU kernels take; `int8` is in TensorRT's, which OpenVINO
runs as well."""
INT8_OPENVINO = "int8-openvino"
"""INT8 as OpenVINO can and TensorRT cannot: what is never below zero has all 255 steps above it."""
PRECISIONS = ("fp32", "fp16", "int8", INT8_ONNXRUNTIME, INT8_OPENVINO)
MAX_SCORE_TOLERANCE = 1.0
"""A logit; an engine that far off is another model."""
MAX_MASK_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value seen over the training part's normal pictures."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a range that nothing, or everything, lies in."""
        if not self.low <= self.high:
            raise ConfigError(f"a range from {self.low} to {self.high} holds nothing")


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """How normal network inputs look, for fault detection; of 8-bit levels at network size.

    Args:
        channel_means: For each channel in the camera's colour order (B, G, R).
        contrast: Standard deviation of the grey levels.
        sharpness: Mean absolute Laplacian of the grey levels.
        relative_sharpness: The same as a share of the contrast: without a unit.
        clipped: Share of all values that are black or white, and may hide more.
    """

    channel_means: tuple[Range, Range, Range]
    contrast: Range
    sharpness: Range
    relative_sharpness: Range
    clipped: Range


@dataclass(frozen=True, slots=True)
class Risk:
    """What thresholds were fitted for.

    Args:
        max_false_reject: Share of good parts that may be rejected.
        normals: Number of held-out normal pictures, or groups of such, that they were fitted on.
        supported: Whether so many pictures can carry that share at all.
        confidence: The chance that it holds for these very thresholds; None where it holds on
            average over such calibrations.
    """

    max_false_reject: float
    normals: int
    supported: bool
    confidence: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not a share."""
        if not 0 <= self.max_false_reject <= 1:
            raise ConfigError(f"max_false_reject is {self.max_false_reject}; 0 to 1 is a share")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ConfigError(f"a confidence of {self.confidence}; above 0 and below 1 is one")


@dataclass(frozen=True, slots=True)
class Caught:
    """The other side of `Risk`: what thresholds promise of defects.

    Args:
        min_caught: Share of defects that do not pass, at least.
        defects: Number of held-out pictures of defects, or groups of such, that it was found on.
        confidence: The chance that it holds for these very thresholds.
    """

    min_caught: float
    defects: int
    confidence: float

    def __post_init__(self) -> None:
        """Refuse what is not a share."""
        if not 0 <= self.min_caught <= 1:
            raise ConfigError(f"min_caught is {self.min_caught}; 0 to 1 is a share")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"a confidence of {self.confidence}; above 0 and below 1 is one")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far another engine, or another device, may be from the golden pictures' outcome.

    Args:
        score: Of both logits, absolute plus relative: another CPU adds in another order, and
            kernels of low precision round in other places.
        mask_share: Share of the defect mask's pixels: those whose logit lies on the threshold.
    """

    score: float = 1e-3
    mask_share: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what would let anything through."""
        if not 0 < self.score <= MAX_SCORE_TOLERANCE:
            raise ConfigError(
                f"the tolerance of scores is {self.score}; above 0, at most {MAX_SCORE_TOLERANCE}"
            )
        if not 0 < self.mask_share <= MAX_MASK_SHARE:
            raise ConfigError(
                f"the tolerance of masks is {self.mask_share}; above 0, at most {MAX_MASK_SHARE}"
            )

    def of_logit(self, logit: float) -> float:
        """What a logit may differ by."""
        return self.score + self.score * abs(logit)


@dataclass(frozen=True, slots=True)
class PrecisionEntry:
    """One model of a package with its own certificate and default thresholds.

    Args:
        model: Entry of the ONNX file.
        certificate: Entry of what the export gate measured.
        thresholds: Fitted on this model's own scores.
        risk: What they were fitted for.
        graph: Which graph it is, and which version of it, such as ``deploy-1``.
        tolerance: For the self-test on a device.
    """

    model: str
    certificate: str
    thresholds: Thresholds
    risk: Risk
    graph: str = "reference-1"
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True)
class ExpectedScores:
    """What one precision gave on a golden picture when it was certified."""

    classification_logit: float
    map_max_logit: float
    mask: str


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """A picture at camera size with the outcome expected of each precision."""

    picture: str
    expected: Mapping[str, ExpectedScores]


@dataclass(frozen=True, slots=True)
class EntryDigest:
    """Size and SHA-256 of one entry of the archive."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the line must know about a model; hashes every other entry.

    `colour_order` is that of the `pixels` input: ``bgr``. `training_data` is a fingerprint.
    `frame_size_hw` is that of the training pictures in camera pixels, None where they differ: a
    camera that gives another size was changed, or its setting was.
    """

    name: str
    created_at: str
    geometry: Geometry
    scoring_rule: ScoringRule
    precisions: Mapping[str, PrecisionEntry]
    variant: str
    regime: str
    backbone: str
    training_data: str
    input_statistics: InputStatistics
    golden: tuple[GoldenPicture, ...]
    tools: Mapping[str, str]
    entries: Mapping[str, EntryDigest] = field(default_factory=dict)
    colour_order: str = "bgr"
    frame_size_hw: tuple[int, int] | None = None
    schema: int = SCHEMA_VERSION
