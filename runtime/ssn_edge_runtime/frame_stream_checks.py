"""Is this a new, whole frame of the part at hand? What a frame's neighbours and clocks tell.

`frame_checks.py` looks at one picture; here, frames are compared with those before them and with
the trigger. All of it is cheap: about 20 microseconds a frame that differs, whatever its size. Each
check's bound is measured in `tests/runtime/line/test_frame_stream_checks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sources.base import Frame, Source

STILL_FRAMES = 10
STILL_LEVELS = 0.1
"""Mean change of a pixel, in 8-bit levels. Noise of 0.3 levels changes a pixel by 0.18 on average;
a sensor has more, but where all is black, saturated, or smoothed over time by the camera."""
_CLIPPED_LEVELS = 8
"""A clock or frame number that is drawn into the picture must not hide that the rest stands."""
_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class StreamFault:
    """What is wrong with a frame.

    Args:
        reason: `bad_frame`, `frame_size`, `frozen_frame`, `stale_frame` or `missed_trigger`.
        detail: One line for a person.
        missed: With `missed_trigger`: how many frames were lost before this one.
    """

    reason: Reason
    detail: str
    missed: int = 0


class FrameStreamChecks:
    """Looks at each frame of a source, in order. Keeps the last frame's pixels, without a copy.

    Args:
        compares_pixels: Whether frames with the same pixels are a fault: with cameras, but not
            with recordings, whose pictures may well be the same.
        still_frames: After so many frames in a row that hardly differ, the picture stands still;
            None switches it off, as for a pattern or a scene that may stand still without noise.
        still_levels: Mean change of a pixel below which two frames hardly differ, in levels.
        oldest_ms: How long ago a frame may have been exposed when it is handed over; None for any.
        early_ms: By how much this source may tell exposures too early, as GenICam cameras on a
            hardware trigger do; parts must then be further apart than this.
    """

    def __init__(
        self,
        *,
        compares_pixels: bool = True,
        still_frames: int | None = STILL_FRAMES,
        still_levels: float = STILL_LEVELS,
        oldest_ms: float | None = None,
        early_ms: float = 0.0,
    ) -> None:
        if still_frames is not None and still_frames < 2:
            raise ConfigError(
                f"a picture stands still after 2 frames or more, not after {still_frames}"
            )
        if not 0 < still_levels < _CLIPPED_LEVELS or (oldest_ms is not None and not oldest_ms > 0):
            raise ConfigError(
                f"still_levels is {still_levels} and oldest_ms {oldest_ms}; a change from 0 to "
                f"{_CLIPPED_LEVELS} levels and an age above 0 are wanted"
            )
        self._compares_pixels = compares_pixels
        self._still_frames = still_frames
        self._still_levels = still_levels
        self._oldest_ms = oldest_ms
        self._early_ns = int(early_ms * 1e6)
        self._shape: tuple[int, ...] | None = None
        self._last_image: ByteImage | None = None
        self._last_sample: ByteImage | None = None
        self._last_frame_id: int | None = None
        self._last_exposed_ns: int | None = None
        self._still_for = 1
        self.missed = 0
        """Frames lost before they reached us, by the gaps of the camera's counter."""

    @classmethod
    def for_source(cls, source: Source) -> FrameStreamChecks:
        """The checks that fit a source: a recording's pictures may be the same."""
        return cls(compares_pixels=source.is_live)

    def reopened(self) -> None:
        """Tell that the camera was opened again: its counter and clock may begin anew.

        Size, number of channels and pixels must still be what they were before.
        """
        self._last_frame_id = None
        self._last_exposed_ns = None

    def check(self, frame: Frame, *, triggered_ns: int | None = None) -> StreamFault | None:
        """Look at the next frame; the gravest fault is told.

        Args:
            frame: The next one of the source.
            triggered_ns: When the trigger that it shall belong to came, on the monotonic clock;
                None for a camera that runs freely. Without a trigger a gap is only counted.

        Returns:
            The fault, or None: the frame may be judged.
        """
        # Every look has its memory, so all of them look, whatever the first one finds.
        faults = (
            self._incomplete(frame),
            self._changed_size(frame),
            self._repeated(frame),
            self._stale(frame, triggered_ns),
            self._gap(frame, is_triggered=triggered_ns is not None),
        )
        return next((fault for fault in faults if fault is not None), None)

    def _incomplete(self, frame: Frame) -> StreamFault | None:
        if not frame.is_incomplete:
            return None
        return StreamFault(Reason.BAD_FRAME, "the camera gave a frame that is not complete")

    def _changed_size(self, frame: Frame) -> StreamFault | None:
        if not self._compares_pixels:
            return None
        if self._shape is None:
            self._shape = frame.image.shape
        if frame.image.shape == self._shape:
            return None
        return StreamFault(
            Reason.FRAME_SIZE,
            f"the camera gives {_shape_text(frame.image.shape)} now, "
            f"it began with {_shape_text(self._shape)}",
        )

    def _repeated(self, frame: Frame) -> StreamFault | None:
        if not self._compares_pixels:
            return None
        image, sample = frame.image, _sample(frame.image)
        last_image, last_sample = self._last_image, self._last_sample
        self._last_image, self._last_sample = image, sample
        if last_image is None or last_sample is None or last_image.shape != image.shape:
            self._still_for = 1
            return None
        change = np.abs(np.subtract(sample, last_sample, dtype=np.int16))
        levels = float(np.minimum(change, _CLIPPED_LEVELS).mean())
        self._still_for = self._still_for + 1 if levels < self._still_levels else 1
        # The sample answers for nearly all frames; only where it is the same, all pixels must.
        if levels == 0 and np.array_equal(image, last_image):
            return StreamFault(
                Reason.FROZEN_FRAME, "the camera repeats the frame before, bit by bit"
            )
        if self._still_frames is not None and self._still_for >= self._still_frames:
            return StreamFault(
                Reason.FROZEN_FRAME,
                f"the picture stands still: {self._still_for} frames in a row differ by less than "
                f"{self._still_levels:g} levels, the last one by {levels:.3f}",
            )
        return None

    def _stale(self, frame: Frame, triggered_ns: int | None) -> StreamFault | None:
        exposed_ns, last_ns = frame.exposed_monotonic_ns, self._last_exposed_ns
        if exposed_ns is None:
            if triggered_ns is None:
                return None
            return StreamFault(Reason.STALE_FRAME, "the source does not tell when it was exposed")
        self._last_exposed_ns = exposed_ns if last_ns is None else max(exposed_ns, last_ns)
        if triggered_ns is not None and exposed_ns + self._early_ns < triggered_ns:
            early_ms = (triggered_ns - exposed_ns) / 1e6
            return StreamFault(
                Reason.STALE_FRAME, f"was exposed {early_ms:.1f} ms before its trigger"
            )
        # The counter tells it better where there is one: an exposure is a bound, and on a camera's
        # first frames that bound may move back.
        if frame.frame_id is None and last_ns is not None and exposed_ns <= last_ns:
            return StreamFault(Reason.STALE_FRAME, "was not exposed later than the frame before it")
        age_ms = (frame.captured_monotonic_ns - exposed_ns) / 1e6
        if self._oldest_ms is not None and age_ms > self._oldest_ms:
            return StreamFault(
                Reason.STALE_FRAME,
                f"was exposed {age_ms:.0f} ms ago, {self._oldest_ms:.0f} ms is the limit",
            )
        return None

    def _gap(self, frame: Frame, *, is_triggered: bool) -> StreamFault | None:
        frame_id, last = frame.frame_id, self._last_frame_id
        if frame_id is None:
            return None
        self._last_frame_id = frame_id
        if last is None:
            return None
        if frame_id <= last:
            return StreamFault(
                Reason.STALE_FRAME, f"the camera gives frame {frame_id} after frame {last}"
            )
        missed = frame_id - last - 1
        self.missed += missed
        if not missed or not is_triggered:
            return None
        return StreamFault(
            Reason.MISSED_TRIGGER,
            f"{missed} frames between {last} and {frame_id} were lost on the way",
            missed,
        )


def _sample(image: ByteImage) -> ByteImage:
    """Some 4096 pixels on a grid, of the middle channel, as a copy of their own."""
    plane = image if image.ndim == 2 else image[:, :, image.shape[2] // 2]
    step = max(1, int((plane.size / _SAMPLES) ** 0.5))
    sample: ByteImage = plane[step // 2 :: step, step // 2 :: step].copy()
    return sample


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
