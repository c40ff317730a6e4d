"""What earlier runs decided about triggers: a trigger that is given again after a restart is known.

Only ids that somebody gave count. Where a timer or the camera triggered, the id in a record is the
part's own number, which nobody gives again; the run's `start` event tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import EventKind
from ssn_edge_runtime.sinks.backward import lines_backward

LARGEST_READ_BYTES = 32 * 2**20
"""A start must not take seconds, whatever the journal holds; some 12,000 parts."""
GIVEN = "software"
"""The trigger of a run whose ids came from outside."""


@dataclass(frozen=True, slots=True)
class DecidedTrigger:
    """A trigger that has its verdict.

    Args:
        trigger_id: As it was given.
        sequence: Of its record.
        source: The camera that saw its part.
        verdict: As recorded.
        reason: From the closed list.
        detail: One line for a person.
    """

    trigger_id: int
    sequence: int
    source: str
    verdict: Verdict
    reason: Reason
    detail: str


def decided_triggers(
    folder: Path, count: int, *, limit_bytes: int = LARGEST_READ_BYTES
) -> tuple[DecidedTrigger, ...]:
    """The triggers that were decided last, oldest first.

    Args:
        folder: Of the journal; need not be there.
        count: How many at most.
        limit_bytes: Reads no more than this; then there may be fewer.

    Raises:
        StorageError: The folder cannot be read.
    """
    found: list[DecidedTrigger] = []
    run: list[DecidedTrigger] = []  # those of one run, while its start was not reached yet
    for line in lines_backward(folder):
        limit_bytes -= len(line) + 1
        if limit_bytes < 0:
            break
        if b'"event":"start"' in line:
            if _trigger_of(line) == GIVEN:
                found += run
            run.clear()
        elif len(found) + len(run) < count and (decided := _decided(line)) is not None:
            run.append(decided)
        # An id that is not the part's own number was given: the start need not be looked for.
        if len(found) + len(run) >= count and _is_given(run):
            break
    # Without its start they may have been given: to know one too many rejects, and is safe.
    return tuple(reversed([*found, *run]))


def _is_given(run: list[DecidedTrigger]) -> bool:
    """Whether the ids of a run were surely given."""
    return not run or any(each.trigger_id != each.sequence for each in (run[0], run[-1]))


def _decided(line: bytes) -> DecidedTrigger | None:
    # Canonical JSON: quotes inside a text are escaped, so that this is no part of one.
    if b'"kind":"verdict"' not in line or b'"trigger_id":null' in line:
        return None
    try:
        document = json.loads(line)
        verdict, reason = Verdict(document["verdict"]), Reason(document["reason"])
        trigger_id, sequence = document["trigger_id"], document["sequence"]
        source, detail = document["source"], document["detail"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # the journal itself looks into it
    if type(trigger_id) is not int or type(sequence) is not int:
        return None
    return DecidedTrigger(trigger_id, sequence, str(source), verdict, reason, str(detail))


def _trigger_of(line: bytes) -> object:
    try:
        document = json.loads(line)
        if document["event"] == EventKind.START.value:
            return document["detail"].get("trigger")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None
