"""Backbone outputs of the training pictures, computed once.

The backbone is frozen and normal pictures are not augmented, so its outputs never change. They
are kept at their native size, in half precision, in memory or in a memory-mapped file where they
are too large for it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssn_edge.data.items import Item
from ssn_edge.data.loading import load_item
from ssn_edge.data.masks import MaskRule
from ssn_edge.model.backbone import normalise
from ssn_edge.model.features import FeatureBuilder
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.targets import (
    Target,
    blank_target,
    dilate_mask,
    target_from_mask,
    whole_region,
)
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.preprocess import FrameError, Geometry, preprocess

FLIPS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 1))
"""Axes that each version of an anomalous picture is flipped along."""
_HALF_LIMIT = 65504.0
_MEMORY_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples as the heads' training needs them; B samples on the training device.

    Args:
        layer2: (B, C2, h2, w2) float32.
        layer3: (B, C3, h3, w3) float32.
        mask: (B, h, w) bool.
        weight: (B, h, w) float32.
        known: (B,) bool, whether pixel truth is known.
        label: (B,) bool.
    """

    layer2: Tensor
    layer3: Tensor
    mask: Tensor
    weight: Tensor
    known: Tensor
    label: Tensor


@dataclass(frozen=True, slots=True)
class _Sample:
    item: Item
    flip: tuple[int, ...]


class FeatureCache:
    """Cached backbone outputs and targets of the training part; a context manager.

    Args:
        items: The training part.
        net: Gives backbone, grid and corner mode.
        geometry: From camera to network pixels.
        mask_rule: How mask values are read.
        flips: Whether anomalous pictures come in four versions.
        dilate: Whether real masks are grown.
        weighted: Whether real masks are weighted by distance.
        device: Where the backbone runs.
        batch_size: Pictures at a time.
        memory_limit_bytes: Above this the cache goes to a file; None for 40 % of free memory.
        on_progress: Called with pictures done and in all.
    """

    def __init__(
        self,
        items: Sequence[Item],
        net: SuperSimpleNet,
        *,
        geometry: Geometry,
        mask_rule: MaskRule,
        flips: bool,
        dilate: bool,
        weighted: bool,
        device: torch.device,
        batch_size: int = 16,
        memory_limit_bytes: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._geometry = geometry
        self._mask_rule = mask_rule
        self._dilate = dilate
        self._weighted = weighted
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._samples = [
            _Sample(item, flip)
            for item in items
            for flip in (FLIPS if flips and item.label else FLIPS[:1])
        ]
        self._fill(net, device, batch_size, memory_limit_bytes, on_progress)

    def __enter__(self) -> FeatureCache:
        """Return the cache itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the memory or the file back."""
        del self._layer2, self._layer3
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def normals(self) -> npt.NDArray[np.int64]:
        """Rows of normal samples."""
        return np.flatnonzero(~self._label)

    @property
    def anomalous(self) -> npt.NDArray[np.int64]:
        """Rows of anomalous samples, flipped versions included."""
        return np.flatnonzero(self._label)

    @property
    def size_bytes(self) -> int:
        """Size of the cached backbone outputs."""
        return int(self._layer2.nbytes + self._layer3.nbytes)

    def describe(self) -> str:
        """One line: what is cached, how large it is and where."""
        flips = ", four flips of each defective one" if any(s.flip for s in self._samples) else ""
        where = "in memory" if self._folder is None else f"memory-mapped in {self._folder.name}"
        return (
            f"cached the backbone's outputs of {len(self._samples)} samples "
            f"({len(self.normals)} normal, {len(self.anomalous)} defective{flips}) in half "
            f"precision: {self.size_bytes / 1e6:.1f} MB {where}"
        )

    def batch(self, rows: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """Samples by row, on a device; a copy."""

        def take(array: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)

        return Batch(
            layer2=take(self._layer2).float(),
            layer3=take(self._layer3).float(),
            mask=take(self._mask),
            weight=take(self._weight).float(),
            known=take(self._known),
            label=take(self._label),
        )

    def feature_statistics(
        self, features: FeatureBuilder, device: torch.device, *, most: int = 256
    ) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each feature channel over normal pictures, before standardisation.

        Args:
            features: The net's.
            device: Where to compute.
            most: Pictures looked at, evenly spaced.

        Returns:
            Two (C,) float32 tensors.
        """
        normals = self.normals
        chosen = normals[np.linspace(0, len(normals) - 1, min(most, len(normals))).astype(int)]
        count = 0
        total = square = torch.zeros(1, dtype=torch.float64)
        for start in range(0, len(chosen), 16):
            batch = self.batch(chosen[start : start + 16], device)
            with torch.no_grad():
                feature = features.pooled(batch.layer2, batch.layer3).double().cpu()
            count += feature.shape[0] * feature.shape[2] * feature.shape[3]
            total = total + feature.sum(dim=(0, 2, 3))
            square = square + feature.square().sum(dim=(0, 2, 3))
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0.0)
        return mean.float(), variance.sqrt().float()

    def _fill(
        self,
        net: SuperSimpleNet,
        device: torch.device,
        batch_size: int,
        memory_limit_bytes: int | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        count = len(self._samples)
        if count == 0:
            raise DatasetError("there are no training pictures; check the data set's layout")
        done = 0
        for pixels, targets in self._batches(net, batch_size):
            image = normalise(torch.from_numpy(pixels).to(device), net.backbone.normalisation)
            with torch.no_grad():
                layer2, layer3 = (layer.float().cpu().numpy() for layer in net.backbone(image))
            if done == 0:
                self._allocate(layer2.shape, layer3.shape, memory_limit_bytes)
            self._store(self._layer2, layer2, done)
            self._store(self._layer3, layer3, done)
            for offset, target in enumerate(targets):
                row = done + offset
                self._mask[row] = target.mask
                self._weight[row] = target.weight
                self._known[row] = target.known
                self._label[row] = bool(self._samples[row].item.label)
            done += len(targets)
            if on_progress is not None:
                on_progress(done, count)

    def _batches(
        self, net: SuperSimpleNet, batch_size: int
    ) -> Iterator[tuple[npt.NDArray[np.uint8], list[Target]]]:
        grid_hw = _grid_hw(net, self._geometry)
        for start in range(0, len(self._samples), batch_size):
            pixels, targets = [], []
            for sample in self._samples[start : start + batch_size]:
                each, target = self._load(sample, grid_hw, net.architecture.align_corners)
                pixels.append(each)
                targets.append(target)
            yield np.stack(pixels), targets

    def _load(
        self, sample: _Sample, grid_hw: tuple[int, int], align_corners: bool
    ) -> tuple[ByteImage, Target]:
        loaded = load_item(sample.item, self._mask_rule)
        frame, mask = loaded.image, loaded.gt_mask
        if mask is not None and mask.any() and self._dilate:
            mask = dilate_mask(mask)
        frame_size_hw = (frame.shape[0], frame.shape[1])
        try:
            x, y, width, height = self._geometry.region_xywh(frame_size_hw)
        except FrameError as error:
            raise DatasetError(f"{sample.item.image}: {error}") from error
        # Crop before flipping: the region of interest is one of the camera, not of the part.
        region = np.flip(frame[y : y + height, x : x + width], sample.flip)
        whole = whole_region(self._geometry)
        pixels = preprocess(np.ascontiguousarray(region), whole)
        if mask is not None:
            mask = np.ascontiguousarray(np.flip(mask[y : y + height, x : x + width], sample.flip))
        if mask is None or not mask.any():
            return pixels, blank_target(grid_hw, known=not sample.item.label)
        return pixels, target_from_mask(
            mask,
            geometry=whole,
            grid_hw=grid_hw,
            align_corners=align_corners,
            weighted=self._weighted,
        )

    def _allocate(
        self, shape2: tuple[int, ...], shape3: tuple[int, ...], limit_bytes: int | None
    ) -> None:
        count = len(self._samples)
        needed = 2 * count * (int(np.prod(shape2[1:])) + int(np.prod(shape3[1:])))
        limit = _free_memory_bytes() * _MEMORY_SHARE if limit_bytes is None else limit_bytes
        if needed > limit:
            self._folder = tempfile.TemporaryDirectory(prefix="ssn-edge-features-")
        self._layer2 = self._array("layer2", (count, *shape2[1:]))
        self._layer3 = self._array("layer3", (count, *shape3[1:]))
        grid_hw = (2 * shape2[2], 2 * shape2[3])
        self._mask = np.zeros((count, *grid_hw), dtype=np.bool_)
        self._weight = np.ones((count, *grid_hw), dtype=np.float16)
        self._known = np.zeros(count, dtype=np.bool_)
        self._label = np.zeros(count, dtype=np.bool_)

    def _array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
        if self._folder is None:
            return np.empty(shape, dtype=np.float16)
        return np.memmap(Path(self._folder.name) / name, dtype=np.float16, mode="w+", shape=shape)

    @staticmethod
    def _store(
        target: npt.NDArray[np.float16], values: npt.NDArray[np.float32], start: int
    ) -> None:
        if not float(np.abs(values).max()) <= _HALF_LIMIT:
            raise DatasetError(
                "the backbone's outputs do not fit half precision (beyond 65504 or not finite); "
                "its weights are damaged or made for another normalisation"
            )
        target[start : start + len(values)] = values


def _grid_hw(net: SuperSimpleNet, geometry: Geometry) -> tuple[int, int]:
    height, width = geometry.input_size_hw
    device = next(net.parameters()).device
    with torch.no_grad():
        layer2, _ = net.backbone(torch.zeros((1, 3, height, width), device=device))
    return 2 * layer2.shape[2], 2 * layer2.shape[3]


def _free_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 * 1024**3
