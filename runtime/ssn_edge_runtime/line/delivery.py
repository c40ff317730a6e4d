"""From verdict to line: journal first, then the deadline once more, then the pass signal."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic_ns
from typing import Protocol

from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.latency import StageLatencies
from ssn_edge_runtime.line.answer_book import AnswerBook
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.engine_desk import JudgeIdentity
from ssn_edge_runtime.line.ledger import Part, TriggerLedger
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.line.signals import PassSignals
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
from ssn_edge_runtime.sinks.decided_triggers import DecidedTrigger

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

    def decided_triggers(self, count: int) -> tuple[DecidedTrigger, ...]:
        """The triggers that were decided last, also by earlier runs, oldest first."""
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
        self.answers = AnswerBook(options.rules.remembered, self._outlet_failed)
        self.latencies = StageLatencies()
        self.last: LastVerdict | None = None
        self.identity: JudgeIdentity | None = None
        self.show: Callable[[], None] = lambda: None
        self.signals = PassSignals(
            ledger,
            states,
            outlets,
            options.rules,
            on_withheld=self._withheld,
            on_failure=self._outlet_failed,
        )
        self._journal = journal
        self._is_open = False
        self._early: list[EventRecord] = []
        self._ledger = ledger
        self._outlets = outlets
        self._options = options
        self._drives = options.drives_while_dropping or not options.drops
        self._cameras = cameras
        self._wall = wall
        self._settings_id = settings_id
        self._on_record = on_record
        self._inhibit = inhibit
        self._stamps: dict[int, datetime] = {}
        self._is_synchronised: bool | None = None
        self._sync_looked_ns: int | None = None

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

    def recall(self) -> None:
        """Know the triggers that earlier runs decided: given again, they make no second part.

        Raises:
            StorageError: The journal cannot be read.
        """
        decided = self._journal.decided_triggers(self._options.rules.remembered)
        newest = {each.trigger_id: each.sequence for each in decided}
        for each in decided:
            if newest[each.trigger_id] != each.sequence:
                continue  # an id that had come round again
            self._ledger.recall(each.trigger_id, each.sequence, each.source)
            self.answers.keep(
                each.sequence,
                Answer(each.trigger_id, each.sequence, each.verdict, each.reason, each.detail),
            )

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
            passes = part.decision is not None and part.decision.verdict is Verdict.PASS
            if passes and self._drives:
                until_ns = self.signals.plan(part, now_ns)
            self._remember(part, record, until_ns, now_ns)
            if self._on_record is not None:
                self._on_record(record)
        except StorageError as error:
            part.decision = unknown(Reason.STORAGE_ERROR, " ".join(str(error).split())[:500])
            trouble = error
        finally:
            # Whoever was told of the record may have taken the rest of its time.
            answer = Answer.of(part, until_ns=until_ns)
            self.answers.answer(part.sequence, answer.again(monotonic_ns()))
        if trouble is not None:
            raise trouble
        self.show()
        return record

    def tell(self, on_done: Callable[..., None], *what: str | None) -> None:
        """Tell whoever asked what came of it; a listener that fails does not end the line."""
        try:
            on_done(*what)
        except Exception as error:  # noqa: BLE001 - what was done is in the journal
            self._outlet_failed(error)

    def show_all(self, status: LineStatus) -> None:
        """Show a status on all outlets."""
        for outlet in self._outlets:
            try:
                outlet.show(status)
            except Exception as error:  # noqa: BLE001 - an outlet must not end the line
                self._outlet_failed(error)

    def take_back_passes(self) -> None:
        """No pass that was told counts any more, whoever asks for it again."""
        self.answers.take_back()
        self._take_back_last()

    def _take_back_last(self) -> None:
        if self.last is not None:
            self.last = replace(self.last, is_accepted=False, valid_until_ns=None)

    def _withheld(self, part: Part, why: str) -> None:
        self.counters["withheld"] += 1
        # It may have been told while it was still to be given, at the ejector.
        self.answers.take_back(part.sequence)
        if self.last is not None and self.last.sequence == part.sequence:
            self._take_back_last()
        self.note(
            EventKind.WITHHELD,
            {"sequence": part.sequence, "trigger_id": part.trigger_id, "why": why},
        )

    def _outlet_failed(self, error: Exception) -> None:
        self.counters["outlet_failures"] += 1
        if self.counters["outlet_failures"] == 1:
            logger.warning("an outlet or a listener failed, the line goes on: %r", error)

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
        decision, frame, identity = part.decision, part.frame, part.judge or self.identity
        assert decision is not None
        stamp = self._stamps.pop(part.sequence, None)
        settings_id = self._settings_id if identity is None else identity.settings_id
        recipe = part.recipe or None
        if decision.raw_score is not None or decision.settings_id is not None:
            # It may be recorded after a change, and was judged before it.
            settings_id, recipe = decision.settings_id, decision.recipe
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
            zone=decision.zone,
            brightness=decision.brightness,
            defects=decision.defects[:MAX_DEFECTS],
            defect_count=max(part.defect_count, len(decision.defects)),
            mask=part.pictures.mask,
            overlay=part.pictures.overlay,
            timings_ms=_timings(part, decision, decided_ns, now_ns),
            package_id=None if identity is None else identity.package_id,
            settings_id=settings_id,
            recipe=recipe,
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
