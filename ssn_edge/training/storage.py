"""Where cached backbone outputs lie: in memory, or in a memory-mapped file."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.errors import DatasetError, StorageError

HALF_LIMIT = 65504.0
"""The largest number in half precision."""
_MEMORY_SHARE = 0.4
_MEMORY_WHERE_UNKNOWN = 4 * 1024**3
_CGROUP = Path("/sys/fs/cgroup")

HalfArray = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """Where several processes share one cache.

    Args:
        path: The folder.
        is_mine: Whether this process makes the files in it.
        wait: Returns when every process has called it.
    """

    path: Path
    is_mine: bool
    wait: Callable[[], object]


class LayerStore:
    """Both layers of all samples in half precision.

    Args:
        count: Samples.
        layer_shapes: (C, h, w) of layer2 and of layer3.
        memory_limit_bytes: Above this the layers go to files; None for 40 % of free memory.
        shared: Where several processes share the files; None for one process.

    Raises:
        StorageError: The files would not fit the disk.
    """

    def __init__(
        self,
        count: int,
        layer_shapes: tuple[tuple[int, ...], tuple[int, ...]],
        memory_limit_bytes: int | None = None,
        *,
        shared: SharedFolder | None = None,
    ) -> None:
        shapes = [(count, *shape) for shape in layer_shapes]
        self.size_bytes = sum(2 * math.prod(shape) for shape in shapes)
        if memory_limit_bytes is None:
            memory_limit_bytes = int(free_memory_bytes() * _MEMORY_SHARE)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._shared: Path | None = None
        self._layers: tuple[HalfArray, ...]
        if shared is not None:
            if shared.is_mine:
                _check_disk(self.size_bytes, str(shared.path))
                self._layers = _mapped(str(shared.path), shapes, "w+")
            shared.wait()
            self._layers = _mapped(str(shared.path), shapes, "r+")
            self._shared = shared.path
            return
        if self.size_bytes <= memory_limit_bytes:
            self._layers = tuple(np.empty(shape, dtype=np.float16) for shape in shapes)
            return
        _check_disk(self.size_bytes, tempfile.gettempdir())
        self._folder = tempfile.TemporaryDirectory(prefix="ssn-edge-features-")
        self._layers = _mapped(self._folder.name, shapes, "w+")

    @property
    def folder(self) -> Path | None:
        """Folder of the memory-mapped files; None where all is in memory."""
        return self._shared if self._folder is None else Path(self._folder.name)

    @property
    def layers(self) -> tuple[HalfArray, ...]:
        """layer2 and layer3, (count, C, h, w)."""
        return self._layers

    def put(self, start: int, layers: tuple[npt.NDArray[np.float32], ...]) -> None:
        """Keep samples from row `start` on.

        Raises:
            DatasetError: A value is not finite or beyond half precision.
        """
        for kept, values in zip(self._layers, layers, strict=True):
            if not float(np.abs(values).max()) <= HALF_LIMIT:
                raise DatasetError(
                    "the backbone's outputs do not fit half precision (beyond 65504 or not "
                    "finite); its weights are damaged or made for another normalisation"
                )
            kept[start : start + len(values)] = values

    def close(self) -> None:
        """Give memory or files back."""
        self._layers = ()
        if self._folder is not None:
            self._folder.cleanup()


def _mapped(
    folder: str, shapes: Sequence[tuple[int, ...]], mode: Literal["r+", "w+"]
) -> tuple[HalfArray, ...]:
    return tuple(
        np.memmap(f"{folder}/layer{n}", dtype=np.float16, mode=mode, shape=shape)
        for n, shape in enumerate(shapes, start=2)
    )


def _check_disk(needed: int, folder: str) -> None:
    free = shutil.disk_usage(folder).free
    # A mapped file that outgrows its disk would kill the process without a word.
    if needed > 0.95 * free:
        raise StorageError(
            f"the cached features need {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB "
            "free; set TMPDIR to a larger disk, or use fewer pictures: --max-normal"
        )


def free_memory_bytes() -> int:
    """Memory that can still be had: of the machine, or of the container if that is less."""
    return min(_free_of_machine(), _free_of_container())


def _free_of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _MEMORY_WHERE_UNKNOWN
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else _MEMORY_WHERE_UNKNOWN


def _free_of_container(cgroup: Path = _CGROUP) -> int:
    try:
        most = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return 1 << 62
    return max(0, most - used)
