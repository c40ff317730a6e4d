"""The line in one process: source to judge to journal, and then to whatever follows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Event
from time import monotonic, monotonic_ns
from typing import Protocol, cast

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import ConfigError, SourceError, StorageError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks
from ssn_edge_runtime.record import (
    MAX_DEFECTS,
    DecisionRecord,
    EventKind,
    EventRecord,
    Scalar,
    boot_id,
    clock_synchronised,
)
from ssn_edge_runtime.sinks.base import Follower, PictureNames
from ssn_edge_runtime.sinks.journal import Journal
from ssn_edge_runtime.sound_decision import is_sound
from ssn_edge_runtime.sources.base import Source
from ssn_edge_runtime.sources.reader import Captured, Reader
from ssn_edge_runtime.sources.reopening import ReopenBudget, Reopening
from ssn_edge_runtime.summary import LineSummary, Tally

FRAME_TIMEOUT_S = 5.0
LONGEST_DETAIL = 500
_DROPS_LOGGED_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Judge(Protocol):
    """What the loop needs of an `Inspector`."""

    @property
    def package_id(self) -> str:
        """SHA-256 of the package's manifest."""
        ...

    @property
    def precision(self) -> str:
        """Which of the package's models runs."""
        ...

    @property
    def engine_name(self) -> str:
        """What runs it."""
        ...

    @property
    def engine_sha256(self) -> str:
        """Hash of the file that runs."""
        ...

    def inspect(self, frame: ByteImage) -> Decision:
        """Judge one frame."""
        ...


class LineObserver(Protocol):
    """Watches a run: counts, raises alarms, changes settings between parts, may halt the line.

    It never changes a verdict that was given, and what it raises ends the run.
    """

    def before_part(self) -> Decision | None:
        """A part is about to be judged; the `unknown` that it gets instead, if it must not be."""
        ...

    def after_part(self, record: DecisionRecord) -> None:
        """A part's record is written."""
        ...

    def take_events(self) -> Sequence[EventRecord]:
        """What the journal is to note, once each."""
        ...

    @property
    def halted(self) -> str | None:
        """Why the line must not go on; None for no reason."""
        ...


@dataclass(frozen=True, slots=True)
class _Drops:
    """Dropped frames that were not logged yet: how many, the first and the last index."""

    count: int
    first: int
    last: int


OnDecision = Callable[[DecisionRecord, Decision], None]


def run_line(
    source: Source,
    judge: Judge,
    journal: Journal,
    followers: Sequence[Follower] = (),
    *,
    max_frames: int | None = None,
    stop: Event | None = None,
    frame_timeout_s: float = FRAME_TIMEOUT_S,
    reopen: ReopenBudget | None = None,
    on_decision: OnDecision | None = None,
    on_end: Callable[[LineSummary], None] | None = None,
    observer: LineObserver | None = None,
    is_shadow: bool = False,
    start_detail: Mapping[str, Scalar] | None = None,
) -> LineSummary:
    """Judge all frames of a source; each gets one record, in order, before anything else is told.

    A reader thread reads ahead; the judge runs in the caller's thread. A camera's frames that come
    while the judge is busy are dropped, all but the newest, and counted; a recording waits.

    What goes wrong becomes `unknown`: a damaged picture or incomplete frame (`bad_frame`), what
    `frame_stream_checks` finds in a camera's frames (`frozen_frame`, `frame_size`, `stale_frame`),
    a judge that raises (`engine_error`) or answers with something that is no sound decision
    (`invalid_output`), a source that stalls or fails (`no_frame`, once for each outage). A lost
    camera is then opened again within a budget.

    **What this single-process mode cannot promise.** There is no deadline: an engine or driver call
    that hangs, hangs the line with it, no verdict comes, and nothing here can kill it; one that
    holds the interpreter lock stops every thread, the journal's sync as well. A crash in a library
    ends the process. So whatever acts on a verdict must take silence for reject and must not hold
    a pass. It judges frames as they come, not triggers: the time of exposure is not known, an old
    frame from a driver's queue is not recognised as stale, and a part between two frames, or one
    whose frame was dropped, gets no verdict.

    Args:
        source: An open source; it is closed and opened again when a camera is lost.
        judge: An `Inspector`.
        journal: An open journal. When it cannot be written, the run ends.
        followers: Open followers, written to after the journal. One that cannot plan, or fails with
            a storage error, is counted and the line goes on.
        max_frames: Ends the run after so many frames.
        stop: Ends the run after the part in hand; set it from a signal handler.
        frame_timeout_s: Longest wait for a frame of a live source, in seconds.
        reopen: How often a lost camera is opened again.
        on_decision: Called for each part once its record is written, before the followers; what it
            raises ends the run.
        on_end: Called once with the summary, also when the run ends with an error.
        observer: Watches the run, and may halt it: the run then ends after the part in hand, as
            with `stop`, and `observer.halted` says why.
        is_shadow: Judge and record, drive nothing: `on_decision` is never called. The journal's
            start event says so.
        start_detail: More that the start event is to say.

    Returns:
        The summary.

    Raises:
        SourceError: The source failed, and could not be opened again within the budget.
        StorageError: The journal can no longer be written.
    """
    if not frame_timeout_s > 0:
        raise ConfigError(f"the frame timeout is {frame_timeout_s} s; it must be above 0")
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"a run of {max_frames} frames is none; ask for 1 or more")
    line = _Line(
        source,
        judge,
        journal,
        followers,
        max_frames=math.inf if max_frames is None else max_frames,
        stop=Event() if stop is None else stop,
        frame_timeout_s=frame_timeout_s,
        budget=ReopenBudget() if reopen is None else reopen,
        on_decision=None if is_shadow else on_decision,
        observer=observer,
        start_detail={"shadow": is_shadow, **(start_detail or {})},
    )
    try:
        line.run()
    finally:
        summary = line.summary()
        if on_end is not None:
            on_end(summary)
    return summary


class _Line:
    """One run, with what it must remember between frames."""

    def __init__(
        self,
        source: Source,
        judge: Judge,
        journal: Journal,
        followers: Sequence[Follower],
        *,
        max_frames: float,
        stop: Event,
        frame_timeout_s: float,
        budget: ReopenBudget,
        on_decision: OnDecision | None,
        observer: LineObserver | None,
        start_detail: Mapping[str, Scalar],
    ) -> None:
        self._source = source
        self._judge = judge
        self._journal = journal
        self._followers = followers
        self._max_frames = max_frames
        self._stop = stop
        self._frame_timeout_s = frame_timeout_s
        self._reopening = Reopening(budget)
        self._checks = FrameStreamChecks.for_source(source)
        self._on_decision = on_decision
        self._observer = observer
        self._start_detail = start_detail
        # A judge of one's own need not know settings.
        self._settings_id = cast("str | None", getattr(judge, "settings_id", None))
        self._recipe = cast("str | None", getattr(judge, "recipe", None))
        self._tally = Tally()
        self._last_index: int | None = None
        self._drops: _Drops | None = None
        self._drops_logged_s = monotonic()
        self._engine_errors = 0
        self._is_stuck = False

    def run(self) -> None:
        """Go through the source to its end, opening a lost camera again."""
        self._journal.note(
            EventRecord.now(
                EventKind.START,
                {
                    "source": self._source.name,
                    "package_id": self._judge.package_id,
                    "precision": self._judge.precision,
                    "engine": self._judge.engine_name,
                    "engine_sha256": self._judge.engine_sha256,
                    "settings_id": self._settings_id,
                    "recipe": self._recipe,
                    **self._start_detail,
                },
            )
        )
        self._decide_open_triggers()
        while True:
            failure = self._run_until_end()
            if failure is None or self._is_halted():
                return
            if self._is_stuck:
                raise SourceError(
                    f"{failure}; the driver does not return, so this process cannot open it again"
                ) from failure
            if not self._source.is_live:
                raise failure
            self._note_source(EventKind.SOURCE_LOST, _one_line(failure))
            if not self._reopening.open_again(self._source, failure, self._stop):
                return
            self._note_source(EventKind.SOURCE_BACK, f"after {self._reopening.attempts} attempts")
            self._tally.reopened += 1
            self._checks.reopened()

    def summary(self) -> LineSummary:
        """The run so far."""
        return self._tally.summary(pictures_shed=sum(each.shed for each in self._followers))

    def _run_until_end(self) -> SourceError | None:
        """Judge until the source or the run ends; returns the source's failure, if it failed."""
        reader = Reader(self._source, timeout_s=self._frame_timeout_s)
        try:
            with reader:
                while self._tally.frames < self._max_frames and not self._is_halted():
                    try:
                        captured = reader.take(self._stop)
                    except SourceError as error:
                        # At once: the reader may need long to come back from the driver.
                        self._deliver(unknown(Reason.NO_FRAME, _one_line(error)), None)
                        return error
                    if captured is None:
                        return None
                    self._tally.frames += 1
                    self._deliver(self._judged(captured), captured)
                    self._after_frame(captured)
            return None
        finally:
            self._is_stuck = reader.is_stuck
            self._log_drops()

    def _is_halted(self) -> bool:
        return self._observer is not None and self._observer.halted is not None

    def _note_events(self) -> None:
        if self._observer is not None:
            for event in self._observer.take_events():
                self._journal.note(event)

    def _after_frame(self, captured: Captured) -> None:
        now_s = monotonic()
        self._reopening.frame_came()
        part = captured.frame or captured.damage
        if part is not None:
            self._count_drops(part.index)
        if now_s - self._drops_logged_s > _DROPS_LOGGED_EVERY_S:
            self._drops_logged_s = now_s
            self._log_drops()

    def _count_drops(self, index: int) -> None:
        before = index - 1 if self._last_index is None else self._last_index
        self._last_index = index
        if index - before > 1:
            first = before + 1 if self._drops is None else self._drops.first
            count = 0 if self._drops is None else self._drops.count
            self._drops = _Drops(count + index - before - 1, first, index - 1)
            self._tally.dropped += index - before - 1

    def _log_drops(self) -> None:
        drops, self._drops = self._drops, None
        if drops is not None:
            self._journal.note(
                EventRecord.now(
                    EventKind.DROP_RANGE,
                    {
                        "source": self._source.name,
                        "cause": "the judge was busy",
                        "frames": drops.count,
                        "first_frame_index": drops.first,
                        "last_frame_index": drops.last,
                    },
                )
            )
            logger.info(
                "%s: %d frames between %d and %d were dropped, newer ones came while the judge was "
                "busy",
                self._source.name,
                drops.count,
                drops.first,
                drops.last,
            )

    def _note_source(self, event: EventKind, what: str) -> None:
        self._journal.note(EventRecord.now(event, {"source": self._source.name, "what": what}))

    def _decide_open_triggers(self) -> None:
        """Triggers that an earlier run of the folder accepted and never decided."""
        for trigger in self._journal.open_triggers:
            self._journal.write(
                DecisionRecord(
                    sequence=trigger.sequence,
                    source=trigger.source,
                    part_id=trigger.part_id,
                    decided_at=datetime.now(timezone.utc),
                    verdict=Verdict.UNKNOWN,
                    reason=Reason.RESTART,
                    detail="the run that accepted this trigger ended before it was decided",
                    timings_ms={},
                    package_id=self._judge.package_id,
                    trigger_id=trigger.trigger_id,
                    trigger_at=trigger.trigger_at,
                    monotonic_ns=monotonic_ns(),
                    boot_id=boot_id(),
                    clock_synchronised=clock_synchronised(),
                )
            )

    def _judged(self, captured: Captured) -> Decision:
        instead = None if self._observer is None else self._observer.before_part()
        self._note_events()
        frame = captured.frame
        if frame is None:
            return unknown(Reason.BAD_FRAME, _one_line(captured.damage))
        fault = self._checks.check(frame)
        if fault is not None:
            return unknown(fault.reason, fault.detail)
        if instead is not None:
            return instead
        try:
            decision = self._judge.inspect(frame.image)
        except Exception as error:  # the loop's one broad handler; it answers UNKNOWN
            self._engine_errors += 1
            if self._engine_errors == 1:  # repeats are counted, in the summary's reasons
                logger.exception("the judge failed")
            return unknown(Reason.ENGINE_ERROR, _one_line(f"the judge failed: {error!r}"))
        if not is_sound(decision):
            return unknown(Reason.INVALID_OUTPUT, "the judge gave no sound decision")
        return decision

    def _deliver(self, decision: Decision, captured: Captured | None) -> None:
        """Journal first, then whoever acts on the verdict, then the followers.

        Raises:
            StorageError: The part was not recorded; or it was, as `unknown`, and no further one is.
        """
        trouble = self._storage_trouble()
        if trouble is not None:
            decision = unknown(Reason.STORAGE_ERROR, _one_line(trouble))
        self._record(decision, captured)
        if trouble is not None:
            raise trouble

    def _storage_trouble(self) -> StorageError | None:
        """Why the journal is about to fail, while it can still take a part's record."""
        try:
            self._journal.check()
        except StorageError as error:
            return error
        return None

    def _record(self, decision: Decision, captured: Captured | None) -> None:
        judged_ns = monotonic_ns()
        decided_at = datetime.now(timezone.utc)
        frame = None if captured is None else captured.frame
        damage = None if captured is None else captured.damage
        part = frame or damage
        self._follow_settings(decision)
        sequence = self._journal.next_sequence
        names = PictureNames()
        for follower in self._followers:
            try:
                planned = follower.plan(sequence, frame, decision)
            except Exception as error:  # noqa: BLE001 - a part must not lose its record by pictures
                self._follower_failed(error)
                continue
            names = PictureNames(names.mask or planned.mask, names.overlay or planned.overlay)

        ready_ns = monotonic_ns()
        timings_ms: dict[str, float | None] = {
            "capture": None if captured is None else captured.capture_ms,
            "preprocess": decision.timings_ms.get("preprocess"),
            "infer": decision.timings_ms.get("infer"),
            "postprocess": decision.timings_ms.get("postprocess"),
            "deliver": (ready_ns - judged_ns) / 1e6,
            "total": None if frame is None else (ready_ns - frame.captured_monotonic_ns) / 1e6,
        }
        record = DecisionRecord(
            sequence=sequence,
            source=self._source.name,
            part_id=None if part is None else part.part_id,
            frame_index=None if part is None else part.index,
            captured_at=None if frame is None else frame.captured_at,
            decided_at=decided_at,
            verdict=decision.verdict,
            reason=decision.reason,
            detail=_one_line(decision.detail),
            score=decision.score,
            raw_score=decision.raw_score,
            threshold=decision.threshold,
            zone=decision.zone,
            brightness=decision.brightness,
            defects=decision.defects[:MAX_DEFECTS],
            defect_count=len(decision.defects),
            mask=names.mask,
            overlay=names.overlay,
            timings_ms=timings_ms,
            package_id=self._judge.package_id,
            settings_id=self._settings_id,
            recipe=self._recipe,
            precision=self._judge.precision,
            engine=self._judge.engine_name,
            engine_sha256=self._judge.engine_sha256,
            monotonic_ns=judged_ns,
            boot_id=boot_id(),
            clock_synchronised=clock_synchronised(),
            frame_sha256=None if captured is None else captured.sha256,
        )
        self._journal.write(record)

        write_ms = (monotonic_ns() - ready_ns) / 1e6
        total_ms = timings_ms["total"]
        self._tally.add(
            record,
            timings_ms
            | {"write": write_ms, "total": None if total_ms is None else total_ms + write_ms},
        )
        if self._on_decision is not None:
            self._on_decision(record, decision)
        if self._observer is not None:
            self._observer.after_part(record)
            self._note_events()
        for follower in self._followers:
            try:
                follower.write(record, frame, decision)
            except (StorageError, OSError) as error:
                self._follower_failed(error)

    def _follow_settings(self, decision: Decision) -> None:
        """A change of settings is in the journal before the first part that they judged."""
        found = decision.settings_id, decision.recipe
        if decision.settings_id is None or found == (self._settings_id, self._recipe):
            return  # the line's own decision, or nothing new
        self._journal.note(
            EventRecord.now(
                EventKind.SETTINGS,
                {
                    "settings_id": found[0],
                    "recipe": found[1],
                    "previous_settings_id": self._settings_id,
                    "previous_recipe": self._recipe,
                },
            )
        )
        self._settings_id, self._recipe = found

    def _follower_failed(self, error: Exception) -> None:
        self._tally.followers_failed += 1
        if self._tally.followers_failed == 1:
            logger.warning("a follower failed, the line goes on: %s", _one_line(error))


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:LONGEST_DETAIL]
