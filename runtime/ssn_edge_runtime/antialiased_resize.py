"""Bilinear resize with antialiasing: what PIL and PyTorch's `antialias=True` compute.

Shrinking, a triangle as wide as the scale averages over all pixels that fall into an output pixel;
growing, it is the plain bilinear with half-pixel centres.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import ByteImage

Weights = npt.NDArray[np.float64]

_STEPS = 2.0**22
"""Weights are whole multiples of 1 / 2^22: two passes over 8-bit levels then need at most 53 bits,
so float64 is exact, and the same bytes come out whatever order a machine adds in."""
_PIXELS_AT_ONCE = 4
"""Output pixels of one matrix product: the more, the more of its weights are zero."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Some neighbouring output pixels of one axis.

    Args:
        start: The first output pixel.
        first: The first input pixel that has a weight.
        weights: (outputs, inputs), each row sums to 1.
    """

    start: int
    first: int
    weights: Weights


def resize_antialiased(image: ByteImage, size_hw: tuple[int, int]) -> ByteImage:
    """Resize with a triangle filter; the levels are rounded once, at the end, halves upwards.

    Args:
        image: (H, W) or (H, W, C) uint8, any memory layout.
        size_hw: Height and width of the result.

    Returns:
        (h, w) or (h, w, C) uint8, C-contiguous, a new array; the same bytes on every machine.

    Source:
        The filter is `torch.nn.functional.interpolate(mode="bilinear", antialias=True,
        align_corners=False)` on float input; the difference is the rounding and below 0.01 level.
    """
    height, width = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    low = np.empty((size_hw[0], width * channels), dtype=np.float64)
    for block in _blocks(height, size_hw[0]):
        count, taps = block.weights.shape
        rows = image[block.first : block.first + taps].astype(np.float64, order="C")
        np.matmul(
            block.weights,
            rows.reshape(taps, width * channels),
            out=low[block.start : block.start + count],
        )
    resized = np.empty((size_hw[0], size_hw[1] * channels), dtype=np.float64)
    for block in _interleaved_blocks(width, size_hw[1], channels):
        taps, count = block.weights.shape
        np.matmul(
            low[:, block.first : block.first + taps],
            block.weights,
            out=resized[:, block.start : block.start + count],
        )
    resized += 0.5
    return resized.astype(np.uint8).reshape(*size_hw, *image.shape[2:])


@functools.lru_cache(maxsize=8)
def _blocks(source: int, target: int) -> tuple[_Block, ...]:
    """The weights of one axis, from `source` to `target` pixels, in blocks of output pixels."""
    scale = source / target
    reach = max(scale, 1.0)
    places = np.arange(target)
    centres = scale * (places + 0.5)
    first = np.maximum((centres - reach + 0.5).astype(int), 0)
    last = np.minimum((centres + reach + 0.5).astype(int), source)
    blocks = []
    for start in range(0, target, _PIXELS_AT_ONCE):
        rows = places[start : start + _PIXELS_AT_ONCE]
        taps = np.arange(first[rows[0]], last[rows[-1]])
        distance = np.abs(taps - centres[rows, None] + 0.5) / reach
        weights = np.maximum(1 - distance, 0.0)
        steps = np.rint(weights / weights.sum(axis=1, keepdims=True) * _STEPS)
        # The rounding's remainder goes to the largest weight: an even surface keeps its level.
        steps[np.arange(len(rows)), steps.argmax(axis=1)] += _STEPS - steps.sum(axis=1)
        blocks.append(_Block(start, int(taps[0]), steps / _STEPS))
    return tuple(blocks)


@functools.lru_cache(maxsize=8)
def _interleaved_blocks(source: int, target: int, channels: int) -> tuple[_Block, ...]:
    """The same for an axis whose pixels have interleaved channels; (inputs, outputs) weights."""
    return tuple(
        _Block(
            block.start * channels,
            block.first * channels,
            np.kron(block.weights.T, np.eye(channels)),
        )
        for block in _blocks(source, target)
    )
