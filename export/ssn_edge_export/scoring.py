"""Calibration pictures to their scores, by the engine that will decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import LARGEST_LOGIT, ScoringRule
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import DatasetError, PictureError, ScoreError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import FrameError, Geometry, preprocess

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the steps done and their number."""

NOT_TRAINED = "the network did not train well, train again with a lower learning rate"
"""What to do where FP32 gives no score."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture file with its label: 0 normal, 1 anomalous."""

    path: Path
    label: int

    def __post_init__(self) -> None:
        """Refuse a label that is neither."""
        if self.label not in (0, 1):
            raise DatasetError(f"{self.path}: has label {self.label}; 0 is normal, 1 anomalous")

    @property
    def name(self) -> str:
        """The file with its folder: enough to find it, without the way there."""
        return "/".join(self.path.parts[-2:])


@dataclass(frozen=True, slots=True)
class ScoredPicture:
    """A picture with both logits of the exported graph."""

    picture: LabelledPicture
    classification_logit: float
    map_max_logit: float

    def logit(self, rule: ScoringRule) -> float:
        """The raw anomaly score under a scoring rule."""
        return rule.score(self.classification_logit, self.map_max_logit)


def to_pixels(frame: ByteImage, geometry: Geometry, path: Path) -> ByteImage:
    """A frame as network input, (h, w, 3) uint8; `path` is what an error calls it.

    Raises:
        PictureError: The geometry does not fit it.
    """
    try:
        return preprocess(frame, geometry)
    except FrameError as error:
        raise PictureError(f"{path}: {error}; leave it out or change the region") from error


def score_pictures(
    engine: Engine,
    pictures: Sequence[LabelledPicture],
    geometry: Geometry,
    on_progress: Progress,
    remedy: str = NOT_TRAINED,
) -> list[ScoredPicture]:
    """Score pictures, in their order.

    Args:
        engine: Gives the scores.
        pictures: To score.
        geometry: The package's.
        on_progress: Called with the stage's name, the steps done and their number.
        remedy: What to do where a score is none; ends the message.

    Raises:
        PictureError: A picture is unreadable, or the geometry does not fit it.
        ScoreError: The engine gave NaN, or a logit that no picture can cause.
    """
    scored = []
    for done, picture in enumerate(pictures, start=1):
        pixels = to_pixels(read_picture(picture.path), geometry, picture.path)
        judgement = engine.infer(pixels, pixel_threshold=0.0)
        logits = (judgement.classification_logit, judgement.map_max_logit)
        if not all(abs(logit) <= LARGEST_LOGIT for logit in logits):  # false for NaN, too
            raise ScoreError(
                f"{picture.name}: the exported graph gives the logits {logits[0]} and "
                f"{logits[1]}; {remedy}"
            )
        scored.append(ScoredPicture(picture, *logits))
        on_progress("score", done, len(pictures))
    return scored
