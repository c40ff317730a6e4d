"""Upscaling and blur, against a two-dimensional kernel written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ssn_edge.model.anomaly_map import AnomalyMap


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 58)])
def test_two_passes_equal_one_25_by_25_gaussian_with_mirrored_borders(
    size_hw: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    logits = 5 * torch.randn(2, 1, 16, 16)
    offsets = torch.arange(-12, 13, dtype=torch.float64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 4.0**2))
    kernel = kernel / kernel.sum()
    upscaled = F.interpolate(logits.double(), size_hw, mode="bilinear", align_corners=False)
    padded = F.pad(upscaled, [12] * 4, mode="reflect")
    wanted = F.conv2d(padded, kernel[None, None])[:, 0]
    found = AnomalyMap(size_hw)(logits)
    assert found.shape == (2, *size_hw)
    assert torch.allclose(found.double(), wanted, atol=1e-5)


def test_a_constant_map_stays_constant() -> None:
    found = AnomalyMap((48, 40))(torch.full((1, 1, 12, 10), -0.7))
    assert torch.allclose(found, torch.tensor(-0.7), atol=1e-6)


def test_the_blur_is_no_part_of_a_checkpoint() -> None:
    assert AnomalyMap((32, 32)).state_dict() == {}
