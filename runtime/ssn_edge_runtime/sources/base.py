"""What a source is: frames in, from a camera or a recording."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Protocol, TypeVar

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError

SourceT = TypeVar("SourceT", bound="Source")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame as its source gave it.

    Args:
        image: (H, W, 3) uint8 BGR, or (H, W) uint8 mono; owned by the frame, never written again.
        source: Name of the camera or recording.
        index: Running number within the source, from 0; a camera that is opened again counts on.
        captured_at: When it was handed over, UTC. For a recording: when it was read from the file.
        captured_monotonic_ns: The same moment on the monotonic clock.
        part_id: The part's id where the source knows one.
        path: The file it came from, for pictures.
        exposed_monotonic_ns: When its exposure began, on the monotonic clock; None where the source
            cannot tell. Never later than the truth: a frame must not seem newer than it is.
        frame_id: The camera's own counter, made to run on without wrapping; a gap is a frame that
            was exposed and lost on the way. It may start anew when the camera is opened again.
        is_incomplete: The source knows that pixels are missing or made up: it must not be judged.
    """

    image: ByteImage
    source: str
    index: int
    captured_at: datetime
    captured_monotonic_ns: int
    part_id: str | None = None
    path: Path | None = None
    exposed_monotonic_ns: int | None = None
    frame_id: int | None = None
    is_incomplete: bool = False

    @classmethod
    def taken_now(
        cls,
        image: ByteImage,
        *,
        source: str,
        index: int,
        part_id: str | None = None,
        path: Path | None = None,
        exposed_monotonic_ns: int | None = None,
        frame_id: int | None = None,
        is_incomplete: bool = False,
    ) -> Frame:
        """Stamp an image with both clocks as they are now."""
        return cls(
            image,
            source,
            index,
            datetime.now(timezone.utc),
            monotonic_ns(),
            part_id,
            path,
            exposed_monotonic_ns,
            frame_id,
            is_incomplete,
        )


class DamagedFrame(SourceError):
    """One part's picture cannot be read; the source goes on with the next.

    It has no number of its own: it is no gap between the `frame_id` of its neighbours.

    Args:
        message: What is wrong, with the file's name.
        index: Running number of the frame within the source.
        part_id: The part's id where the source knows one.
    """

    def __init__(self, message: str, *, index: int, part_id: str | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.part_id = part_id


class NoFrameYet(SourceError):
    """No frame within the timeout, and that is no fault: nothing came that makes one.

    A watched folder without a new picture, or a camera whose trigger did not come. Read again.
    """


class Source(Protocol):
    """Where frames come from. A context manager; may be opened again once it was closed.

    `read` is called from one thread, `open` and `close` from another, never while `read` runs
    (a source that waits in a driver must bear `close` all the same).
    """

    @property
    def name(self) -> str:
        """What records call it, such as ``/dev/video0``."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames that are not read in time are lost: a camera, not a recording."""
        ...

    @property
    def tells_exposure(self) -> bool:
        """Whether its frames say when they were exposed: without that, it is not fit for triggers.

        Settled once the source is open; before that it may be False for want of knowledge.
        """
        ...

    def open(self) -> None:
        """Take hold of the device or file.

        Raises:
            SourceError: Not there, in use, or not what it should be.
        """
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Args:
            timeout_s: Longest wait for a live source, in seconds; a recording may ignore it.

        Returns:
            The frame, or None at the end of a recording; a live source never ends.

        Raises:
            DamagedFrame: This one cannot be read; the next call gives the one after it.
            NoFrameYet: Nothing came within the timeout, and nothing had to; read again.
            SourceError: The source failed or stalled and must be opened again.
        """
        ...

    def close(self) -> None:
        """Give back what the source holds; a second call does nothing."""
        ...

    def __enter__(self: SourceT) -> SourceT:
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
