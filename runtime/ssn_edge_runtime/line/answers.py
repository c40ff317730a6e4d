"""What the giver of a trigger is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.ledger import Part
from ssn_edge_runtime.verdict_codes import VerdictCode, verdict_code


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a trigger. Anything but `is_pass` rejects.

    Args:
        trigger_id: As it was given.
        sequence: Of the part's record; None where there is no part.
        verdict: None where there is no part: the trigger bounced, or the line does not execute.
        reason: From the closed list.
        detail: One line for a person.
        until_ns: With a pass: until when it counts, on the monotonic clock.
    """

    trigger_id: int | None
    sequence: int | None
    verdict: Verdict | None
    reason: Reason | None
    detail: str = ""
    until_ns: int | None = None

    @property
    def is_pass(self) -> bool:
        """Whether the part may go through."""
        return self.verdict is Verdict.PASS

    @property
    def code(self) -> VerdictCode:
        """The number for receivers without text."""
        return verdict_code(self.verdict)

    @classmethod
    def of(cls, part: Part, *, until_ns: int | None) -> Answer:
        """The answer to a decided part; a pass that was withheld is `unknown(deadline)`."""
        decision = part.decision
        assert decision is not None
        if decision.verdict is Verdict.PASS and until_ns is None:
            return cls(
                part.trigger_id, part.sequence, Verdict.UNKNOWN, Reason.DEADLINE, "pass withheld"
            )
        return cls(
            part.trigger_id,
            part.sequence,
            decision.verdict,
            decision.reason,
            decision.detail,
            until_ns,
        )

    def again(self, now_ns: int) -> Answer:
        """The answer to a trigger whenever it is told: the same, but for an old pass.

        A pass counts until `until_ns`. Said after that it would be a late one, so that it is
        `unknown(deadline)` then. One of an earlier run is always late.
        """
        if not self.is_pass or (self.until_ns is not None and now_ns < self.until_ns):
            return self
        return replace(
            self,
            verdict=Verdict.UNKNOWN,
            reason=Reason.DEADLINE,
            detail="passed, but its time was over when it was told",
            until_ns=None,
        )

    def taken_back(self) -> Answer:
        """The answer to a trigger whose pass was told, and whose signal was then not given."""
        return replace(
            self,
            verdict=Verdict.UNKNOWN,
            reason=Reason.DEADLINE,
            detail="passed, but the signal was withheld",
            until_ns=None,
        )

    @classmethod
    def refused(cls, trigger_id: int | None, detail: str) -> Answer:
        """The answer to a trigger that made no part."""
        return cls(trigger_id, None, None, None, detail)


OnAnswer = Callable[[Answer], None]
