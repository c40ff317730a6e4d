"""What a chain of journal lines comes to: its last line, the next number, what is still owed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.record import (
    FIRST_PREVIOUS,
    FIRST_SEQUENCE,
    EventKind,
    LineKind,
    TriggerRecord,
)
from ssn_edge_runtime.sinks.links import Link


@dataclass(slots=True)
class Ledger:
    """The running account of a chain, kept by who writes it and by who checks it.

    Args:
        line: Number of the last line; 0 before the first.
        head: Its hash.
        next_sequence: The number that the next part will have.
        open_triggers: Accepted triggers that have no decision yet, by sequence, oldest first.
        verdicts: Decisions so far, by verdict, over the whole chain.
        is_stopped: Whether the last line says that the run ended in order.
    """

    line: int = 0
    head: str = FIRST_PREVIOUS
    next_sequence: int = FIRST_SEQUENCE
    open_triggers: dict[int, TriggerRecord] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=lambda: {each.value: 0 for each in Verdict})
    is_stopped: bool = False

    @classmethod
    def from_checkpoint(cls, link: Link) -> Ledger:
        """The account as a checkpoint line states it.

        Raises:
            ValueError: The line is no sound checkpoint.
        """
        detail = link.document.get("detail")
        if not link.is_checkpoint or not isinstance(detail, dict):
            raise ValueError("is no checkpoint")
        next_sequence, verdicts = detail.get("next_sequence"), detail.get("verdicts")
        triggers = detail.get("open_triggers")
        if (
            type(next_sequence) is not int
            or not isinstance(verdicts, dict)
            or set(verdicts) != {each.value for each in Verdict}
            or not all(type(count) is int for count in verdicts.values())
            or not isinstance(triggers, list)
            or not all(isinstance(each, dict) for each in triggers)
        ):
            raise ValueError("is a checkpoint without its counts")
        opened = [TriggerRecord.from_dict(each) for each in triggers]
        return cls(
            line=link.line,
            head=link.sha256,
            next_sequence=next_sequence,
            open_triggers={each.sequence: each for each in opened},
            verdicts=dict(verdicts),
        )

    def checkpoint_detail(self) -> dict[str, object]:
        """What a checkpoint line states."""
        return {
            "next_sequence": self.next_sequence,
            "verdicts": dict(self.verdicts),
            "open_triggers": [each.to_dict() for each in self.open_triggers.values()],
        }

    def follow(self, link: Link) -> None:
        """Move on to a line whose place in the chain was already checked; never refuses."""
        self.line, self.head = link.line, link.sha256
        self.is_stopped = link.event is EventKind.STOP

    def accept(self, trigger: TriggerRecord) -> None:
        """Take an accepted trigger.

        Raises:
            ValueError: Not the next number.
        """
        if trigger.sequence != self.next_sequence:
            raise ValueError(
                f"trigger of sequence {trigger.sequence}, where {self.next_sequence} is next"
            )
        self.open_triggers[trigger.sequence] = trigger
        self.next_sequence += 1

    def check_decision(self, sequence: int) -> None:
        """Refuse a decision that no part is owed.

        Raises:
            ValueError: Neither that of an open trigger nor the next number.
        """
        if sequence in self.open_triggers or sequence == self.next_sequence:
            return
        if sequence < self.next_sequence:
            raise ValueError(f"sequence {sequence} was decided already")
        raise ValueError(f"sequence {sequence}, where {self.next_sequence} is next")

    def decide(self, sequence: int, verdict: str) -> None:
        """Take a decision.

        Raises:
            ValueError: See `check_decision`.
        """
        self.check_decision(sequence)
        if self.open_triggers.pop(sequence, None) is None:
            self.next_sequence += 1
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1

    def take(self, document: Mapping[str, object]) -> None:
        """Take what a line says about parts.

        Raises:
            ValueError: It says what cannot be after the lines before.
        """
        kind = document.get("kind")
        if kind == LineKind.TRIGGER:
            self.accept(TriggerRecord.from_dict(document))
        elif kind == LineKind.VERDICT:
            sequence, verdict = document.get("sequence"), document.get("verdict")
            if type(sequence) is not int or verdict not in self.verdicts:
                raise ValueError("is a decision without its number or verdict")
            self.decide(sequence, str(verdict))
