"""How a training went, as a report tells it: from the run's log, else from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssn_edge.training.log import LOG_NAME, TERMS, LogRow, read_training_log

MOST_POINTS = 150
"""Of a curve; more rows are averaged, which also shows the trend in the noise of single steps."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainingCurves:
    """Losses and more against steps or epochs, thinned for drawing.

    Args:
        source: Where this is from, for people.
        unit: What `at` counts: steps or epochs.
        at: Where each point stands, rising; at least two.
        losses: A value for each point by column of the log: `loss`, and its terms if known.
        separation: Likewise; None where all samples were of one kind; empty if not known.
        learning_rate: Likewise; empty if not known.
    """

    source: str
    unit: str
    at: tuple[float, ...]
    losses: Mapping[str, tuple[float, ...]]
    separation: tuple[float | None, ...] = ()
    learning_rate: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return asdict(self)


def curves_beside(checkpoint: Path) -> TrainingCurves | None:
    """Learning curves of a checkpoint's run: of the log beside it, else of its own header.

    Returns:
        None where neither tells two losses.

    Raises:
        CheckpointError: There is no log, and the checkpoint is damaged.
        StorageError: The log cannot be read.
    """
    rows = read_training_log(checkpoint.parent / LOG_NAME)
    if len(rows) > 1:
        return curves_from_log(rows)
    from ssn_edge.training.checkpoint import load_tensors

    _, header = load_tensors(checkpoint)
    losses = header.get("losses")
    return curves_from_losses(losses) if isinstance(losses, list) and len(losses) > 1 else None


def curves_from_log(rows: Sequence[LogRow]) -> TrainingCurves:
    """Learning curves from the rows of a log, at least two."""
    steps = np.array([row.step for row in rows], dtype=np.float64)

    def column(name: str) -> tuple[float, ...]:
        return _means(np.array([getattr(row, name) for row in rows], dtype=np.float64))

    last = rows[-1]
    return TrainingCurves(
        source=f"{LOG_NAME} of the run: {last.step} steps, {last.epoch} "
        f"epoch{'' if last.epoch == 1 else 's'}, "
        f"{last.seconds / 60:.3g} minutes",
        unit="steps",
        at=tuple(float(chunk[-1]) for chunk in _chunks(steps)),
        losses={name: column(name) for name in ("loss", *TERMS)},
        separation=_separation(rows),
        learning_rate=column("learning_rate"),
    )


def curves_from_losses(losses: Sequence[float]) -> TrainingCurves:
    """Learning curves from the mean loss of each epoch, at least two."""
    epochs = np.arange(1, len(losses) + 1, dtype=np.float64)
    return TrainingCurves(
        source=f"the checkpoint's mean loss of each epoch (there is no {LOG_NAME} beside it)",
        unit="epochs",
        at=tuple(float(chunk[-1]) for chunk in _chunks(epochs)),
        losses={"loss": _means(np.array(losses, dtype=np.float64))},
    )


def _separation(rows: Sequence[LogRow]) -> tuple[float | None, ...]:
    """The last known value of each chunk: it is a mean over many steps already."""
    known = []
    for chunk in _chunks(np.arange(len(rows), dtype=np.float64)):
        values = [rows[int(index)].separation for index in chunk]
        known.append(next((value for value in reversed(values) if value is not None), None))
    return tuple(known)


def _means(values: Numbers) -> tuple[float, ...]:
    return tuple(float(chunk.mean()) for chunk in _chunks(values))


def _chunks(values: Numbers) -> list[Numbers]:
    """Neighbouring values together, at most `MOST_POINTS` times."""
    return np.array_split(values, min(len(values), MOST_POINTS))
