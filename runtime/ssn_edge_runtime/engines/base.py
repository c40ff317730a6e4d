"""What an engine is: a model of a package, loaded and ready to run."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement

# Names of the graph's inputs and outputs, the contract between `export` and every engine.
PIXELS = "pixels"
"""In: (B, h, w, 3) uint8, the camera's colour order (BGR)."""
PIXEL_THRESHOLD = "pixel_threshold"
"""In: (1,) float32, a logit."""
REGION_MASK = "region_mask"
"""In: (h, w) uint8; 0 is not judged."""
CLASSIFICATION_LOGIT = "classification_logit"
"""Out: (B,) float32."""
MAP_MAX_LOGIT = "map_max_logit"
"""Out: (B,) float32, the largest map value where the region mask is set."""
ANOMALY_MAP = "anomaly_map"
"""Out: (B, h, w) float32 logits."""
DEFECT_MASK = "defect_mask"
"""Out: (B, h, w) uint8, 1 where map >= pixel threshold and the region mask is set."""


class Engine(Protocol):
    """One loaded model. A context manager; safe to call from any one thread at a time."""

    @property
    def name(self) -> str:
        """What runs, for people and records, such as ``onnxruntime-cpu``."""
        ...

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Judge one preprocessed frame.

        Args:
            pixels: (h, w, 3) uint8, C-contiguous, at the network's size.
            pixel_threshold: The logit that separates the defect mask.
            region_mask: (h, w) bool, True where it is judged; None for everywhere.

        Returns:
            Scores, map and mask; the arrays may be reused by the next call.

        Raises:
            EngineError: The engine failed.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds; a second call does nothing."""
        ...

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        ...
