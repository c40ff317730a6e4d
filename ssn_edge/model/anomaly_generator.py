"""Synthetic anomalies in feature space: Perlin-shaped regions of Gaussian noise; training only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssn_edge.model.keyed_random import keys_from, normal, uniform

_SCALE_EXPONENTS = 6
"""Lattice scales are 1, 2, 4, 8, 16, 32."""
_LARGEST_SCALE = 2 ** (_SCALE_EXPONENTS - 1)
EMPTY_PROBABILITY = 0.5

# What a sample's random numbers are for: each use has keys of its own.
_ANGLES, _SCALES, _COIN, _NOISE = range(4)


def sample_keys(seed: int, step: int, positions: Tensor) -> Tensor:
    """Keys of a doubled batch's samples.

    They depend on a sample's place in the whole batch, not on the process that has it.

    Args:
        seed: Of the run.
        step: Counted from 0.
        positions: (B,) int64, places in the whole batch, on the device where numbers are wanted.

    Returns:
        (2B,) int64: first copies, then second copies.
    """
    return torch.cat([keys_from(seed, step, 2 * positions + copy) for copy in (0, 1)])


def perlin_noise(keys: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Gradient noise, one field a sample, all samples at once.

    Each field has its own lattice scales for rows and columns. It is drawn on a canvas of the next
    powers of two and resized bilinearly.

    Args:
        keys: (N,) int64, of `sample_keys`, on the device where the fields are wanted.
        size_hw: Height and width of a field.

    Returns:
        (N, h, w) float32, roughly in [-1, 1].
    """
    device = keys.device
    canvas = tuple(2 ** math.ceil(math.log2(side)) for side in size_hw)
    exponents = (uniform(keys_from(_SCALES, keys), 2) * _SCALE_EXPONENTS).floor()
    scales = torch.pow(2.0, exponents)  # (N, 2)
    lattice = _LARGEST_SCALE + 1
    angles = uniform(keys_from(_ANGLES, keys), lattice * lattice) * (2 * math.pi)
    gradient_y, gradient_x = torch.sin(angles), torch.cos(angles)

    # Position of each canvas row and column in its sample's lattice.
    rows = torch.arange(canvas[0], device=device)[None] * (scales[:, :1] / canvas[0])
    columns = torch.arange(canvas[1], device=device)[None] * (scales[:, 1:] / canvas[1])
    row, column = rows.long(), columns.long()
    dy, dx = rows - row, columns - column  # (N, canvas h), (N, canvas w)

    def corner(down: int, right: int) -> Tensor:
        index = (row + down)[:, :, None] * lattice + (column + right)[:, None, :]
        flat = index.flatten(1)
        along_y = gradient_y.gather(1, flat).view(index.shape) * (dy - down)[:, :, None]
        along_x = gradient_x.gather(1, flat).view(index.shape) * (dx - right)[:, None, :]
        product: Tensor = along_y + along_x
        return product

    def fade(t: Tensor) -> Tensor:
        faded: Tensor = t * t * t * (t * (6 * t - 15) + 10)
        return faded

    right, down = fade(dx)[:, None, :], fade(dy)[:, :, None]
    top = torch.lerp(corner(0, 0), corner(0, 1), right)
    bottom = torch.lerp(corner(1, 0), corner(1, 1), right)
    field = torch.lerp(top, bottom, down) * math.sqrt(2)  # (N, canvas h, canvas w)
    if canvas != size_hw:
        field = F.interpolate(field[:, None], size_hw, mode="bilinear", align_corners=False)[:, 0]
    return field


def perlin_masks(
    keys: Tensor,
    size_hw: tuple[int, int],
    *,
    threshold: float,
    empty_probability: float = EMPTY_PROBABILITY,
) -> Tensor:
    """Regions for synthetic anomalies, (N, h, w) bool; each empty with a given probability."""
    masks = perlin_noise(keys, size_hw) > threshold
    coins = uniform(keys_from(_COIN, keys), 1)[:, :, None]
    return masks & (coins >= empty_probability)


@dataclass(frozen=True, slots=True, eq=False)
class Anomalies:
    """What the generator made of a batch; everything is for 2B samples.

    Args:
        synthetic: (2B, h, w) bool, where noise is added.
        values: (N, C) float32, the noise of each synthetic pixel, in the order of
            `synthetic.nonzero()`.
        mask: (2B, h, w) bool, real or synthetic anomaly.
        label: (2B,) bool, whether a sample is anomalous.
    """

    synthetic: Tensor
    values: Tensor
    mask: Tensor
    label: Tensor

    def dense_noise(self) -> Tensor:
        """The noise everywhere, (2B, C, h, w); zero outside the synthetic regions."""
        noise = self.values.new_zeros((*self.synthetic.shape, self.values.shape[1]))
        noise[self.synthetic] = self.values
        return noise.permute(0, 3, 1, 2)


def generate_anomalies(
    real_mask: Tensor,
    real_label: Tensor,
    *,
    keys: Tensor,
    channels: int,
    noise_std: float,
    perlin_threshold: float,
) -> Anomalies:
    """Draw noise and targets for a doubled batch; neither copy is kept clean on purpose.

    Synthetic noise never falls on pixels that are known to carry a real defect.

    Args:
        real_mask: (B, h, w) bool at feature resolution; empty where no pixel truth is known.
        real_label: (B,) bool.
        keys: (2B,) int64, of `sample_keys`.
        channels: Of the feature.
        noise_std: Deviation of the noise.
        perlin_threshold: The higher, the smaller the regions.

    Source:
        supersimplenet.md section 2, after blaz-r/SuperSimpleNet (MIT); re-implemented.
    """
    mask = real_mask.repeat(2, 1, 1)  # (2B, h, w)
    _, height, width = mask.shape
    synthetic = perlin_masks(keys, (height, width), threshold=perlin_threshold) & ~mask
    both = mask | synthetic
    # Noise is drawn for the pixels that need it alone: 13 % or 1.4 % of them on average.
    sample, row, column = synthetic.nonzero(as_tuple=True)
    pixel_keys = keys_from(_NOISE, keys[sample], row * width + column)
    return Anomalies(
        synthetic=synthetic,
        values=normal(pixel_keys, channels) * noise_std,
        mask=both,
        label=real_label.repeat(2) | both.flatten(1).any(dim=1),
    )
