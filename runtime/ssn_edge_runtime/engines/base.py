"""What an engine is: a model of a package, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

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


BATCH = "B"
"""Name of the free dimension; an engine fixes it when it loads, so that batch 1 loses nothing."""


@dataclass(frozen=True, slots=True)
class ModelToRun:
    """One model of a package, and how it is to run: all that an engine is made of.

    Args:
        onnx: The ONNX file's bytes.
        sha256: Their SHA-256, in hexadecimal.
        precision: A name of the manifest's `precisions`.
        input_size_hw: Height and width of the network's input.
        batch_size: Frames judged at once.
        threads: Of a CPU engine, within one operator; 0 lets the engine choose.
    """

    onnx: bytes
    sha256: str
    precision: str
    input_size_hw: tuple[int, int]
    batch_size: int = 1
    threads: int = 0


class Engine(Protocol):
    """One loaded model. A context manager; any thread may call it, one at a time."""

    @property
    def name(self) -> str:
        """What runs, for people and records, such as ``onnxruntime-cpu``."""
        ...

    @property
    def identity(self) -> str:
        """SHA-256 of the file that runs: the plan where there is one, else the ONNX entry."""
        ...

    @property
    def batch_size(self) -> int:
        """How many frames `infer_batch` takes; fixed when the engine was loaded."""
        ...

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Judge one preprocessed frame; of an engine of batch size 1.

        Args:
            pixels: (h, w, 3) uint8, C-contiguous, at the network's size.
            pixel_threshold: The logit that separates the defect mask.
            region_mask: (h, w) bool, True where it is judged; None for everywhere.

        Returns:
            Scores, map and mask; the arrays may be reused by the next call.

        Raises:
            EngineError: The engine failed, is closed, or takes more than one frame at once.
        """
        ...

    def infer_batch(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> tuple[Judgement, ...]:
        """Judge as many preprocessed frames at once as the engine was loaded for.

        Args:
            pixels: (batch_size, h, w, 3) uint8, C-contiguous, at the network's size.
            pixel_threshold: The logit that separates the defect masks.
            region_mask: (h, w) bool, one for all; None for everywhere.

        Returns:
            One judgement for each frame, in order; the arrays may be reused by the next call.

        Raises:
            EngineError: The engine failed, is closed, or another number of frames was given.
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


@runtime_checkable
class StageTimings(Protocol):
    """An engine that can tell where the time of its last call went; for the benchmark."""

    @property
    def last_stage_ms(self) -> Mapping[str, float]:
        """Milliseconds of ``copy_in``, ``infer`` and ``copy_out``; empty before the first call."""
        ...
