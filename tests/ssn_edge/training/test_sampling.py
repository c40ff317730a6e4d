"""Which samples an epoch visits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.training.sampling import BalancedSampler, EveryNormalOnce


def balanced(normals: int, anomalous: int, seed: int = 0) -> BalancedSampler:
    return BalancedSampler(np.arange(normals), 1000 + np.arange(anomalous), seed)


def split(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows[rows < 1000], rows[rows >= 1000]


@given(st.integers(1, 40), st.integers(0, 1000), st.integers(0, 20))
def test_an_unsupervised_epoch_visits_every_normal_once(count: int, seed: int, epoch: int) -> None:
    sampler = EveryNormalOnce(5 + np.arange(count), seed)
    assert sampler.epoch_length == count
    assert sorted(sampler.epoch(epoch)) == list(range(5, 5 + count))


def test_unsupervised_epochs_have_different_orders_that_the_seed_repeats() -> None:
    sampler, same = EveryNormalOnce(np.arange(50), 3), EveryNormalOnce(np.arange(50), 3)
    assert not np.array_equal(sampler.epoch(0), sampler.epoch(1))
    assert np.array_equal(sampler.epoch(7), same.epoch(7))
    assert not np.array_equal(sampler.epoch(0), EveryNormalOnce(np.arange(50), 4).epoch(0))


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 1000))
def test_a_balanced_epoch_has_every_anomalous_once_and_as_many_normals(
    normals: int, anomalous: int, seed: int
) -> None:
    sampler = balanced(normals, anomalous, seed)
    assert sampler.epoch_length == 2 * anomalous
    for epoch in range(4):
        drawn, real = split(sampler.epoch(epoch))
        assert sorted(real) == list(range(1000, 1000 + anomalous))
        assert len(drawn) == anomalous
        if anomalous <= normals:
            assert len(set(drawn)) == anomalous


def test_normals_are_drawn_again_only_where_there_are_too_few() -> None:
    drawn, _ = split(balanced(5, 12).epoch(0))
    assert len(drawn) == 12
    assert len(set(drawn)) <= 5


def test_normals_not_used_yet_come_first() -> None:
    sampler = balanced(100, 20)
    visited = np.concatenate([split(sampler.epoch(epoch))[0] for epoch in range(5)])
    assert sorted(visited) == list(range(100))


def test_normals_are_used_far_more_evenly_than_by_chance() -> None:
    sampler = balanced(60, 13)
    drawn = np.concatenate([split(sampler.epoch(epoch))[0] for epoch in range(200)])
    used = np.bincount(drawn, minlength=60)
    by_chance = (200 * 13 / 60 * (1 - 13 / 60)) ** 0.5
    assert used.std() < by_chance / 4


def test_probabilities_follow_the_written_formula() -> None:
    used = np.array([0, 1, 2, 3])
    q = 1 - used / used.max()
    q = (q - np.median(q) + 1) ** (4 * np.log(4))
    drawn = np.zeros(4)
    for seed in range(4000):
        sampler = balanced(4, 1, seed)
        sampler._used[:] = used
        sampler._next_epoch = 1
        drawn[split(sampler.epoch(1))[0]] += 1
    assert drawn / 4000 == pytest.approx(q / q.sum(), abs=0.02)


def test_a_sampler_that_starts_late_gives_the_epoch_that_would_have_been() -> None:
    whole, late = balanced(30, 7, seed=5), balanced(30, 7, seed=5)
    epochs = [whole.epoch(epoch).copy() for epoch in range(9)]
    assert np.array_equal(late.epoch(8), epochs[8])
    assert np.array_equal(late.epoch(8), epochs[8])
    assert np.array_equal(late.epoch(2), epochs[2])
    assert np.array_equal(late.epoch(8), epochs[8])


def test_another_seed_gives_another_order() -> None:
    assert not np.array_equal(balanced(30, 7, 1).epoch(0), balanced(30, 7, 2).epoch(0))


def test_one_normal_picture_is_enough_to_draw_from() -> None:
    sampler = balanced(1, 3)
    for epoch in range(3):
        assert split(sampler.epoch(epoch))[0].tolist() == [0, 0, 0]


def test_flips_make_an_epoch_of_eight_times_the_anomalous_pictures() -> None:
    assert balanced(2085, 4 * 246).epoch_length == 1968
    assert -(-1968 // 32) * 300 == 18_600
