"""Synthetic anomalies in feature space: Perlin-shaped regions of Gaussian noise; training only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SCALE_EXPONENTS = 6
"""Lattice scales are 1, 2, 4, 8, 16, 32."""
_LARGEST_SCALE = 2 ** (_SCALE_EXPONENTS - 1)
EMPTY_PROBABILITY = 0.5


def perlin_noise(count: int, size_hw: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Gradient noise, one field a sample, all samples at once.

    Each field has its own lattice scales for rows and columns. It is drawn on a canvas of the next
    powers of two and resized bilinearly.

    Args:
        count: Number of fields.
        size_hw: Height and width of a field.
        generator: Of random numbers, on the device where the fields are wanted.

    Returns:
        (count, h, w) float32, roughly in [-1, 1].
    """
    device = generator.device
    canvas = tuple(2 ** math.ceil(math.log2(side)) for side in size_hw)
    exponents = torch.randint(0, _SCALE_EXPONENTS, (count, 2), generator=generator, device=device)
    scales = torch.pow(2.0, exponents)  # (count, 2)
    lattice = _LARGEST_SCALE + 1
    angles = (
        torch.rand((count, lattice * lattice), generator=generator, device=device) * 2 * math.pi
    )
    gradient_y, gradient_x = torch.sin(angles), torch.cos(angles)

    # Position of each canvas row and column in its sample's lattice.
    rows = torch.arange(canvas[0], device=device)[None] * (scales[:, :1] / canvas[0])
    columns = torch.arange(canvas[1], device=device)[None] * (scales[:, 1:] / canvas[1])
    row, column = rows.long(), columns.long()
    dy, dx = rows - row, columns - column  # (count, canvas h), (count, canvas w)

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
    field = torch.lerp(top, bottom, down) * math.sqrt(2)  # (count, canvas h, canvas w)
    if canvas != size_hw:
        field = F.interpolate(field[:, None], size_hw, mode="bilinear", align_corners=False)[:, 0]
    return field


def perlin_masks(
    count: int,
    size_hw: tuple[int, int],
    *,
    threshold: float,
    generator: torch.Generator,
    empty_probability: float = EMPTY_PROBABILITY,
) -> Tensor:
    """Regions for synthetic anomalies, (count, h, w) bool; each empty with a given probability."""
    masks = perlin_noise(count, size_hw, generator) > threshold
    coins = torch.rand((count, 1, 1), generator=generator, device=generator.device)
    return masks & (coins >= empty_probability)


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What the generator made of a batch; everything is for 2B samples.

    Args:
        noise: (2B, C, h, w) float32, zero outside the synthetic regions.
        synthetic: (2B, h, w) bool, where noise was added.
        mask: (2B, h, w) bool, real or synthetic anomaly.
        label: (2B,) bool, whether a sample is anomalous.
    """

    noise: Tensor
    synthetic: Tensor
    mask: Tensor
    label: Tensor


def generate_anomalies(
    real_mask: Tensor,
    real_label: Tensor,
    *,
    channels: int,
    noise_std: float,
    perlin_threshold: float,
    generator: torch.Generator,
) -> Anomalies:
    """Draw noise and targets for a doubled batch; neither copy is kept clean on purpose.

    Synthetic noise never falls on pixels that are known to carry a real defect.

    Args:
        real_mask: (B, h, w) bool at feature resolution; empty where no pixel truth is known.
        real_label: (B,) bool.
        channels: Of the feature.
        noise_std: Deviation of the noise.
        perlin_threshold: The higher, the smaller the regions.
        generator: Of random numbers, on the device of the masks.

    Source:
        supersimplenet.md section 2, after blaz-r/SuperSimpleNet (MIT); re-implemented.
    """
    mask = real_mask.repeat(2, 1, 1)  # (2B, h, w)
    count, height, width = mask.shape
    synthetic = perlin_masks(
        count, (height, width), threshold=perlin_threshold, generator=generator
    )
    synthetic = synthetic & ~mask
    both = mask | synthetic
    noise = torch.zeros((count, height, width, channels), device=mask.device)
    # Noise is drawn for the pixels that need it alone: 13 % or 1.4 % of them on average.
    drawn = torch.randn(
        (int(synthetic.sum()), channels), generator=generator, device=generator.device
    )
    noise[synthetic] = drawn * noise_std
    return Anomalies(
        noise=noise.permute(0, 3, 1, 2),
        synthetic=synthetic,
        mask=both,
        label=real_label.repeat(2) | both.flatten(1).any(dim=1),
    )
