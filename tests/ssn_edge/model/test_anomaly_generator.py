"""Perlin regions and noise, against the published code's statistics and the written rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.model.anomaly_generator import (
    Anomalies,
    generate_anomalies,
    perlin_masks,
    perlin_noise,
    sample_keys,
)
from ssn_edge.model.keyed_random import keys_from


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return keys_from(seed, torch.arange(count))


# Coverage varies the more the smaller the grid: that many draws keep our own sampling error small.
@pytest.mark.parametrize(
    ("size_hw", "draws"), [((64, 64), 3000), ((160, 58), 1500), ((36, 36), 9000)]
)
def test_perlin_regions_have_the_published_codes_statistics(
    shared: Path, size_hw: tuple[int, int], draws: int
) -> None:
    statistics = json.loads((shared / "golden" / "perlin_stats.json").read_text())
    fields = torch.cat([perlin_noise(each, size_hw) for each in keys(draws).split(250)])
    for threshold in (0.2, 0.6):
        wanted = statistics[f"grid {size_hw[0]}x{size_hw[1]}, threshold {threshold}"]
        coverage = (fields > threshold).float().mean(dim=(1, 2))
        empty = float((coverage == 0).float().mean())
        assert empty == pytest.approx(wanted["empty_fraction_before_coin"], abs=0.025)
        assert float(coverage.mean()) == pytest.approx(wanted["mean_coverage"], rel=0.05)
        for share, value in wanted["coverage_quantiles"].items():
            found = float(coverage.quantile(float(share)))
            assert found == pytest.approx(value, rel=0.1, abs=0.0015)


@pytest.mark.parametrize("threshold", [0.2, 0.6])
def test_about_half_of_the_samples_stay_clean(threshold: float) -> None:
    masks = perlin_masks(keys(1000), (32, 32), threshold=threshold)
    never = perlin_masks(keys(1000), (32, 32), threshold=threshold, empty_probability=0.0)
    drawn = float(never.flatten(1).any(dim=1).float().mean())
    kept = float(masks.flatten(1).any(dim=1).float().mean())
    assert kept == pytest.approx(drawn / 2, abs=0.05)
    assert not (masks & ~never).any()


@given(st.integers(16, 70), st.integers(16, 70), st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_perlin_noise_has_any_size_and_stays_near_one(height: int, width: int, seed: int) -> None:
    field = perlin_noise(keys(3, seed), (height, width))
    assert field.shape == (3, height, width)
    assert float(field.abs().max()) <= 1.0 + 1e-5


def test_fields_of_one_draw_differ_and_a_key_repeats_its_own_in_any_company() -> None:
    first, second = perlin_noise(keys(2), (32, 32))
    assert not torch.equal(first, second)
    assert torch.equal(perlin_noise(keys(9)[1:2], (32, 32))[0], second)


def anomalies(
    real_mask: torch.Tensor, real_label: torch.Tensor, *, seed: int = 0, threshold: float = 0.2
) -> Anomalies:
    return generate_anomalies(
        real_mask,
        real_label,
        keys=sample_keys(seed, 0, torch.arange(len(real_mask))),
        channels=3,
        noise_std=0.5,
        perlin_threshold=threshold,
    )


def half_masks(count: int) -> torch.Tensor:
    mask = torch.zeros(count, 32, 32, dtype=torch.bool)
    mask[: count // 2, 8:24, 4:20] = True
    return mask


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_no_noise_falls_on_real_defects_and_all_of_them_are_in_the_training_mask(seed: int) -> None:
    real = half_masks(4)
    made = anomalies(real, real.flatten(1).any(dim=1), seed=seed)
    doubled = real.repeat(2, 1, 1)
    assert not made.dense_noise().movedim(1, -1)[doubled].any()
    assert not (made.synthetic & doubled).any()
    assert torch.equal(made.mask, doubled | made.synthetic)
    assert torch.equal((made.dense_noise() != 0).any(dim=1), made.synthetic)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_the_label_is_1_where_the_training_mask_has_a_pixel_or_the_picture_was_anomalous(
    seed: int,
) -> None:
    real = half_masks(4)
    label = torch.tensor([True, True, True, False])
    made = anomalies(real, label, seed=seed, threshold=0.6)
    wanted = [
        bool(label[sample % 4]) or bool(made.mask[sample].any()) for sample in range(2 * len(label))
    ]
    assert made.label.tolist() == wanted


def test_neither_copy_is_kept_clean_and_each_has_its_own_region() -> None:
    made = anomalies(torch.zeros(200, 16, 16).bool(), torch.zeros(200).bool())
    first, second = made.label.view(2, 200).float().mean(dim=1)
    assert 0.35 < float(first) < 0.6
    assert 0.35 < float(second) < 0.6
    assert not torch.equal(made.synthetic[:200], made.synthetic[200:])


def test_noise_is_normal_with_the_wanted_deviation_and_independent_between_channels() -> None:
    made = anomalies(torch.zeros(64, 32, 32).bool(), torch.zeros(64).bool())
    drawn = made.dense_noise().movedim(1, -1)[made.synthetic]
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.02)
    assert float((drawn.abs() > 1.0).float().mean()) == pytest.approx(0.0455, abs=0.005)
    correlation = torch.corrcoef(drawn.T) - torch.eye(3)
    assert float(correlation.abs().max()) < 0.03


def test_the_same_seed_makes_the_same_anomalies() -> None:
    real = half_masks(2)
    one, other, third = (anomalies(real, torch.ones(2).bool(), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one.values, other.values)
    assert not torch.equal(one.values, third.values)


def test_a_sample_gets_the_same_anomaly_in_a_batch_and_in_a_part_of_it() -> None:
    def drawn(positions: list[int]) -> Anomalies:
        places = torch.tensor(positions)
        count = len(positions)
        return generate_anomalies(
            torch.zeros(count, 16, 16).bool(),
            torch.zeros(count).bool(),
            keys=sample_keys(4, 7, places),
            channels=3,
            noise_std=0.5,
            perlin_threshold=0.2,
        )

    whole, part = drawn([0, 1, 2, 3]), drawn([1, 3])
    for copy in (0, 1):
        for place, position in enumerate([1, 3]):
            mine = part.dense_noise()[2 * copy + place]
            assert torch.equal(mine, whole.dense_noise()[4 * copy + position])
