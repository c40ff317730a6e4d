"""A run's training log: `training.csv` in its folder, and TensorBoard's events if wanted.

The log goes on where an interrupted run goes on: rows after the step that the run resumed from are
dropped, for that work is done again.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.files import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG_NAME = "training.csv"
EVENTS_FOLDER = "tensorboard"
MOST_ROWS = 2000
"""A longer run writes a row every so many steps: the file stays small enough to open anywhere."""

TERMS = ("l1_normal", "l1_anomalous", "focal", "classification")
"""Summands of the loss that have a column each."""


class StepProgress(Protocol):
    """What a step tells; `ssn_edge.training.trainer.Progress` does."""

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def steps(self) -> int:
        """Steps in all."""
        ...

    @property
    def epoch(self) -> int:
        """Epochs begun, from 1."""
        ...

    @property
    def terms(self) -> Mapping[str, float]:
        """The loss's summands of this step by name."""
        ...

    @property
    def learning_rate(self) -> float:
        """Of the heads."""
        ...

    @property
    def separation(self) -> float | None:
        """AUROC on the latest training samples."""
        ...


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the log; its fields are the file's columns.

    Args:
        step: Steps done.
        epoch: Epochs begun, from 1.
        loss: Mean over the steps since the row before, as the four terms are.
        l1_normal: Truncated L1 of normal pixels.
        l1_anomalous: The same of anomalous pixels.
        focal: Focal loss of the map.
        classification: Focal loss of the scores.
        separation: AUROC of the map maximum on the latest training samples, synthetic defects
            included; None where all were of one kind.
        learning_rate: Of the heads.
        seconds: Since the run began, without the time between interruption and resumption.
    """

    step: int
    epoch: int
    loss: float
    l1_normal: float
    l1_anomalous: float
    focal: float
    classification: float
    separation: float | None
    learning_rate: float
    seconds: float


COLUMNS = tuple(each.name for each in dataclasses.fields(LogRow))


class TrainingLog:
    """Writes the log of a run; a context manager.

    Each row is handed to the operating system at once, so that a run which is killed keeps it.

    Args:
        folder: The run's; made if it is not there.
        start_step: Steps that were done before; 0 begins a new log.
        tensorboard: Whether to write events for TensorBoard into `tensorboard/` as well.

    Raises:
        ConfigError: TensorBoard is asked for and not installed.
        StorageError: The log cannot be written.
    """

    def __init__(self, folder: Path, *, start_step: int = 0, tensorboard: bool = False) -> None:
        self._path = folder / LOG_NAME
        self._events = _open_events(folder / EVENTS_FOLDER, start_step) if tensorboard else None
        kept = [row for row in read_training_log(self._path) if row.step <= start_step]
        write_whole(self._path, _csv_text(kept).encode())
        self._seconds_before = kept[-1].seconds if kept else 0.0
        self._started = time.monotonic()
        self._pending: list[Mapping[str, float]] = []
        self._stack = contextlib.ExitStack()
        if self._events is not None:
            self._stack.callback(self._events.close)
        try:
            # Line buffered: a row is whole on the disk, or the last line is cut and dropped later.
            self._file = self._stack.enter_context(
                self._path.open("a", encoding="utf-8", newline="", buffering=1)
            )
        except OSError as error:
            self._stack.close()
            raise _unwritable(self._path, error) from error
        self._writer = csv.writer(self._file, lineterminator="\n")

    def __enter__(self) -> TrainingLog:
        """The log itself."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._stack.close()

    def add(self, progress: StepProgress) -> None:
        """Note a step; a row is written every so many steps, and at the last one.

        Raises:
            StorageError: The disk is full.
        """
        self._pending.append(progress.terms)
        every = max(1, -(-progress.steps // MOST_ROWS))
        if progress.step % every and progress.step < progress.steps:
            return
        row = self._row(progress)
        self._pending.clear()
        try:
            self._writer.writerow(_cells(row))
        except OSError as error:
            raise _unwritable(self._path, error) from error
        if self._events is not None:
            for name, value in _scalars(row):
                self._events.add_scalar(name, value, row.step)

    def _row(self, progress: StepProgress) -> LogRow:
        count = len(self._pending)
        mean = {
            name: math.fsum(terms.get(name, 0.0) for terms in self._pending) / count
            for name in TERMS
        }
        return LogRow(
            step=progress.step,
            epoch=progress.epoch,
            loss=math.fsum(math.fsum(terms.values()) for terms in self._pending) / count,
            **mean,
            separation=progress.separation,
            learning_rate=progress.learning_rate,
            seconds=self._seconds_before + time.monotonic() - self._started,
        )


def read_training_log(path: Path) -> tuple[LogRow, ...]:
    """Read a log as far as it goes: up to a line that is cut short or that another program wrote.

    Returns:
        The rows, steps rising; none if the file is missing or has other columns.

    Raises:
        StorageError: The file is there and cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    # What comes after the last line's end was cut short, even if it looks like a number.
    lines = csv.reader(text.splitlines(keepends=True)[: text.count("\n")])
    if tuple(next(lines, ())) != COLUMNS:
        return ()
    rows: list[LogRow] = []
    for cells in lines:
        row = _parsed(cells)
        if row is None or (rows and row.step <= rows[-1].step):
            break
        rows.append(row)
    return tuple(rows)


def _parsed(cells: Sequence[str]) -> LogRow | None:
    """A row from its cells, or None if they are not one."""
    if len(cells) != len(COLUMNS):
        return None
    named = dict(zip(COLUMNS, cells, strict=True))
    try:
        step, epoch = int(named.pop("step")), int(named.pop("epoch"))
        separation = named.pop("separation")
        numbers = {name: float(cell) for name, cell in named.items()}
        row = LogRow(
            step=step,
            epoch=epoch,
            separation=float(separation) if separation else None,
            **numbers,
        )
    except ValueError:
        return None
    known = [*numbers.values(), row.separation or 0.0]
    return row if all(map(math.isfinite, known)) else None


def _csv_text(rows: Sequence[LogRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_cells, rows))
    return text.getvalue()


def _cells(row: LogRow) -> list[str]:
    """The row's texts: six digits are more than a curve shows."""
    values = [getattr(row, name) for name in COLUMNS]
    return ["" if v is None else str(v) if isinstance(v, int) else f"{v:.6g}" for v in values]


def _scalars(row: LogRow) -> list[tuple[str, float]]:
    """The row's numbers by the names that TensorBoard groups them under."""
    scalars = [("loss/total", row.loss)]
    scalars += [(f"loss/{name}", float(getattr(row, name))) for name in TERMS]
    if row.separation is not None:
        scalars.append(("separation", row.separation))
    return [*scalars, ("learning_rate", row.learning_rate)]


def _open_events(folder: Path, start_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "TensorBoard logging was asked for and tensorboard is not installed; install it: "
            "pip install 'ssn-edge[tensorboard]', or leave the option out"
        ) from error
    try:
        # Events of steps that are done again are hidden by what follows.
        return SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else None)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written ({error.strerror}); check the folder and its space, then go on "
        "with --resume"
    )
