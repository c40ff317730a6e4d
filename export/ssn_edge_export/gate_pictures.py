"""Which pictures the gate compares on: held out of fitting, representative, of both labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from ssn_edge_export.scoring import LabelledPicture, Progress, ScoredPicture, to_pixels
from ssn_edge_export.selection import representatives
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry

MIN_PICTURES = 8
"""With fewer held-out ones, normal training pictures fill up: they show a difference, too."""
MAX_CANDIDATES = 1000
"""Test pictures that are scored to choose from, at most, spread evenly over the part."""
MAX_PIXELS = 2**24
"""Of all chosen pictures' maps together: 64 MB for each set of maps that is held at once."""
_LEAST_OF_LARGE = 32
"""Pictures that are compared whatever the size of their maps."""

TruthReader = Callable[[Path], BoolMask | None]
"""A picture's ground truth at network resolution, (h, w) bool; None where nobody has drawn it."""


class Part(Enum):
    """Of the user's data."""

    CALIBRATION = "calibration"
    TEST = "test"
    TRAINING = "training"


@dataclass(frozen=True, slots=True, eq=False)
class GatePicture:
    """One picture that everything is compared on.

    Args:
        name: The file with its folder.
        label: 0 normal, 1 anomalous.
        part: Where it is from.
        pixels: Network input, (h, w, 3) uint8 BGR.
        frame_size_hw: Of the camera's frame.
        truth: Ground truth, (h, w) bool at network resolution; None where it is not known.
    """

    name: str
    label: int
    part: Part
    pixels: ByteImage
    frame_size_hw: tuple[int, int]
    truth: BoolMask | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A picture to compare on, and the part that it is from."""

    picture: LabelledPicture
    part: Part


def candidates(test: Sequence[LabelledPicture]) -> list[LabelledPicture]:
    """The test part, or an even choice of it, each label for itself."""
    if len(test) <= MAX_CANDIDATES:
        return list(test)
    chosen: list[LabelledPicture] = []
    for label in (0, 1):
        own = [picture for picture in test if picture.label == label]
        count = max(1, MAX_CANDIDATES * len(own) // len(test))
        chosen += evenly_spread(own, count)
    return chosen


def choose_pictures(
    calibration: Sequence[ScoredPicture],
    test: Sequence[ScoredPicture],
    normals: Sequence[LabelledPicture],
    *,
    rule: ScoringRule,
    threshold: float,
    most: int,
    input_size_hw: tuple[int, int],
) -> list[Chosen]:
    """Choose what to compare on, at most `most`, half of each label where there are enough.

    Of each label and part half are those nearest the threshold, where a verdict turns first, half
    are spread over the scores. Image metrics fall further over them than over all pictures; so
    these are taken over all (`gate_held_out`).

    Args:
        calibration: Held out of fitting, with scores.
        test: The test part or some of it, with scores.
        normals: Training pictures; only where fewer than `MIN_PICTURES` are held out.
        rule: Makes one score of both logits.
        threshold: The image threshold.
        most: Pictures wanted; fewer where the network input is large.
        input_size_hw: Of the network.
    """
    height, width = input_size_hw
    most = min(most, max(_LEAST_OF_LARGE, MAX_PIXELS // (height * width)))
    parts = ((Part.CALIBRATION, calibration), (Part.TEST, test))
    held = [
        sum(each.picture.label == label for _, own in parts for each in own) for label in (0, 1)
    ]
    anomalous = min(held[1], max(most // 2, most - held[0]))
    chosen: list[Chosen] = []
    for label, count in ((0, most - anomalous), (1, anomalous)):
        of_parts = [[each for each in own if each.picture.label == label] for _, own in parts]
        # Half of each part, so that a search, which sees the calibration part alone, sees enough.
        of_calibration = min(len(of_parts[0]), max(count // 2, count - len(of_parts[1])))
        for (part, _), own, wanted in zip(
            parts, of_parts, (of_calibration, count - of_calibration), strict=True
        ):
            scores = [each.logit(rule) for each in own]
            chosen += [
                Chosen(own[index].picture, part)
                for index in representatives(scores, threshold, wanted)
            ]
    more = evenly_spread(normals, MIN_PICTURES - len(chosen))
    return chosen + [Chosen(picture, Part.TRAINING) for picture in more]


def load_pictures(
    chosen: Sequence[Chosen],
    geometry: Geometry,
    read_truth: TruthReader | None,
    on_progress: Progress,
) -> tuple[GatePicture, ...]:
    """Read and preprocess what was chosen.

    Raises:
        PictureError: A picture or mask is unreadable, or the geometry does not fit it.
    """
    loaded = []
    for done, each in enumerate(chosen, start=1):
        path = each.picture.path
        frame = read_picture(path)
        loaded.append(
            GatePicture(
                name=each.picture.name,
                label=each.picture.label,
                part=each.part,
                pixels=to_pixels(frame, geometry, path),
                frame_size_hw=(frame.shape[0], frame.shape[1]),
                truth=None if read_truth is None else read_truth(path),
            )
        )
        on_progress("pictures", done, len(chosen))
    return tuple(loaded)


def evenly_spread(pictures: Sequence[LabelledPicture], most: int) -> list[LabelledPicture]:
    """At most so many pictures, evenly spaced."""
    if most <= 0 or not pictures:
        return []
    places = np.linspace(0, len(pictures) - 1, min(most, len(pictures)))
    return [pictures[index] for index in places.astype(int)]
