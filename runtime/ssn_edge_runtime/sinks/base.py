"""What a sink is: decided parts out, to the journal first and then to whatever follows it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar

from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sources.base import Frame

SinkT = TypeVar("SinkT", bound="Sink")


@dataclass(frozen=True, slots=True)
class PictureNames:
    """Files that a follower will write for a part, relative to the journal's folder."""

    mask: str | None = None
    overlay: str | None = None


class Sink(Protocol):
    """Where decided parts go. A context manager; written to by one thread."""

    def open(self) -> None:
        """Make ready to write.

        Raises:
            StorageError: It cannot be written to.
        """
        ...

    def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
        """Take one decided part.

        Args:
            record: The part's record.
            frame: The frame it was decided on; None where there was none.
            decision: The verdict with its mask and map.

        Raises:
            StorageError: It could not be written.
        """
        ...

    def close(self) -> None:
        """Write what is still held and give back files and threads; a second call does nothing."""
        ...

    def __enter__(self: SinkT) -> SinkT:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class Follower(Sink, Protocol):
    """A sink behind the journal: it may lag, and it may shed, but only with a count."""

    @property
    def shed(self) -> int:
        """How many parts it left out because it could not keep up."""
        ...

    def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
        """Choose, before the record is written, which files `write` will leave for it.

        What is shed is shed here, so that no record names a file that was given up.
        """
        ...
