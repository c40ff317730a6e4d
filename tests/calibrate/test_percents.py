"""A share as text promises no more than the number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_calibrate.percents import at_least, at_most


@pytest.mark.parametrize(
    ("share", "most", "least"),
    [
        (0.005, "0.5 %", "0.5 %"),
        (0.007, "0.7 %", "0.7 %"),
        (0.036791, "3.68 %", "3.67 %"),
        (0.9995, "99.95 %", "99.95 %"),
        (0.9994567, "99.9457 %", "99.9456 %"),
        (1 / 3, "33.4 %", "33.3 %"),
        (1.0, "100 %", "100 %"),
        (0.0, "0 %", "0 %"),
    ],
)
def test_a_share_is_rounded_to_the_side_that_promises_less(
    share: float, most: str, least: str
) -> None:
    assert (at_most(share), at_least(share)) == (most, least)


@given(st.floats(1e-6, 1))
def test_the_text_is_never_on_the_other_side(share: float) -> None:
    assert float(at_most(share)[:-2]) >= 100 * share - 1e-8
    assert float(at_least(share)[:-2]) <= 100 * share + 1e-8
