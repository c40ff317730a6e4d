"""How the camera's pictures of good parts look: what a device tells faults by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssn_edge_export.scoring import LabelledPicture, Progress, to_pixels
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.manifest import InputStatistics
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry


@dataclass(frozen=True, slots=True)
class NormalInputs:
    """What the normal training pictures have in common.

    Args:
        statistics: Of the network's input.
        frame_size_hw: Of the camera's frames; None where they differ.
    """

    statistics: InputStatistics
    frame_size_hw: tuple[int, int] | None


def measure_normals(
    normals: Sequence[LabelledPicture], geometry: Geometry, on_progress: Progress
) -> NormalInputs:
    """Read all normal training pictures once.

    Raises:
        PictureError: One is unreadable, or the geometry does not fit it.
    """
    measured = []
    sizes = set()
    for done, picture in enumerate(normals, start=1):
        frame = read_picture(picture.path)
        sizes.add((frame.shape[0], frame.shape[1]))
        measured.append(measure_input(to_pixels(frame, geometry, picture.path)))
        on_progress("statistics", done, len(normals))
    return NormalInputs(collect_statistics(measured), sizes.pop() if len(sizes) == 1 else None)
