"""What an outlet may show of a line at a moment: nothing old as new, and no pass beyond its time.

Pure but for `LineWatch`, which asks the line.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic_ns

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.verdict_codes import VerdictCode

POLL_S = 0.1
STALE_NS = 1_000_000_000
"""A line that has not told for so long is taken for dead."""


@dataclass(frozen=True, slots=True)
class ResultView:
    """The last result, as it may be shown now.

    Args:
        trigger_id: Of its trigger, if it had one.
        sequence: Of its record.
        verdict: As recorded.
        reason: From the closed list.
        code: For outlets without text; `PASS` only while `is_valid`.
        is_valid: Whether it is a pass whose signal counts at this moment.
    """

    trigger_id: int | None
    sequence: int
    verdict: str
    reason: str
    code: VerdictCode
    is_valid: bool


@dataclass(frozen=True, slots=True)
class LineView:
    """A line, as it may be shown now.

    Args:
        is_connected: Whether the line tells; all else is empty if not.
        state: OPC 40100-1 name.
        cause: Why.
        result: The last result, if there is one.
        counters: By name.
        settings_id: In force.
        recipe: In force.
    """

    is_connected: bool
    state: str
    cause: str
    result: ResultView | None
    counters: Mapping[str, int]
    settings_id: str | None
    recipe: str | None


DEAD = LineView(False, "", "the line does not tell", None, {}, None, None)


def view_of(
    status: Mapping[str, object] | None, told_ns: int, now_ns: int, *, is_shadow: bool
) -> LineView:
    """What may be shown of a status.

    Args:
        status: As the control socket's `state` says it; None if it says nothing.
        told_ns: When it was asked for, on the monotonic clock.
        now_ns: Now, on the same.
        is_shadow: Nothing is driven, and so nothing passes.
    """
    if status is None or not 0 <= now_ns - told_ns < STALE_NS:
        return DEAD
    try:
        state = LineState(status["state"])
    except (ValueError, KeyError):
        return DEAD
    may_pass = state.may_pass and not is_shadow
    last = status.get("last")
    counters = status.get("counters")
    return LineView(
        True,
        state.value,
        str(status.get("cause", "")),
        _result(last, now_ns, may_pass=may_pass) if isinstance(last, dict) else None,
        {
            str(name): count
            for name, count in (counters.items() if isinstance(counters, dict) else ())
            if type(count) is int
        },
        _text(status.get("settings_id")),
        _text(status.get("recipe")),
    )


def _result(last: Mapping[str, object], now_ns: int, *, may_pass: bool) -> ResultView | None:
    try:
        verdict = Verdict(last["verdict"])
    except (ValueError, KeyError):
        return None
    trigger_id, sequence = last.get("trigger_id"), last.get("sequence")
    until_ns = last.get("valid_until_ns")
    is_valid = (
        may_pass
        and verdict is Verdict.PASS
        and last.get("is_accepted") is True
        and last.get("code") == VerdictCode.PASS
        and type(until_ns) is int
        and now_ns < until_ns
    )
    code = VerdictCode.NONE
    if verdict is Verdict.PASS:
        code = VerdictCode.PASS if is_valid else VerdictCode.NONE
    else:
        code = VerdictCode.FAIL if verdict is Verdict.FAIL else VerdictCode.UNKNOWN
    return ResultView(
        trigger_id if type(trigger_id) is int else None,
        sequence if type(sequence) is int else 0,
        verdict.value,
        str(last.get("reason", "")),
        code,
        is_valid,
    )


def _text(found: object) -> str | None:
    return found if isinstance(found, str) else None


class LineWatch:
    """Asks a line over and over, in a thread of its own; a context manager.

    Args:
        line: Whose control socket is asked.
        is_shadow: Nothing is driven, and so nothing passes.
    """

    def __init__(self, line: LineClient, *, is_shadow: bool) -> None:
        self._line = line
        self._is_shadow = is_shadow
        self._told: tuple[Mapping[str, object] | None, int] = (None, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="line-watch", daemon=True)

    def view(self) -> LineView:
        """The line as it may be shown now; from any thread."""
        status, told_ns = self._told
        return view_of(status, told_ns, monotonic_ns(), is_shadow=self._is_shadow)

    def __enter__(self) -> LineWatch:
        """Begin to ask."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5.0)

    def _ask(self) -> None:
        while not self._stop.is_set():
            asked_ns = monotonic_ns()
            try:
                self._told = (self._line.state(), asked_ns)
            except Refusal:
                self._told = (None, asked_ns)
            self._stop.wait(POLL_S)
