from __future__ import annotations

from pathlib import Path

import pytest
import simulated_line

from ssn_edge_runtime.sinks import audit_log

ROUNDS = 4
"""A machine that is too busy judges a rare fault's parts late, and late is all that they show."""


@pytest.mark.parametrize(
    "parts",
    [pytest.param(1800, id="short"), pytest.param(100_000, id="long", marks=pytest.mark.soak)],
)
def test_whatever_goes_wrong_no_part_passes_unjudged_and_none_is_lost(
    tmp_path: Path, nothing_is_left: None, parts: int
) -> None:
    unnamed: dict[object, object] = {}
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        outcome = simulated_line.run_line(folder, simulated_line.plan(5 + number), parts)
        simulated_line.check(outcome)
        simulated_line.check_reasons(outcome)
        assert audit_log(folder).problems == ()
        found = simulated_line.unnamed_faults(outcome)
        unnamed = {fault: found[fault] for fault in found if number == 0 or fault in unnamed}
        if not unnamed:
            break
    assert not unnamed
