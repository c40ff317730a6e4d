"""What an export is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_limits import GateLimits
from ssn_edge_export.gate_pictures import TruthReader
from ssn_edge_export.gate_worst import WorstPicture
from ssn_edge_export.onnx_model import GraphKind
from ssn_edge_export.scoring import LabelledPicture
from ssn_edge_runtime.decision import ScoringMethod, Thresholds
from ssn_edge_runtime.errors import ConfigError, DatasetError
from ssn_edge_runtime.manifest import PRECISIONS, Risk
from ssn_edge_runtime.preprocess import Geometry


@dataclass(frozen=True, slots=True, eq=False)
class ExportRequest:
    """All that an export needs beside the net.

    Args:
        output: The package file, ``.ssn`` by custom. Its folder is made.
        name: The model's name, for people.
        geometry: Camera pixels to network pixels, as in training.
        scoring: How both logits become the image's score.
        variant: Published variant of the architecture, for the record.
        regime: Supervision regime, for the record.
        backbone: Name of the backbone, for the record.
        training_data: Fingerprint of the training data.
        training_normals: Normal pictures of the training part: for the input statistics, and INT8
            takes its ranges from them and from no others.
        calibration: Pictures held out of fitting, some normal: thresholds are fitted on them.
        test: The test part with its labels, if there is one; it fits and chooses nothing.
        read_truth: Gives a picture's ground truth, for the metrics of the maps.
        max_false_reject: Share of good parts that may be rejected, for both thresholds.
        confidence: That it holds for these very calibration pictures; None for on average.
        graph: Which graph goes into the package.
        precisions: Beside FP32, which is always in the package.
        limits: Of the gate.
        keeps_going: Write the package without a precision that was refused, instead of nothing.
        tools: Versions of what trained the net, by name; those of the export are added.
        report_html: A page for people, or None.
    """

    output: Path
    name: str
    geometry: Geometry
    scoring: ScoringMethod
    variant: str
    regime: str
    backbone: str
    training_data: str
    training_normals: Sequence[Path]
    calibration: Sequence[LabelledPicture]
    test: Sequence[LabelledPicture] = ()
    read_truth: TruthReader | None = None
    max_false_reject: float = 0.01
    confidence: float | None = None
    graph: GraphKind = GraphKind.DEPLOY
    precisions: Sequence[str] = ()
    limits: GateLimits = field(default_factory=GateLimits)
    keeps_going: bool = False
    tools: Mapping[str, str] = field(default_factory=dict)
    report_html: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what can be refused before minutes of work."""
        unknown = [each for each in self.precisions if each not in PRECISIONS]
        if unknown:
            raise ConfigError(
                f"precision {unknown[0]!r} is not known; choose of {', '.join(PRECISIONS)}"
            )
        if self.output.is_dir():
            raise ConfigError(
                f"{self.output} is a folder; name a file in it, such as {self.output / 'part.ssn'}"
            )
        if not self.training_normals:
            raise DatasetError(
                "there is no normal training picture to learn from how the camera's pictures look; "
                "put normal pictures into the training part"
            )
        if not any(picture.label == 0 for picture in self.calibration):
            raise DatasetError(
                f"of {len(self.calibration)} calibration pictures none is normal, and thresholds "
                "are fitted on normal ones; put normal pictures into the calibration part, 99 for "
                "a promise of 1 %"
            )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The precisions of the package, FP32 first; each once."""
        return tuple(each for each in PRECISIONS if each == "fp32" or each in self.precisions)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A precision that the gate refused, and why."""

    precision: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class GateReport:
    """What the gate measured, refused or not: for the page.

    Args:
        name: The model's name.
        columns: A report for each model in each engine, in the order they were measured.
        skipped: Columns that could not be measured here, with the reason.
        refusals: Precisions that were refused.
        worst: Pictures to look at.
        limits: That decided.
        pictures: How many of each label were compared, by part: ``calibration normal`` and so on.
        pixel_threshold: The net's.
        notes: What was decided on the way, such as layers that INT8 leaves in float.
    """

    name: str
    columns: tuple[ColumnReport, ...]
    skipped: tuple[tuple[str, str], ...]
    refusals: tuple[Refusal, ...]
    worst: tuple[WorstPicture, ...]
    limits: GateLimits
    pictures: Mapping[str, int]
    pixel_threshold: float
    notes: tuple[str, ...] = ()


GateListener = Callable[[GateReport], Path | None]
"""Takes the gate's report, also when it refuses; gives the page that shows it, if it wrote one."""


@dataclass(frozen=True, slots=True)
class PackedPrecision:
    """One precision of a package that was written.

    Args:
        name: ``fp32`` and so on.
        graph: Which graph it is, such as ``deploy-1``.
        thresholds: Of its own.
        risk: What they were fitted for.
        columns: What the gate measured, that of the deciding engine first.
        model_bytes: Size of its ONNX file.
        notes: What was decided for it, for people.
    """

    name: str
    graph: str
    thresholds: Thresholds
    risk: Risk
    columns: tuple[ColumnReport, ...]
    model_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A package that was written, and what was found on the way.

    Args:
        package_path: The file.
        package_id: SHA-256 of its manifest.
        precisions: What is in it, FP32 first.
        compared: Columns of graphs that are not in the package, for comparison.
        refusals: What is not in it; empty unless the request keeps going.
        pictures: How many held-out pictures were compared.
        golden_pictures: How many are in the package.
        page: What shows the gate's findings to people, if it was written.
        seconds: That it took.
    """

    package_path: Path
    package_id: str
    precisions: tuple[PackedPrecision, ...]
    compared: tuple[ColumnReport, ...]
    refusals: tuple[Refusal, ...]
    pictures: int
    golden_pictures: int
    page: Path | None
    seconds: float

    @property
    def fp32(self) -> PackedPrecision:
        """The precision that is always there."""
        return self.precisions[0]

    @property
    def thresholds(self) -> Thresholds:
        """Of FP32."""
        return self.fp32.thresholds

    @property
    def risk(self) -> Risk:
        """Of FP32."""
        return self.fp32.risk
