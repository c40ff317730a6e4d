from __future__ import annotations

from pathlib import Path

import pytest
import simulated_line

from ssn_edge_runtime.sinks import audit_log


@pytest.mark.parametrize(
    "parts",
    [pytest.param(1800, id="short"), pytest.param(100_000, id="long", marks=pytest.mark.soak)],
)
def test_whatever_goes_wrong_no_part_passes_unjudged_and_none_is_lost(
    tmp_path: Path, nothing_is_left: None, parts: int
) -> None:
    outcome = simulated_line.run_line(tmp_path, simulated_line.plan(5), parts)
    simulated_line.check(outcome)
    simulated_line.check_reasons(outcome)
    assert audit_log(tmp_path).problems == ()
