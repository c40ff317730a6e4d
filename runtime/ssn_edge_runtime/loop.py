"""The line in one process: source to judge to journal, and then to whatever follows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Event
from time import monotonic, monotonic_ns
from typing import Protocol

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.errors import ConfigError, SourceError, StorageError
from ssn_edge_runtime.record import (
    MAX_DEFECTS,
    DecisionRecord,
    boot_id,
    clock_synchronised,
)
from ssn_edge_runtime.sinks.base import Follower, PictureNames
from ssn_edge_runtime.sinks.journal import Journal
from ssn_edge_runtime.sound_decision import is_sound
from ssn_edge_runtime.sources.base import Source
from ssn_edge_runtime.sources.reader import Captured, Reader
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


@dataclass(frozen=True, slots=True)
class ReopenBudget:
    """How often a lost camera is opened again before the line gives up.

    Args:
        attempts: Openings in a row; 0 gives up at once.
        pause_s: Wait before each, in seconds.
        healthy_s: Seconds of frames after which the attempts are given back.
    """

    attempts: int = 10
    pause_s: float = 2.0
    healthy_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse a loop that would spin or wait backwards."""
        if self.attempts < 0 or not self.pause_s > 0 or not self.healthy_s > 0:
            raise ConfigError(
                f"{self.attempts} attempts with a pause of {self.pause_s} s are no budget for "
                "opening a camera again; attempts must be 0 or more, times above 0"
            )


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
) -> LineSummary:
    """Judge all frames of a source; each gets one record, in order, before anything else is told.

    A reader thread reads ahead; the judge runs in the caller's thread. A camera's frames that come
    while the judge is busy are dropped, all but the newest, and counted; a recording waits.

    What goes wrong becomes `unknown`: a damaged picture (`bad_frame`), the very pixels of the frame
    before (`frozen_frame`) or another size than the run's first frame (`frame_size`) from a camera,
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
        on_decision=on_decision,
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
    ) -> None:
        self._source = source
        self._judge = judge
        self._journal = journal
        self._followers = followers
        self._max_frames = max_frames
        self._stop = stop
        self._frame_timeout_s = frame_timeout_s
        self._budget = budget
        self._on_decision = on_decision
        self._tally = Tally()
        self._shape: tuple[int, ...] | None = None
        self._last_sha256: str | None = None
        self._attempts = 0
        self._opened_s = monotonic()
        self._last_index: int | None = None
        self._drops: _Drops | None = None
        self._drops_logged_s = monotonic()
        self._engine_errors = 0
        self._is_stuck = False

    def run(self) -> None:
        """Go through the source to its end, opening a lost camera again."""
        while True:
            failure = self._run_until_end()
            if failure is None:
                return
            if self._is_stuck:
                raise SourceError(
                    f"{failure}; the driver does not return, so this process cannot open it again"
                ) from failure
            if not self._source.is_live:
                raise failure
            logger.warning("%s; trying to open it again", failure)
            if not self._open_again(failure):
                return

    def summary(self) -> LineSummary:
        """The run so far."""
        return self._tally.summary(pictures_shed=sum(each.shed for each in self._followers))

    def _run_until_end(self) -> SourceError | None:
        """Judge until the source or the run ends; returns the source's failure, if it failed."""
        reader = Reader(
            self._source, timeout_s=self._frame_timeout_s, last_sha256=self._last_sha256
        )
        try:
            with reader:
                while self._tally.frames < self._max_frames:
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
            self._last_sha256 = reader.last_sha256
            self._log_drops()
            self._is_stuck = reader.is_stuck

    def _after_frame(self, captured: Captured) -> None:
        now_s = monotonic()
        if self._attempts and now_s - self._opened_s > self._budget.healthy_s:
            self._attempts = 0
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
            logger.info(
                "%s: %d frames between %d and %d were dropped, newer ones came while the judge was "
                "busy",
                self._source.name,
                drops.count,
                drops.first,
                drops.last,
            )

    def _open_again(self, failure: SourceError) -> bool:
        """Open a lost camera again; False if the run was stopped meanwhile."""
        self._source.close()
        while self._attempts < self._budget.attempts:
            self._attempts += 1
            if self._stop.wait(self._budget.pause_s):
                return False
            try:
                self._source.open()
            except SourceError as error:
                logger.info("attempt %d: %s", self._attempts, error)
                failure = error
                continue
            self._opened_s = monotonic()
            self._tally.reopened += 1
            logger.info("%s: is back", self._source.name)
            return True
        raise SourceError(
            f"{failure} (given up after {self._attempts} attempts to open it again)"
        ) from failure

    def _judged(self, captured: Captured) -> Decision:
        frame = captured.frame
        if frame is None:
            return unknown(Reason.BAD_FRAME, _one_line(captured.damage))
        if self._source.is_live:
            if self._shape is None:
                self._shape = frame.image.shape
            if frame.image.shape != self._shape:
                return unknown(
                    Reason.FRAME_SIZE,
                    f"the camera gives {_shape_text(frame.image.shape)} now, "
                    f"it began with {_shape_text(self._shape)}",
                )
            if captured.is_repeat:
                return unknown(
                    Reason.FROZEN_FRAME, "the camera repeats the frame before, bit by bit"
                )
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
        """Journal first, then whoever acts on the verdict, then the followers."""
        judged_ns = monotonic_ns()
        decided_at = datetime.now(timezone.utc)
        frame = None if captured is None else captured.frame
        damage = None if captured is None else captured.damage
        part = frame or damage
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
            defects=decision.defects[:MAX_DEFECTS],
            defect_count=len(decision.defects),
            mask=names.mask,
            overlay=names.overlay,
            timings_ms=timings_ms,
            package_id=self._judge.package_id,
            precision=self._judge.precision,
            engine=self._judge.engine_name,
            engine_sha256=self._judge.engine_sha256,
            monotonic_ns=judged_ns,
            boot_id=boot_id(),
            clock_synchronised=clock_synchronised(),
            frame_sha256=None if captured is None else captured.sha256,
            previous=self._journal.head,
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
        for follower in self._followers:
            try:
                follower.write(record, frame, decision)
            except (StorageError, OSError) as error:
                self._follower_failed(error)

    def _follower_failed(self, error: Exception) -> None:
        self._tally.followers_failed += 1
        if self._tally.followers_failed == 1:
            logger.warning("a follower failed, the line goes on: %s", _one_line(error))


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:LONGEST_DETAIL]


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
