"""The authority's side of the engine, where no engine is needed to see what it does."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic_ns

import pytest

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.engine_desk import EngineDesk, JudgeIdentity
from ssn_edge_runtime.line.ledger import Part, SeenFrame, TriggerLedger
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import LineOptions, TriggerKind
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerState

IDENTITY = JudgeIdentity("ab" * 32, "fp32", "simulated", "cd" * 32, 0.0, None)


def a_desk(*recipes: str) -> tuple[EngineDesk, TriggerLedger]:
    rules = TriggerRules(deadline_ns=60 * 10**9)
    ledger = TriggerLedger(rules, next_sequence=1)
    options = LineOptions(trigger=TriggerKind.SOFTWARE, rules=rules)
    desk = EngineDesk(WorkerCommand("none:none", {}, "none"), options, ledger, {})
    held = {name: replace(IDENTITY, recipe=name) for name in recipes}
    desk.identity = replace(IDENTITY, recipes=held)
    desk.worker.state = WorkerState.RUNNING
    return desk, ledger


def a_part(ledger: TriggerLedger, recipe: str | None) -> Part:
    now_ns = monotonic_ns()
    part = ledger.trigger("cam", 1, now_ns, recipe=recipe).part
    assert part is not None
    ledger.frame(SeenFrame("cam", 0, 1, (4, 4), 0, now_ns + 1, now_ns + 1), now_ns + 2)
    assert part.frame is not None
    return part


def test_a_part_whose_recipe_was_taken_away_meanwhile_is_unknown_and_reaches_no_engine() -> None:
    desk, ledger = a_desk("brass")
    part = a_part(ledger, "brass")
    desk.enqueue(part)
    desk.identity = replace(IDENTITY, settings_id="ef" * 32)  # other settings, without that recipe
    desk.feed()
    assert part.decision is not None
    assert (part.decision.verdict, part.decision.reason) == (
        Verdict.UNKNOWN, Reason.ENGINE_ERROR,
    )  # fmt: skip
    assert "no recipe 'brass' any more" in part.decision.detail
    assert part.job is None


def test_without_settings_a_part_is_judged_by_what_is_in_force() -> None:
    desk, ledger = a_desk()
    assert desk._recipe_of(a_part(ledger, None)) is None
    # With settings that leave the general ones out, it is not judged by another product's.
    desk, ledger = a_desk("brass")
    assert desk.identity is not None
    desk.identity = replace(desk.identity, settings_id="ef" * 32, recipe="brass")
    part = a_part(ledger, None)
    desk.enqueue(part)
    desk.feed()
    assert part.decision is not None
    assert part.decision.verdict is Verdict.UNKNOWN


def test_only_recipes_in_force_can_be_named() -> None:
    desk, _ = a_desk("brass", "steel")
    desk.check_recipe("steel")
    with pytest.raises(ConfigError, match="no recipe 'tin' in force; brass, steel can be named"):
        desk.check_recipe("tin")
    desk.identity = None
    with pytest.raises(ConfigError, match="none can be named"):
        desk.check_recipe("steel")


def test_each_recipe_has_the_limits_that_the_worker_told_of_it() -> None:
    told = {
        "threshold": 1.0, "min_area_px": None, "settings_id": "ef" * 32, "recipe": "brass",
        "recipes": {
            "": {"threshold": 3.0}, "brass": {"threshold": 1.0},
            "steel": {"threshold": 2.0, "min_area_px": 9.0},
        },
    }  # fmt: skip
    judge = IDENTITY.with_settings(Message(told))
    assert (judge.threshold, judge.recipe, judge.settings_id) == (1.0, "brass", "ef" * 32)
    steel = judge.recipes["steel"]
    assert (steel.threshold, steel.min_area_px, steel.recipe) == (2.0, 9.0, "steel")
    assert steel.settings_id == judge.settings_id
    assert steel.recipes == {}
    assert (judge.recipes[""].threshold, judge.recipes[""].recipe) == (3.0, None)
    without = judge.with_settings(Message({**told, "recipes": None}))
    assert without.recipes == {}
    for wrong in ([], {"steel": 1}):
        with pytest.raises(MessageError):
            judge.with_settings(Message({**told, "recipes": wrong}))
