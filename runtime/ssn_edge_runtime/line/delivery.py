"""From verdict to line: journal first, then the deadline once more, then the pass signal."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic_ns
from typing import Protocol

from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.latency import StageLatencies
from ssn_edge_runtime.line.answers import Answer, OnAnswer
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.engine_desk import JudgeIdentity
from ssn_edge_runtime.line.ledger import Part, TriggerLedger
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.line.states import StateMachine
from ssn_edge_runtime.line.status import LastVerdict, LineStatus, Outlet
from ssn_edge_runtime.line.wall_clock import WallClock
from ssn_edge_runtime.record import (
    MAX_DEFECTS,
    DecisionRecord,
    EventKind,
    EventRecord,
    Scalar,
    TriggerRecord,
    boot_id,
    clock_synchronised,
)

SYNC_LOOK_NS = 1_000_000_000

logger = logging.getLogger(__name__)


class LineJournal(Protocol):
    """What the authority needs of a journal; `ssn_edge_runtime.sinks.Journal` is one."""

    @property
    def next_sequence(self) -> int:
        """The number of the next part."""
        ...

    @property
    def open_triggers(self) -> tuple[TriggerRecord, ...]:
        """Accepted and not decided, oldest first."""
        ...

    def check(self) -> None:
        """Raise StorageError while there is still room to say so."""
        ...

    def accept(self, trigger: TriggerRecord) -> None:
        """Append a trigger."""
        ...

    def write(self, record: DecisionRecord) -> None:
        """Append a decision."""
        ...

    def note(self, event: EventRecord) -> None:
        """Append an event."""
        ...


OnRecord = Callable[[DecisionRecord], None]


@dataclass(frozen=True, slots=True)
class _Signal:
    """A pass that waits until its part is at the ejector."""

    part: Part
    from_ns: int
    until_ns: int


class Delivery:
    """Records, signals and answers of one line.

    Args:
        journal: Open.
        ledger: Whose parts are delivered.
        states: No pass is given outside of the executing ones.
        outlets: What tells the line.
        options: Of the line.
        cameras: By key.
        wall: Stamps.
        settings_id: The device settings in force.
        on_record: Called for each written record.
        inhibit: Asked before each pass; a reason and a detail make it `unknown`.
    """

    def __init__(
        self,
        journal: LineJournal,
        ledger: TriggerLedger,
        states: StateMachine,
        outlets: Sequence[Outlet],
        options: LineOptions,
        cameras: Mapping[str, Camera],
        wall: WallClock,
        *,
        settings_id: str | None = None,
        on_record: OnRecord | None = None,
        inhibit: Callable[[], tuple[Reason, str] | None] | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.latencies = StageLatencies()
        self.last: LastVerdict | None = None
        self.identity: JudgeIdentity | None = None
        self.show: Callable[[], None] = lambda: None
        self._journal = journal
        self._is_open = False
        self._early: list[EventRecord] = []
        self._ledger = ledger
        self._states = states
        self._outlets = outlets
        self._options = options
        self._cameras = cameras
        self._wall = wall
        self._settings_id = settings_id
        self._on_record = on_record
        self._inhibit = inhibit
        self._stamps: dict[int, datetime] = {}
        self._waiting: dict[int, list[OnAnswer]] = {}
        self._answers: OrderedDict[int, Answer] = OrderedDict()
        self._signals: list[_Signal] = []
        self._is_synchronised: bool | None = None
        self._sync_looked_ns: int | None = None

    @property
    def has_signals(self) -> bool:
        """Whether a pass waits for its part to reach the ejector."""
        return bool(self._signals)

    def note(self, event: EventKind, detail: Mapping[str, Scalar] | None = None) -> None:
        """Record an event of this moment.

        Raises:
            StorageError: It cannot be.
        """
        now_ns = monotonic_ns()
        record = EventRecord(
            event=event,
            detail=detail or {},
            at=self._wall.utc(now_ns),
            monotonic_ns=now_ns,
            boot_id=boot_id(),
        )
        if self._is_open:
            self._journal.note(record)
        else:
            self._early.append(record)

    def begin(self) -> None:
        """The journal is open now: write what was noted before, and decide what was left open.

        Raises:
            StorageError: It cannot be written.
        """
        self._is_open = True
        early, self._early = self._early, []
        for record in early:
            self._journal.note(record)
        self._decide_open_triggers()

    def check_journal(self) -> None:
        """Raise StorageError while there is still room to say so."""
        if self._is_open:
            self._journal.check()

    def look_at_clock(self) -> None:
        """Record a step of the wall clock, before anything is stamped with it."""
        step_ns = self._wall.step_ns()
        if step_ns:
            self.counters["clock_steps"] += 1
            self.note(EventKind.CLOCK_STEP, {"step_ms": step_ns / 1e6})

    def _decide_open_triggers(self) -> None:
        """Give `unknown(restart)` to what an earlier run accepted and never decided."""
        for trigger in self._journal.open_triggers:
            now_ns = monotonic_ns()
            detail = "the run that accepted this trigger ended before it was decided"
            record = DecisionRecord(
                sequence=trigger.sequence,
                source=trigger.source,
                part_id=trigger.part_id,
                decided_at=self._wall.utc(now_ns),
                verdict=Verdict.UNKNOWN,
                reason=Reason.RESTART,
                detail=detail,
                timings_ms={},
                settings_id=self._settings_id,
                trigger_id=trigger.trigger_id,
                trigger_at=trigger.trigger_at,
                monotonic_ns=now_ns,
                boot_id=boot_id(),
                clock_synchronised=self._synchronised(now_ns),
                deadline_met=False,
            )
            self._journal.write(record)
            self._count(record)

    def accepted(self, part: Part) -> None:
        """Record an accepted trigger; its part is owed a decision now."""
        self.look_at_clock()
        stamp = self._wall.utc(part.triggered_ns)
        self._stamps[part.sequence] = stamp
        self._journal.accept(
            TriggerRecord(
                sequence=part.sequence,
                trigger_id=part.sequence if part.trigger_id is None else part.trigger_id,
                source=self._cameras[part.camera].source,
                part_id=part.part_id,
                trigger_at=stamp,
                monotonic_ns=part.triggered_ns,
                boot_id=boot_id(),
            )
        )

    def when_answered(self, part: Part, on_answer: OnAnswer) -> None:
        """Have a part's answer told once it is recorded."""
        self._waiting.setdefault(part.sequence, []).append(on_answer)

    def tell(self, on_answer: OnAnswer, answer: Answer) -> None:
        """Give an answer; a listener that fails does not end the line."""
        try:
            on_answer(answer)
        except Exception as error:  # noqa: BLE001 - whoever is not told takes it for reject
            self._outlet_failed(error)

    def answered(self, part: Part) -> Answer | None:
        """What was told about a part; None if it is not decided, or long forgotten."""
        return self._answers.get(part.sequence)

    def deliver(self, part: Part) -> DecisionRecord:
        """Record a released part; give the pass signal if it is one and still in time.

        Returns:
            Its record, which is written.

        Raises:
            StorageError: The part is not recorded; or it is, as `unknown`, and none after it.
        """
        self.look_at_clock()
        trouble = self._storage_trouble(part)
        if trouble is None:
            self._apply_inhibition(part)
        until_ns: int | None = None
        try:
            began_ns = monotonic_ns()
            if (
                part.decision is not None
                and part.decision.verdict is Verdict.PASS
                and began_ns >= part.deadline_ns
            ):
                part.decision = unknown(Reason.DEADLINE, "decided, but not recorded in time")
            record = self._record(part, began_ns)
            self._journal.write(record)
            now_ns = monotonic_ns()
            self._count(record)
            self.latencies.record_ms(record.timings_ms)
            self.latencies.record("write", now_ns - began_ns)
            self.latencies.record("answer", now_ns - part.triggered_ns)
            until_ns = self._pass(part, now_ns)
            self._remember(part, record, until_ns, now_ns)
            if self._on_record is not None:
                self._on_record(record)
        except StorageError as error:
            part.decision = unknown(Reason.STORAGE_ERROR, " ".join(str(error).split())[:500])
            trouble = error
        finally:
            answer = Answer.of(part, until_ns=until_ns)
            self._answers[part.sequence] = answer
            while len(self._answers) > self._options.rules.remembered:
                self._answers.popitem(last=False)
            for on_answer in self._waiting.pop(part.sequence, ()):
                self.tell(on_answer, answer)
        if trouble is not None:
            raise trouble
        self.show()
        return record

    def due_signals(self) -> None:
        """Give the signals of the parts that are at the ejector now."""
        now_ns = monotonic_ns()
        due = [signal for signal in self._signals if signal.from_ns <= now_ns]
        if due:
            self._signals = [signal for signal in self._signals if signal.from_ns > now_ns]
        for signal in due:
            self._give(signal.part, signal.until_ns, now_ns)

    def next_signal_ns(self) -> int | None:
        """When `due_signals` has something to do."""
        return min((signal.from_ns for signal in self._signals), default=None)

    def withhold_signals(self, why: str) -> None:
        """Give none of the signals that are still to come."""
        signals, self._signals = self._signals, []
        for signal in signals:
            self._withheld(signal.part, why)

    def answer_all(self, detail: str) -> None:
        """Answer whoever still waits: nothing more is decided."""
        waiting, self._waiting = self._waiting, {}
        for sequence, listeners in waiting.items():
            answer = Answer(None, sequence, Verdict.UNKNOWN, Reason.STORAGE_ERROR, detail)
            for on_answer in listeners:
                self.tell(on_answer, answer)

    def show_all(self, status: LineStatus) -> None:
        """Show a status on all outlets."""
        for outlet in self._outlets:
            try:
                outlet.show(status)
            except Exception as error:  # noqa: BLE001 - an outlet must not end the line
                self._outlet_failed(error)

    def _pass(self, part: Part, now_ns: int) -> int | None:
        """Give or plan the signal of a recorded pass; until when it counts, or None."""
        decision = part.decision
        if decision is None or decision.verdict is not Verdict.PASS:
            return None
        from_ns, until_ns = self._ledger.accept_from_ns(part), self._ledger.accept_until_ns(part)
        if now_ns >= part.deadline_ns:
            self._withheld(part, "the deadline passed while it was recorded")
            return None
        if not self._states.state.may_pass:
            self._withheld(part, f"the line is {self._states.state}")
            return None
        if from_ns > now_ns:
            self._signals.append(_Signal(part, from_ns, until_ns))
            return until_ns
        return until_ns if self._give(part, until_ns, now_ns) else None

    def _give(self, part: Part, until_ns: int, now_ns: int) -> bool:
        if now_ns >= until_ns:
            self._withheld(part, "its time at the ejector had passed")
            return False
        if not self._states.state.may_pass:
            self._withheld(part, f"the line is {self._states.state}")
            return False
        for outlet in self._outlets:
            try:
                outlet.accept(part.trigger_id, part.sequence, until_ns)
            except Exception as error:  # noqa: BLE001 - no signal is reject: safe, and counted
                self._outlet_failed(error)
        return True

    def _withheld(self, part: Part, why: str) -> None:
        self.counters["withheld"] += 1
        self.note(
            EventKind.WITHHELD,
            {"sequence": part.sequence, "trigger_id": part.trigger_id, "why": why},
        )

    def _outlet_failed(self, error: Exception) -> None:
        self.counters["outlet_failures"] += 1
        if self.counters["outlet_failures"] == 1:
            logger.warning("an outlet failed, the line goes on: %r", error)

    def _storage_trouble(self, part: Part) -> StorageError | None:
        try:
            self._journal.check()
        except StorageError as error:
            part.decision = unknown(Reason.STORAGE_ERROR, " ".join(str(error).split())[:500])
            return error
        return None

    def _apply_inhibition(self, part: Part) -> None:
        if self._inhibit is None or part.decision is None:
            return
        if part.decision.verdict is Verdict.PASS and (why := self._inhibit()) is not None:
            part.decision = unknown(*why)

    def _record(self, part: Part, now_ns: int) -> DecisionRecord:
        decision, frame, identity = part.decision, part.frame, self.identity
        assert decision is not None
        stamp = self._stamps.pop(part.sequence, None)
        decided_ns = now_ns if part.decided_ns is None else part.decided_ns
        return DecisionRecord(
            sequence=part.sequence,
            source=self._cameras[part.camera].source,
            part_id=part.part_id,
            frame_index=None if frame is None else frame.index,
            captured_at=None if frame is None else self._wall.utc(frame.captured_ns),
            decided_at=self._wall.utc(decided_ns),
            verdict=decision.verdict,
            reason=decision.reason,
            detail=" ".join(decision.detail.split())[:500],
            score=decision.score,
            raw_score=decision.raw_score,
            threshold=decision.threshold,
            defects=decision.defects[:MAX_DEFECTS],
            defect_count=max(part.defect_count, len(decision.defects)),
            mask=part.pictures.mask,
            overlay=part.pictures.overlay,
            timings_ms=_timings(part, decision, decided_ns, now_ns),
            package_id=None if identity is None else identity.package_id,
            settings_id=self._settings_id if identity is None else identity.settings_id,
            recipe=None if identity is None else identity.recipe,
            precision=None if identity is None else identity.precision,
            engine=None if identity is None else identity.engine,
            engine_sha256=None if identity is None else identity.engine_sha256,
            trigger_id=part.trigger_id,
            trigger_at=stamp,
            exposed_at=(
                None
                if frame is None or frame.exposed_ns is None
                else self._wall.utc(frame.exposed_ns)
            ),
            monotonic_ns=decided_ns,
            boot_id=boot_id(),
            clock_synchronised=self._synchronised(now_ns),
            deadline_met=now_ns < part.deadline_ns,
        )

    def _synchronised(self, now_ns: int) -> bool | None:
        """Looked at once a second: it is a look into the file system."""
        if self._sync_looked_ns is None or now_ns - self._sync_looked_ns > SYNC_LOOK_NS:
            self._sync_looked_ns = now_ns
            self._is_synchronised = clock_synchronised()
        return self._is_synchronised

    def _count(self, record: DecisionRecord) -> None:
        self.counters["records"] += 1
        self.counters[record.verdict.value] += 1
        if record.reason is not Reason.NONE:
            self.counters[f"reason:{record.reason.value}"] += 1

    def _remember(
        self, part: Part, record: DecisionRecord, until_ns: int | None, now_ns: int
    ) -> None:
        self.last = LastVerdict(
            trigger_id=part.trigger_id,
            sequence=part.sequence,
            verdict=record.verdict,
            reason=record.reason,
            is_accepted=until_ns is not None,
            valid_until_ns=until_ns,
            latency_ms=(now_ns - part.triggered_ns) / 1e6,
        )


def _timings(
    part: Part, decision: Decision, decided_ns: int, now_ns: int
) -> dict[str, float | None]:
    frame = part.frame
    return {
        "capture": None if frame is None else frame.capture_ms,
        "preprocess": decision.timings_ms.get("preprocess"),
        "infer": decision.timings_ms.get("infer"),
        "postprocess": decision.timings_ms.get("postprocess"),
        "deliver": (now_ns - decided_ns) / 1e6,
        "total": None if frame is None else (now_ns - frame.captured_ns) / 1e6,
    }
