"""What one finished run measured, in a small file beside its checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.reproduction.figures import Values
from ssn_edge.reproduction.published import COLUMNS
from ssn_edge_calibrate.metrics import Metrics
from ssn_edge_runtime.errors import CheckpointError
from ssn_edge_runtime.files import write_whole

RESULT_NAME = "result.json"


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The numbers of one run, and what they depend on.

    Args:
        part: What was trained on.
        seed: Of the run.
        values: The seven metrics in per cent, in the order of the tables.
        regime: What the labels of the training part made.
        test_pictures: How many were judged.
        test_anomalous: How many of them are anomalous.
        backbone_weights: Where they came from.
        training_data: Fingerprint of pictures, labels and parts.
        device: What trained and judged.
        tools: Versions.
        seconds: Of the call that finished the run, evaluation included.
    """

    part: str
    seed: int
    values: Values
    regime: str
    test_pictures: int
    test_anomalous: int
    backbone_weights: str
    training_data: str
    device: str
    tools: Mapping[str, str]
    seconds: float


def values_of(metrics: Metrics) -> Values:
    """The seven metrics in per cent, in the order of the tables."""
    shares = (
        metrics.classification.i_auroc,
        metrics.classification.ap_det,
        metrics.pixel.p_auroc,
        metrics.pixel.ap_loc,
        metrics.pixel.aupro,
        metrics.map_max.i_auroc,
        metrics.map_max.ap_det,
    )
    return tuple(None if share is None else 100.0 * share for share in shares)


def write_result(folder: Path, result: RunFigures) -> None:
    """Write a run's numbers into its folder."""
    document = dataclasses.asdict(result)
    document["values"] = dict(zip(COLUMNS, result.values, strict=True))
    write_whole(folder / RESULT_NAME, (json.dumps(document, indent=2) + "\n").encode())


def read_result(folder: Path) -> RunFigures | None:
    """The numbers of a run, or None while it is not finished.

    Raises:
        CheckpointError: The file was changed or is damaged.
    """
    file = folder / RESULT_NAME
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        values = tuple(document["values"][name] for name in COLUMNS)
        if not all(value is None or isinstance(value, float) for value in values):
            raise ValueError("values that are no numbers")
        return RunFigures(**{**document, "values": values})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: cannot be used ({error}); remove it, and the run is evaluated again"
        ) from error
