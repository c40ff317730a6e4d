"""Numbers from keys: their distributions, and that nothing but the key decides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssn_edge.model.keyed_random import keys_from, normal, uniform

WORDS = st.integers(0, 2**63 - 1)


def test_uniform_numbers_fill_0_to_1_evenly_and_never_reach_1() -> None:
    numbers = uniform(keys_from(1, torch.arange(2000)), 100)
    assert float(numbers.min()) >= 0.0
    assert float(numbers.max()) < 1.0
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal_and_independent_within_and_between_keys() -> None:
    numbers = normal(keys_from(2, torch.arange(20_000)), 7)
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    # 1 / sqrt(20,000) is one deviation of a correlation of independent numbers.
    assert float((torch.corrcoef(numbers.T) - torch.eye(7)).abs().max()) < 4.5 / 20_000**0.5
    following = torch.corrcoef(torch.stack([numbers[:-1, 0], numbers[1:, 0]]))[0, 1]
    assert abs(float(following)) < 4.5 / 20_000**0.5


@pytest.mark.parametrize("draw", [uniform, normal])
@given(seed=WORDS, step=WORDS, chosen=st.lists(st.integers(0, 30), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_a_keys_numbers_do_not_depend_on_its_company(
    draw: object, seed: int, step: int, chosen: list[int]
) -> None:
    assert callable(draw)
    keys = keys_from(seed, step, torch.arange(31))
    assert torch.equal(draw(keys, 9)[chosen], draw(keys[chosen], 9))


@given(st.lists(WORDS, min_size=2, max_size=2, unique=True))
@settings(deadline=None, max_examples=30)
def test_other_words_and_another_order_of_words_make_other_keys(words: list[int]) -> None:
    one, other = words
    keys = [int(keys_from(*each)) for each in ((one, other), (other, one), (one,), (other,))]
    assert len(set(keys)) == 4


def test_large_draws_are_the_small_ones_put_together() -> None:
    keys = keys_from(5, torch.arange(3000))
    together = normal(keys, 500)  # more than one chunk
    assert torch.equal(together[::700], normal(keys[::700], 500))
