"""The linear algebra of the split step against the layers that it stands for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssn_edge.model.anomaly_generator import Anomalies
from ssn_edge.training.leaky_projection import leaky_projection
from ssn_edge.training.low_resolution import (
    frame_map,
    layer_map,
    low_resolution_convolution,
)
from ssn_edge.training.sparse_noise import add_noise_convolution
from ssn_edge_export.spatial_matrices import seen_by_taps, upscaled_and_pooled

SIDES = st.integers(1, 9)
SIZES = st.tuples(SIDES, SIDES)
KERNELS = st.sampled_from([1, 3, 5])
SEEDS = st.integers(0, 2**31)
EXAMPLES = settings(max_examples=25, deadline=None)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, inputs, numbers(99, *output.shape))


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def pooled(layer: Tensor, grid_hw: tuple[int, int], align_corners: bool) -> Tensor:
    upscaled = F.interpolate(layer, size=grid_hw, mode="bilinear", align_corners=align_corners)
    return F.avg_pool2d(upscaled, 3, stride=1, padding=1)


@EXAMPLES
@given(SIZES, SIZES, st.booleans(), SEEDS)
def test_two_matrices_upscale_and_pool(
    source_hw: tuple[int, int], target_hw: tuple[int, int], align_corners: bool, seed: int
) -> None:
    image = numbers(seed, *source_hw)
    rows, columns = (
        upscaled_and_pooled(source, target, align_corners=align_corners, like=image)
        for source, target in zip(source_hw, target_hw, strict=True)
    )
    wanted = pooled(image[None, None], target_hw, align_corners)[0, 0]
    close(rows @ image @ columns.T, wanted)


@EXAMPLES
@given(SIDES, SIDES, KERNELS, SEEDS)
def test_a_shifted_matrix_gives_what_a_tap_sees(
    source: int, target: int, taps: int, seed: int
) -> None:
    matrix, line = numbers(seed, target, source), numbers(seed + 1, source)
    for tap, shift in enumerate(seen_by_taps(matrix, taps)):
        kernel = torch.zeros(1, 1, taps, dtype=torch.float64)
        kernel[0, 0, tap] = 1
        wanted = F.conv1d((matrix @ line)[None, None], kernel, padding=taps // 2)[0, 0]
        close(shift @ line, wanted)


@EXAMPLES
@given(SIZES, SIZES, SIZES, KERNELS, st.booleans(), st.booleans(), SEEDS)
def test_a_low_resolution_convolution_is_that_of_the_upscaled_pooled_sum(
    layer2_hw: tuple[int, int],
    layer3_hw: tuple[int, int],
    grid_hw: tuple[int, int],
    taps: int,
    align_corners: bool,
    channels_last: bool,
    seed: int,
) -> None:
    layers = (numbers(seed, 2, 3, *layer2_hw), numbers(seed + 1, 2, 4, *layer3_hw))
    weight = numbers(seed + 2, 6, 9, taps, taps).requires_grad_()
    one = torch.ones((2, 1, *grid_hw), dtype=torch.float64)
    lost = F.avg_pool2d(one, 3, stride=1, padding=1) - one
    feature = [*(pooled(layer, grid_hw, align_corners) for layer in layers), lost, one]
    wanted = F.conv2d(torch.cat(feature, dim=1), weight, padding=taps // 2).repeat(3, 1, 1, 1)

    maps = [layer_map(layer, grid_hw, align_corners=align_corners) for layer in layers]
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    found = low_resolution_convolution(
        [*maps, frame_map(2, grid_hw, one)],
        weight.permute(2, 3, 0, 1).split_with_sizes([3, 4, 2], dim=3),
        copies=3,
        memory_format=memory_format,
    )
    assert found.is_contiguous(memory_format=memory_format)
    close(found, wanted)
    close(*gradients(found, weight), *gradients(wanted, weight))


def noise_on(synthetic: Tensor, seed: int, channels: int) -> Anomalies:
    values = numbers(seed, int(synthetic.sum()), channels)
    return Anomalies(synthetic, values, mask=synthetic, label=synthetic.flatten(1).any(dim=1))


@EXAMPLES
@given(SIZES, KERNELS, st.booleans(), st.floats(0, 1), SEEDS)
def test_a_noise_convolution_is_that_of_the_dense_noise(
    grid_hw: tuple[int, int], taps: int, channels_last: bool, coverage: float, seed: int
) -> None:
    synthetic = torch.rand((2, *grid_hw), generator=torch.Generator().manual_seed(seed)) < coverage
    anomalies = noise_on(synthetic, seed, channels=3)
    clean = numbers(seed + 1, 2, 6, *grid_hw).requires_grad_()
    weight = numbers(seed + 2, 6, 3, taps, taps).requires_grad_()
    wanted = clean + F.conv2d(anomalies.dense_noise(), weight, padding=taps // 2)

    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    hidden = (2 * clean).contiguous(memory_format=memory_format) / 2
    found = add_noise_convolution(hidden, anomalies, weight.permute(2, 3, 0, 1))
    assert found is hidden
    close(found, wanted)
    for mine, theirs in zip(
        gradients(found, clean, weight), gradients(wanted, clean, weight), strict=True
    ):
        close(mine, theirs)


@pytest.mark.usefixtures("two_threads")
def test_a_noise_convolution_is_the_same_each_time_with_several_threads() -> None:
    anomalies = noise_on(torch.ones(2, 24, 24, dtype=torch.bool), 0, channels=4)
    weight = numbers(1, 5, 5, 64, 4).float()

    def once() -> Tensor:
        hidden = torch.zeros(2, 64, 24, 24).contiguous(memory_format=torch.channels_last)
        return add_noise_convolution(hidden, anomalies, weight)

    first = once()
    assert all(torch.equal(once(), first) for _ in range(5))


@EXAMPLES
@given(SIZES, st.integers(1, 70), st.sampled_from([0.0, 0.2, 1.0]), SEEDS)
def test_a_leaky_projection_is_activation_and_weighted_sum(
    grid_hw: tuple[int, int], channels: int, slope: float, seed: int
) -> None:
    source = numbers(seed, 3, channels, *grid_hw).requires_grad_()
    weight = numbers(seed + 1, channels).requires_grad_()
    wanted = torch.einsum("bchw,c->bhw", F.leaky_relu(source, slope), weight)
    found = leaky_projection(source * 1.0, weight, slope)
    close(found, wanted)
    for mine, theirs in zip(
        gradients(found, source, weight), gradients(wanted, source, weight), strict=True
    ):
        close(mine, theirs)


def test_a_leaky_projection_works_in_chunks() -> None:
    source = numbers(0, 2, 700, 40, 40).requires_grad_()  # more than two chunks a sample
    weight = numbers(1, 700).requires_grad_()
    wanted = torch.einsum("bchw,c->bhw", F.leaky_relu(source, 0.2), weight)
    found = leaky_projection(source * 1.0, weight, 0.2)
    close(found, wanted)
    for mine, theirs in zip(
        gradients(found, source, weight), gradients(wanted, source, weight), strict=True
    ):
        close(mine, theirs)
