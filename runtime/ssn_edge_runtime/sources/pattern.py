"""A camera that is none: a moving pattern with noise, with faults on request."""

from __future__ import annotations

from time import monotonic_ns, sleep

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, Source
from ssn_edge_runtime.sources.options import FaultKind, SourceOptions

DEFAULT_WIDTH = 640
DEFAULT_HEIGHT = 480
DEFAULT_FPS = 25.0
BUFFERS = 4
"""Frames that wait to be fetched, as a driver keeps them; of more, the oldest are lost."""
MARGIN_PX = 64
"""How far the pattern moves before it comes back."""
DIM_SHARE = 0.9
"""What is left of the light of a dim frame."""
STALE_S = 10.0
"""How long before its time a stale frame was exposed."""
NEVER_S = 3600.0


class TestPatternSource(Source):
    """Frames at a rate, each different from the one before: stripes that drift, with noise.

    It keeps a camera's manners: exposed by its own clock, into few buffers, so that a frame that is
    not fetched in time is lost and shows as a gap in `frame_id`.

    Faults begin with the frame they name: ``frozen`` repeats the pixels before; ``still`` differs
    from them in a few pixels only; ``black``; ``incomplete``; ``size`` is half as high; ``stale``
    was exposed 10 s early; ``gap`` loses a frame; ``damaged`` cannot be read; ``stall`` never
    comes; ``lost`` fails as a cable that came loose, and the source opens again; ``dim`` has nine
    tenths of the light.

    Args:
        options: Width, height, format (``bgr`` or ``mono``), fps, frames, defect_every, seed,
            faults.
    """

    __test__ = False  # not a test, whatever its name
    name = "test pattern"
    is_live = True
    tells_exposure = True

    def __init__(self, options: SourceOptions = SourceOptions()) -> None:  # noqa: B008 - frozen
        self._options = options
        self._height = options.height or DEFAULT_HEIGHT
        self._width = options.width or DEFAULT_WIDTH
        self._period_ns = int(1e9 / (options.fps or DEFAULT_FPS))
        self._canvas: ByteImage | None = None
        self._last: ByteImage | None = None
        self._opened_ns = 0
        self._index = 0
        self._frame_id = -1
        self._lost_ids = 0
        self._told: set[int] = set()

    def open(self) -> None:
        """Make the pattern; the frame index goes on where it was."""
        if self._canvas is None:
            self._canvas = self._make_canvas()
        self._opened_ns = monotonic_ns()
        self._frame_id = -1
        self._lost_ids = 0

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame; None after the last one, where a number was asked for.

        Raises:
            DamagedFrame: On request.
            SourceError: Not open; on request; or the frame comes later than the timeout.
        """
        if self._canvas is None:
            raise SourceError(f"{self.name}: is not open")
        index = self._index
        if self._options.frames is not None and index >= self._options.frames:
            return None
        kinds = {fault.kind for fault in self._options.faults if fault.covers(index)}
        if FaultKind.LOST in kinds and index not in self._told:
            self._told.add(index)
            raise SourceError(f"{self.name}: was lost at frame {index}, as asked for")
        exposed_ns = self._wait(NEVER_S if FaultKind.STALL in kinds else 0.0, timeout_s, index)
        self._index += 1
        if FaultKind.GAP in kinds:
            self._lost_ids += 1
        if FaultKind.DAMAGED in kinds:
            self._lost_ids -= 1  # it was told of: nothing is missing beside it
            raise DamagedFrame(f"{self.name}: frame {index} is damaged, as asked for", index=index)
        image = self._draw(index, kinds)
        self._last = image
        return Frame.taken_now(
            image,
            source=self.name,
            index=index,
            exposed_monotonic_ns=exposed_ns - int(STALE_S * 1e9) * (FaultKind.STALE in kinds),
            frame_id=self._frame_id + self._lost_ids,
            is_incomplete=FaultKind.INCOMPLETE in kinds,
        )

    def close(self) -> None:
        """Drop the pattern."""
        self._canvas = None

    def _wait(self, late_s: float, timeout_s: float, index: int) -> int:
        """Wait for an exposure; returns its moment."""
        now_ns = monotonic_ns()
        newest = (now_ns - self._opened_ns) // self._period_ns
        frame_id = max(newest - BUFFERS + 1, self._frame_id + 1)
        exposed_ns = self._opened_ns + frame_id * self._period_ns
        wait_s = max(0.0, (exposed_ns - now_ns) / 1e9) + late_s
        if wait_s > timeout_s:
            sleep(timeout_s)
            if late_s:
                self._index += 1  # after a reopening, the stall is over
            raise SourceError(f"{self.name}: stalled, no frame {index} within {timeout_s:.1f} s")
        sleep(wait_s)
        self._frame_id = frame_id
        return exposed_ns

    def _make_canvas(self) -> ByteImage:
        random = np.random.default_rng(self._options.seed)
        shape = (self._height + MARGIN_PX, self._width + MARGIN_PX)
        if self._options.format != "mono":
            shape = (*shape, 3)  # type: ignore[assignment]
        canvas = random.normal(110.0, 6.0, shape).astype(np.float32)
        stripes = 25.0 * np.sin(np.arange(shape[1], dtype=np.float32) / 9.0)
        canvas += stripes[:, None] if len(shape) == 3 else stripes
        pixels: ByteImage = np.clip(canvas, 0, 255).astype(np.uint8)
        return pixels

    def _draw(self, index: int, kinds: set[FaultKind]) -> ByteImage:
        assert self._canvas is not None
        if kinds & {FaultKind.FROZEN, FaultKind.STILL} and self._last is not None:
            repeat: ByteImage = self._last.copy()
            if FaultKind.STILL in kinds:
                repeat[index % len(repeat), :8] ^= 1
            return repeat
        # A step to the right and another one down: two frames in a row are never the same.
        left, top = index % MARGIN_PX, index // MARGIN_PX % MARGIN_PX
        height = self._height // 2 if FaultKind.SIZE in kinds else self._height
        image: ByteImage = self._canvas[top : top + height, left : left + self._width].copy()
        if FaultKind.BLACK in kinds:
            image[:] = 0
            image.reshape(-1)[index % image.size] = 1  # a dead camera is not frozen to the bit
        if FaultKind.DIM in kinds:
            image = (image * np.float32(DIM_SHARE)).astype(np.uint8)
        every = self._options.defect_every
        if every is not None and (index + 1) % every == 0:
            size = max(4, min(self._height, self._width) // 12)
            image[height // 3 : height // 3 + size, self._width // 3 : self._width // 3 + size] = (
                255
            )
        return image
