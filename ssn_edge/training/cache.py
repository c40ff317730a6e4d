"""Backbone outputs of the training pictures, computed once.

The backbone is frozen and normal pictures are not augmented, so its outputs never change. They
are kept at their native size, in half precision, in memory or in a memory-mapped file where they
are too large for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.storage import HalfArray, LayerStore, SharedFolder
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
        processes: Those that share the cache; each computes its part of it.
        shared: Where they share it; None for one process.
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
        processes: Processes = ALONE,
        shared: SharedFolder | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._geometry = geometry
        self._mask_rule = mask_rule
        self._dilate = dilate
        self._weighted = weighted
        self._processes = processes
        self._store: LayerStore | None = None
        self._tensors: tuple[Tensor, ...] = ()
        self._samples = [
            _Sample(item, flip)
            for item in items
            for flip in (FLIPS if flips and item.label else FLIPS[:1])
        ]
        try:
            self._prepare(net, memory_limit_bytes, shared)
            self._fill(net, device, batch_size, on_progress)
            self._exchange()
            self._tensors = _near(self._layers.layers, device)
        except BaseException:
            self.close()
            raise

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
        self.close()

    def close(self) -> None:
        """Give the memory or the file back; the cache cannot be used after."""
        self._tensors = ()
        if self._store is not None:
            self._store.close()

    @property
    def normals(self) -> npt.NDArray[np.int64]:
        """Rows of normal samples."""
        return np.flatnonzero(~self._label)

    @property
    def anomalous(self) -> npt.NDArray[np.int64]:
        """Rows of anomalous samples, flipped versions included."""
        return np.flatnonzero(self._label)

    @property
    def _layers(self) -> LayerStore:
        if self._store is None:
            raise RuntimeError("the cache is empty")
        return self._store

    @property
    def size_bytes(self) -> int:
        """Size of the cached backbone outputs."""
        return self._layers.size_bytes

    def describe(self) -> str:
        """One line: what is cached, how large it is and where."""
        words = [f"{len(self.normals)} normal", f"{len(self.anomalous)} defective"]
        if any(sample.flip for sample in self._samples):
            words.append("four flips of each defective one")
        if unknown := int((~self._known).sum()):
            words.append(f"{unknown} of them without known defect pixels")
        folder = self._layers.folder
        where = "in memory" if folder is None else f"memory-mapped in {folder}"
        return (
            f"cached the backbone's outputs of {len(self._samples)} samples "
            f"({', '.join(words)}) in half precision: {self.size_bytes / 1e6:.1f} MB {where}"
        )

    def batch(self, rows: npt.NDArray[np.int64], device: torch.device) -> Batch:
        """Samples by row, on a device; a copy."""

        def take(array: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array[rows])).to(device)

        def layer(kept: Tensor) -> Tensor:
            return kept[torch.from_numpy(rows).to(kept.device)].to(device).float()

        layer2, layer3 = self._tensors
        return Batch(
            layer2=layer(layer2),
            layer3=layer(layer3),
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

    def _prepare(
        self, net: SuperSimpleNet, memory_limit_bytes: int | None, shared: SharedFolder | None
    ) -> None:
        count = len(self._samples)
        if count == 0:
            raise DatasetError("there are no training pictures; check the data set's layout")
        shapes = net.backbone.layer_shapes(self._geometry.input_size_hw)
        self._grid_hw = (2 * shapes[0][1], 2 * shapes[0][2])
        self._store = LayerStore(count, shapes, memory_limit_bytes, shared=shared)
        self._mask = np.zeros((count, *self._grid_hw), dtype=np.bool_)
        self._weight = np.ones((count, *self._grid_hw), dtype=np.float16)
        self._known = np.zeros(count, dtype=np.bool_)
        self._label = np.array([sample.item.is_anomalous for sample in self._samples])

    def _fill(
        self,
        net: SuperSimpleNet,
        device: torch.device,
        batch_size: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        mine = self._processes.share(len(self._samples))
        done = mine.start
        for pixels, targets in self._batches(net, batch_size):
            image = normalise(torch.from_numpy(pixels).to(device), net.backbone.normalisation)
            with torch.no_grad():
                layer2, layer3 = (layer.float().cpu().numpy() for layer in net.backbone(image))
            self._layers.put(done, (layer2, layer3))
            for row, target in enumerate(targets, start=done):
                self._mask[row] = target.mask
                self._weight[row] = target.weight
                self._known[row] = target.known
            done += len(targets)
            if on_progress is not None:
                on_progress(done - mine.start, mine.stop - mine.start)

    def _exchange(self) -> None:
        """Get the other processes' targets; their layers are in the shared files."""
        mine = self._processes.share(len(self._samples))
        parts = self._processes.gather((self._mask[mine], self._weight[mine], self._known[mine]))
        for kept, part in zip(
            (self._mask, self._weight, self._known), zip(*parts, strict=True), strict=True
        ):
            kept[:] = np.concatenate(part)

    def _batches(
        self, net: SuperSimpleNet, batch_size: int
    ) -> Iterator[tuple[npt.NDArray[np.uint8], list[Target]]]:
        mine = self._samples[self._processes.share(len(self._samples))]
        for start in range(0, len(mine), batch_size):
            pixels, targets = [], []
            for sample in mine[start : start + batch_size]:
                each, target = self._load(sample, self._grid_hw, net.architecture.align_corners)
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


def _near(layers: tuple[HalfArray, ...], device: torch.device) -> tuple[Tensor, ...]:
    """The layers as tensors, on a GPU where they take at most 40 % of its free memory."""
    tensors = tuple(torch.from_numpy(layer) for layer in layers)
    if device.type != "cuda":
        return tensors
    free, _ = torch.cuda.mem_get_info(device)
    if sum(layer.nbytes for layer in layers) > 0.4 * free:
        return tensors
    return tuple(tensor.to(device) for tensor in tensors)
