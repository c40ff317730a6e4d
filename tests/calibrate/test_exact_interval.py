from __future__ import annotations

import pytest
from scipy.stats import beta

from ssn_edge_calibrate.exact_interval import exact_interval


@pytest.mark.parametrize(("found", "count"), [(1, 14), (3, 40), (20, 40), (39, 40), (7, 5000)])
def test_both_ends_are_the_quantiles_of_the_beta_law(found: int, count: int) -> None:
    low, high = exact_interval(found, count)
    assert low == pytest.approx(beta.ppf(0.025, found, count - found + 1), rel=1e-7)
    assert high == pytest.approx(beta.ppf(0.975, found + 1, count - found), rel=1e-7)


def test_none_and_all_reach_the_ends() -> None:
    assert exact_interval(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert exact_interval(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert exact_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("found", "count"), [(-1, 4), (5, 4)])
def test_more_than_all_is_refused(found: int, count: int) -> None:
    with pytest.raises(ValueError, match="parts"):
        exact_interval(found, count)
