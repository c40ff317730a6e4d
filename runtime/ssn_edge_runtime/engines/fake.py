"""An engine that says what it is told to: for tests, and for integrators without a model."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement
from ssn_edge_runtime.errors import EngineError

BACKGROUND_DISTANCE = 4.0
"""How far a scripted map lies below its score outside of its one defect, in logits."""


class FakeEngine:
    """Plays a script, frame by frame, and begins again at its end.

    Args:
        script: For each frame a score, a whole judgement, or an exception to raise. A score is both
            logits; its map shows it in a square of a quarter of the sides in the middle, and lies
            `BACKGROUND_DISTANCE` below it elsewhere.
        input_size_hw: Height and width of the maps that scores are given.
        name: What the engine calls itself.
        batch_size: How many frames `infer_batch` takes; each is a step of the script.
        identity: What stands for the file that runs.
    """

    def __init__(
        self,
        script: Sequence[float | Judgement | Exception] = (0.0,),
        *,
        input_size_hw: tuple[int, int],
        name: str = "fake",
        batch_size: int = 1,
        identity: str = "0" * 64,
    ) -> None:
        if not script:
            raise ValueError("a script needs at least one step")
        self._script = tuple(script)
        self._size = input_size_hw
        self._name = name
        self._batch_size = batch_size
        self._identity = identity
        self.calls = 0
        self.is_closed = False

    @property
    def name(self) -> str:
        """What it was called."""
        return self._name

    @property
    def identity(self) -> str:
        """What it was given."""
        return self._identity

    @property
    def batch_size(self) -> int:
        """What it was given."""
        return self._batch_size

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Play the next step of the script; the pixels are not looked at."""
        (judgement,) = self.infer_batch(
            pixels[None], pixel_threshold=pixel_threshold, region_mask=region_mask
        )
        return judgement

    def infer_batch(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> tuple[Judgement, ...]:
        """Play as many steps as there are frames."""
        if len(pixels) != self._batch_size:
            raise EngineError(f"engine {self._name} takes {self._batch_size} frames at once")
        return tuple(self._step(pixel_threshold, region_mask) for _ in range(self._batch_size))

    def _step(self, pixel_threshold: float, region_mask: BoolMask | None) -> Judgement:
        if self.is_closed:
            raise EngineError(f"engine {self._name} is closed")
        step = self._script[self.calls % len(self._script)]
        self.calls += 1
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Judgement):
            return step
        return self._judgement(step, pixel_threshold, region_mask)

    def close(self) -> None:
        """End the play; a second call does nothing."""
        self.is_closed = True

    def __enter__(self) -> FakeEngine:
        """Return the engine itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _judgement(
        self, score: float, pixel_threshold: float, region_mask: BoolMask | None
    ) -> Judgement:
        height, width = self._size
        anomaly_map = np.full(self._size, score - BACKGROUND_DISTANCE, dtype=np.float32)
        anomaly_map[
            height * 3 // 8 : max(height * 5 // 8, 1), width * 3 // 8 : max(width * 5 // 8, 1)
        ] = score
        judged = np.ones(self._size, dtype=np.bool_) if region_mask is None else region_mask
        return Judgement(
            classification_logit=score,
            map_max_logit=float(anomaly_map[judged].max()),
            anomaly_map=anomaly_map,
            defect_mask=((anomaly_map >= np.float32(pixel_threshold)) & judged).astype(np.uint8),
        )
