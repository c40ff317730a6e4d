"""Texts that become numbers."""

from __future__ import annotations

import pytest

from ssn_edge.cli.options import parse_share
from ssn_edge_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "share"),
    [("0.5%", 0.005), ("0.7%", 0.007), ("99%", 0.99), ("0.01", 0.01), ("1e-3%", 1e-5)],
)
def test_a_share_is_the_number_that_was_written(text: str, share: float) -> None:
    assert parse_share(text, "--share") == share


@pytest.mark.parametrize("text", ["0", "100%", "-1%", "nan", "inf%", "many", "%", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--share .*is wanted"):
        parse_share(text, "--share")
