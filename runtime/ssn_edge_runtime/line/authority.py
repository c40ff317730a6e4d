"""The authority: one thread that owns numbers, deadlines, state, journal and signals.

It never looks at a pixel, never calls a driver or an engine, and never waits for a worker.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from time import monotonic_ns, time_ns
from typing import cast

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import (
    ConfigError,
    SourceError,
    StorageError,
)
from ssn_edge_runtime.in_force import GENERAL
from ssn_edge_runtime.line.answers import Answer, OnAnswer
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.delivery import Delivery, LineJournal, OnRecord
from ssn_edge_runtime.line.engine_desk import EngineDesk
from ssn_edge_runtime.line.frame_desk import FrameDesk
from ssn_edge_runtime.line.intake import Intake
from ssn_edge_runtime.line.keeper_desk import KeeperDesk
from ssn_edge_runtime.line.ledger import TriggerLedger
from ssn_edge_runtime.line.options import LineOptions, TriggerKind
from ssn_edge_runtime.line.package_swap import OnSwap, PackageChange, PackageSwaps
from ssn_edge_runtime.line.settings_changes import OnSettings, SettingsChange, SettingsChanges
from ssn_edge_runtime.line.states import LineState, StateMachine
from ssn_edge_runtime.line.status import LineStatus, Outlet, WorkerStatus
from ssn_edge_runtime.line.user_actions import user_action
from ssn_edge_runtime.line.wall_clock import SleepWatch, WallClock, with_sleep_ns
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerProcess, WorkerState
from ssn_edge_runtime.line.workers import Workers
from ssn_edge_runtime.record import FIRST_SEQUENCE, EventKind, Scalar

HOUSEKEEPING_NS = 50_000_000
DROPS_NOTED_NS = 1_000_000_000

logger = logging.getLogger(__name__)

Readable = Callable[[], None]
Inhibit = Callable[[], "tuple[Reason, str] | None"]


class Authority:
    """One line: its cameras, its engine, its journal, its outlets.

    `run` is called once, in one thread; `trigger`, `encoder`, `stop` and `status` from any.

    Args:
        cameras: What each capture worker runs, by the camera's name.
        engine: What the engine worker runs.
        journal: Open; written by the thread of `run` alone.
        options: Triggers, limits, room.
        outlets: What tells the line.
        settings_id: The device settings in force.
        wall_clock: Nanoseconds since 1970, UTC.
        with_sleep: Nanoseconds of a clock that goes on while the machine is suspended.
        on_record: Called for each written record.
        on_status: Called about every 50 ms, and on each change of state: feeds a watchdog.
        inhibit: Asked before each pass; a reason and a detail make it `unknown`.
        open_journal: Opens the journal once engine and cameras are up, so that a line that never
            came up writes nothing; without it the journal is open already.
        start_detail: More that the start event is to say.
        on_settings: Told the file and the recipe whenever other settings came to be in force.

    Raises:
        ConfigError: Options that do not go together.
    """

    def __init__(
        self,
        cameras: Mapping[str, WorkerCommand],
        engine: WorkerCommand,
        journal: LineJournal,
        options: LineOptions,
        *,
        outlets: Sequence[Outlet] = (),
        settings_id: str | None = None,
        wall_clock: Callable[[], int] = time_ns,
        with_sleep: Callable[[], int] = with_sleep_ns,
        on_record: OnRecord | None = None,
        on_status: Callable[[LineStatus], None] | None = None,
        inhibit: Inhibit | None = None,
        open_journal: Callable[[], None] | None = None,
        start_detail: Mapping[str, Scalar] | None = None,
        on_settings: Callable[[str, str | None], None] = lambda settings, recipe: None,
    ) -> None:
        if not cameras:
            raise ConfigError("a line needs a camera")
        if outlets and options.drops and not options.drives_while_dropping:
            raise ConfigError(
                "a free-running line that drops frames (--policy latest) judges frames, not parts: "
                "a part may go by without a verdict. Use triggers, or --policy every; or set "
                "LineOptions.drives_while_dropping if a part without a verdict is rejected"
            )
        self.options = options
        self._journal = journal
        self._outlets = tuple(outlets)
        self._on_status = on_status
        self._states = StateMachine(monotonic_ns())
        self._sleep = SleepWatch(with_sleep)
        self._open_journal = open_journal
        self._start_detail = dict(start_detail or {})
        self._ledger = TriggerLedger(
            options.rules, next_sequence=FIRST_SEQUENCE, cameras=len(cameras)
        )
        self._cameras = {key: Camera(key, each, options) for key, each in cameras.items()}
        self._engine = EngineDesk(engine, options, self._ledger, self._cameras)
        self._delivery = Delivery(
            journal,
            self._ledger,
            self._states,
            self._outlets,
            options,
            self._cameras,
            WallClock(wall_clock, step_limit_ns=options.clock_step_ns),
            settings_id=settings_id,
            on_record=on_record,
            inhibit=inhibit,
        )
        self._frames = FrameDesk(
            self._ledger, self._engine, self._delivery, self._cameras, options, self._states
        )
        self._intake = Intake(
            options, self._cameras, self._ledger, self._delivery, self._frames, self._states
        )
        self._settings = SettingsChanges(self._engine, self._delivery, on_settings)
        self._swaps = PackageSwaps(
            self._engine, self._delivery, self._settings, options, on_settings
        )
        self._changes: deque[SettingsChange | PackageChange] = deque()
        self._recipe_lock = threading.Lock()  # held for two assignments, never for more
        self._keeper: KeeperDesk | None = None
        if options.evidence is not None:
            self._keeper = KeeperDesk(options.evidence, self._cameras, self._delivery)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ, (0, self._woken))
        self._workers = Workers(
            self._selector,
            self._engine,
            self._cameras,
            self._keeper,
            self._frames,
            self._delivery,
            self._settings,
            self._swaps,
            options,
            self._states,
            self._step_up,
        )
        self._stop_asked = False
        self._is_stopping = False
        self._is_over = False
        self._housekept_ns = 0
        self._drops_noted_ns = 0
        self._delivery.show = self._show

    def trigger(
        self,
        trigger_id: int,
        part_id: str | None = None,
        *,
        camera: str | None = None,
        recipe: str | None = None,
        at_ns: int | None = None,
        on_answer: OnAnswer = lambda answer: None,
    ) -> None:
        """Give a trigger. Safe from any thread.

        Args:
            trigger_id: Above 0 and below 2 ** 63; the same id again gets the same answer, unless it
                names another camera or another part.
            part_id: For the record.
            camera: Which one sees the part; the first without a name.
            recipe: Of the settings in force, for this part alone; ``""`` for their general ones,
                None for the one that the line was told of last.
            at_ns: When it came, on the monotonic clock, where its giver knows; else now.
            on_answer: Told the answer, once, in the line's own thread: it must not wait.

        Raises:
            ConfigError: It is none that this line takes; there is no part then.
        """
        if recipe is not None:
            self._engine.check_recipe(recipe)
        else:
            recipe = self._ledger.recipe  # now: a word that follows is not for this part
        self._intake.trigger(trigger_id, part_id, camera, recipe, at_ns, on_answer)
        if self._is_over:
            self._intake.take()  # refused, in the caller's thread: there is no other any more
        self._wake()

    def ask(
        self,
        trigger_id: int,
        part_id: str | None = None,
        *,
        camera: str | None = None,
        recipe: str | None = None,
        at_ns: int | None = None,
    ) -> Future[Answer]:
        """Give a trigger, as `trigger` does; the answer can be waited for in another thread."""
        future: Future[Answer] = Future()

        def tell(answer: Answer) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(answer)

        self.trigger(trigger_id, part_id, camera=camera, recipe=recipe, at_ns=at_ns, on_answer=tell)
        return future

    def encoder(self, count: int, at_ns: int | None = None) -> None:
        """Tell where the belt is. Safe from any thread.

        Args:
            count: Of the encoder's counter, which wraps at 32 bit.
            at_ns: When it was read, on the monotonic clock, where its reader knows; else now.

        Raises:
            ConfigError: No 32 bit count, or nothing of this line depends on an encoder.
        """
        self._intake.encoder(count, at_ns)
        self._wake()

    def use_settings(
        self, settings: str | None, recipe: str | None = None, *, on_done: OnSettings
    ) -> None:
        """Have parts judged with other settings or another recipe. Safe from any thread.

        No part waits for it and none is lost: those whose frames the engine has are judged with the
        old settings, the next ones with the new, and each record names its own. A recipe is for
        parts that are triggered from now on; those in flight keep theirs. What is refused leaves
        the old ones in force. Both are events.

        Args:
            settings: A file that does not change, such as a version that the store keeps: an engine
                that is started again reads it again. None for the one in force.
            recipe: Which of their recipes; None for the general settings.
            on_done: Told None once they are in force, or why they are not, in the line's own
                thread: it must not wait.
        """
        with self._recipe_lock:
            self._changes.append(SettingsChange(settings, recipe, on_done))
            self._ledger.recipe = recipe or GENERAL
        if self._is_over:
            self._take_changes()
        self._wake()

    def use_package(
        self,
        package: str,
        settings: str | None = None,
        recipe: str | None = None,
        *,
        asked_by: str,
        on_done: OnSwap,
    ) -> None:
        """Have parts judged by another package, without missing one. Safe from any thread.

        It is opened, certified and tested in a process of its own beside the one that judges; then
        the next part goes to it. The package before stays open for `PROBATION_PARTS` parts, and
        judges again if the new engine fails in that time: never because parts turned bad.

        Args:
            package: A file that does not change.
            settings: This device's for that package; None for its own thresholds.
            recipe: Which of their recipes.
            asked_by: Who wants it, for the record.
            on_done: Told the new package's id, or None and why the old one judges on, in the line's
                own thread: it must not wait.
        """
        self._changes.append(PackageChange(package, settings, recipe, asked_by, on_done))
        if self._is_over:
            self._take_changes()
        self._wake()

    def package(self) -> tuple[str | None, bool]:
        """The id of the package that judges, and whether it has proved itself."""
        return self._swaps.judging, self._swaps.is_settled

    def note_user(self, name: str, action: str, details: Sequence[str] = ()) -> None:
        """Record who did what; to be called in the line's thread.

        Args:
            name: Who.
            action: What, such as ``acknowledge``.
            details: More of it, each as ``key=value``.

        Raises:
            ConfigError: A word that is none.
            StorageError: It cannot be recorded.
        """
        self._delivery.note(EventKind.USER_ACTION, user_action(name, action, details))

    def stop(self) -> None:
        """End the run once all parts in flight are delivered. Safe from any thread or signal."""
        self._stop_asked = True
        self._wake()

    def watch(self, fd: int, on_readable: Readable) -> None:
        """Call a function of the line's thread whenever a descriptor can be read."""
        self._selector.register(fd, selectors.EVENT_READ, (0, on_readable))

    def unwatch(self, fd: int) -> None:
        """The end of `watch`."""
        self._selector.unregister(fd)

    def evict_evidence(self, sequence: int) -> None:
        """Have the keeper delete the evidence of parts up to a number, and wait for it.

        For another thread than the line's: one that has their records retired.

        Raises:
            StorageError: The line ended first.
        """
        if self._keeper is not None:
            self._keeper.evict_up_to(sequence)

    def status(self, *, with_latency: bool = False) -> LineStatus:
        """The line as it is now."""
        counters = dict(self._delivery.counters)
        identity = self._delivery.identity
        return LineStatus(
            state=self._states.state,
            cause=self._states.cause,
            since_ns=self._states.since_ns,
            at_ns=monotonic_ns(),
            counters=counters,
            in_flight=len(self._ledger.undecided),
            last=self._delivery.last,
            workers=tuple(_worker_status(worker) for worker in self._workers.all),
            latency_ms=self._delivery.latencies.summaries() if with_latency else {},
            settings_id=None if identity is None else identity.settings_id,
            recipe=None if identity is None else identity.recipe,
        )

    def run(self) -> None:
        """Judge until stopped, until a recording's end, or until something does not mend.

        Raises:
            StorageError: Decisions cannot be recorded any more.
            EngineError: The engine cannot be opened, or its restarts are spent.
            SourceError: The same for a camera.
            SsnEdgeError: What else a worker said that it cannot open.
        """
        try:
            try:
                self._begin()
                while not self._is_done():
                    self._turn()
                self._finish()
            except Exception as error:
                self._fail(error)
                raise
        finally:
            self._shut()

    def _begin(self) -> None:
        self._delivery.note(
            EventKind.START,
            {
                "trigger": self.options.trigger.value,
                "policy": self.options.policy.value,
                "deadline_ms": self.options.rules.deadline_ns / 1e6,
                "cameras": ", ".join(self._cameras),
                **self._start_detail,
            },
        )
        if self._open_journal is None:
            self._begin_journal()

    def _begin_journal(self) -> None:
        if self._open_journal is not None:
            self._open_journal()
        self._delivery.begin()
        self._ledger.begin_at(self._journal.next_sequence)
        if self.options.trigger is TriggerKind.SOFTWARE:
            self._delivery.recall()

    def _turn(self) -> None:
        events = self._selector.select(self._timeout_s())
        self._look_for_sleep()
        # Triggers before frames: a frame must find the trigger that it belongs to.
        for key, _ in sorted(events, key=_priority):
            key.data[1]()
        now_ns = monotonic_ns()
        if self._stop_asked and not self._is_stopping:
            self._intake.take()  # what was given before the stop is still to be answered
            self._is_stopping = self._workers.is_stopping = True
            self._intake.is_open = False
            self._frames.stop()
        if now_ns - self._housekept_ns >= HOUSEKEEPING_NS:
            self._housekept_ns = now_ns
            self._housekeep(now_ns)
        self._intake.tick(now_ns)
        self._frames.admit(monotonic_ns())
        self._ledger.expire(monotonic_ns())
        self._settings.feed()
        self._swaps.feed(monotonic_ns())
        with self._recipe_lock:  # else a word that comes in this moment is forgotten
            identity = self._engine.identity
            if not self._changes and self._settings.is_settled and identity is not None:
                self._ledger.recipe = identity.recipe or GENERAL
        self._engine.feed()
        self._release()
        self._delivery.signals.due(monotonic_ns())

    def _look_for_sleep(self) -> None:
        """Deadlines stand still while the machine is suspended; what is in hand is not judged."""
        slept_ns = self._sleep.slept_ns()
        if not slept_ns:
            return
        detail = f"the machine was suspended for {slept_ns / 1e9:.1f} s"
        now_ns = monotonic_ns()
        self._ledger.distrust_all(detail, now_ns)
        self._delivery.signals.withhold_all(detail, now_ns)
        self._delivery.take_back_passes()
        self._delivery.counters["suspensions"] += 1
        self._delivery.note(EventKind.CLOCK_STEP, {"suspended_ms": slept_ns / 1e6})

    def _release(self) -> None:
        self._look_for_sleep()
        while (part := self._ledger.release(monotonic_ns())) is not None:
            self._frames.parts_done += 1
            try:
                record = self._delivery.deliver(part)
                if self._keeper is not None:
                    self._keeper.offer(part.frame, record)
            finally:
                if part.frame is not None:
                    self._cameras[part.frame.camera].let_go(part.frame)

    def _is_done(self) -> bool:
        if not self._is_all_delivered():
            return False
        return self._keeper is None or self._keeper.is_settled(monotonic_ns())

    def _is_all_delivered(self) -> bool:
        if not self._ledger.is_empty:
            return False
        limit = self.options.max_parts
        is_full = limit is not None and self._frames.parts_done >= limit
        if not (is_full or self._is_stopping or self._frames.is_ended):
            return False
        self._delivery.signals.end_without_belt(monotonic_ns())
        return self._delivery.signals.is_empty

    def _finish(self) -> None:
        self._note_drops()
        if self._keeper is not None:
            self._keeper.finish()
        if self._states.state.may_pass:
            self._go_to(LineState.READY, "all is delivered")
        self._go_to(LineState.HALTED, "the run ended")

    def _fail(self, error: Exception) -> None:
        """Everything in hand becomes `unknown`; no signal is given any more."""
        reason = Reason.ENGINE_ERROR
        if isinstance(error, StorageError):
            reason = Reason.STORAGE_ERROR
        elif isinstance(error, SourceError):
            reason = Reason.NO_FRAME
        detail = " ".join(str(error).split())[:500]
        now_ns = monotonic_ns()
        try:
            if self._states.state is not LineState.ERROR:
                change = self._states.go_to(LineState.ERROR, detail, now_ns)
                self._delivery.show_all(self.status())
                self._delivery.note(
                    EventKind.STATE,
                    {"before": change.before, "after": change.after, "cause": detail},
                )
        except StorageError:
            logger.debug("the end cannot be recorded", exc_info=True)
        for part in self._ledger.undecided:
            self._ledger.fail(part, reason, detail, now_ns)
        while (released := self._ledger.release(now_ns)) is not None:
            try:
                self._delivery.deliver(released)
            except StorageError:
                continue
        try:
            self._delivery.signals.withhold_all("the line failed", monotonic_ns())
            self._note_drops()
            if self._keeper is not None:
                self._keeper.finish()
        except StorageError:
            logger.debug("the end cannot be recorded", exc_info=True)
        self._delivery.answers.answer_all(detail)

    def _shut(self) -> None:
        self._is_over = True
        self._intake.is_open = False
        self._intake.take()
        self._take_changes()
        self._settings.end()
        self._swaps.end()
        if self._keeper is not None:
            self._keeper.close()
        self._workers.end(self.options.stop_grace_s)
        for camera in self._cameras.values():
            camera.close()
        self._selector.close()
        os.close(self._wake_fd)
        self._wake_fd = -1
        if self._states.state not in (LineState.HALTED, LineState.ERROR):
            self._states.go_to(LineState.HALTED, "the run was broken off", monotonic_ns())
        self._show()

    # Time

    def _timeout_s(self) -> float:
        due = [
            self._housekept_ns + HOUSEKEEPING_NS,
            self._ledger.next_deadline_ns(),
            self._delivery.signals.next_ns(),
            self._intake.next_tick_ns,
        ]
        until_ns = min(each for each in due if each is not None)
        return max(0.0, (until_ns - monotonic_ns()) / 1e9)

    def _housekeep(self, now_ns: int) -> None:
        self._workers.look_after(now_ns)
        self._delivery.look_at_clock()
        if now_ns - self._drops_noted_ns >= DROPS_NOTED_NS:
            self._drops_noted_ns = now_ns
            self._note_drops()
            self._delivery.check_journal()
        self._step_up()
        if self._on_status is not None:
            self._on_status(self.status())

    def _note_drops(self) -> None:
        for camera in self._cameras.values():
            for detail in camera.take_drops():
                self._delivery.note(EventKind.DROP_RANGE, detail)

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._wake_fd)
        self._take_changes()
        self._intake.take()

    def _take_changes(self) -> None:
        while self._changes:
            try:
                change = self._changes.popleft()
            except IndexError:
                return
            if isinstance(change, PackageChange):
                if self._is_over:
                    self._delivery.tell(change.on_done, None, "the line ended")
                else:
                    self._swaps.ask(change)
            elif self._is_over:
                self._delivery.tell(change.on_done, "the line ended")
            else:
                self._settings.ask(change)

    # State

    def _step_up(self) -> None:
        """From start to execution, once every worker has been up."""
        if self._states.state is not LineState.PREOPERATIONAL or self._is_stopping:
            return
        if any(worker.state is not WorkerState.RUNNING for worker in self._workers.needed):
            return
        if self._keeper is not None and self._keeper.is_starting:
            return  # else the first frames would be left out
        if self._open_journal is not None:
            self._begin_journal()
        granted = {worker.name: "; ".join(worker.granted) for worker in self._workers.all}
        self._go_to(
            LineState.INITIALIZED,
            "engine and cameras are up",
            {name: text for name, text in granted.items() if text},
        )
        self._go_to(LineState.READY, "all is ready")
        is_single = self.options.max_parts == 1
        self._go_to(
            LineState.SINGLE_EXECUTION if is_single else LineState.CONTINUOUS_EXECUTION, "started"
        )

    def _go_to(
        self, state: LineState, cause: str, more: Mapping[str, Scalar] | None = None
    ) -> None:
        if state is self._states.state:
            return
        change = self._states.go_to(state, cause, monotonic_ns())
        self._delivery.note(
            EventKind.STATE,
            {
                "before": change.before.value,
                "after": change.after.value,
                "cause": cause,
                **(more or {}),
            },
        )
        self._show()
        if self._on_status is not None:
            self._on_status(self.status())

    def _show(self) -> None:
        if self._outlets:
            self._delivery.show_all(self.status())


def _priority(event: tuple[selectors.SelectorKey, int]) -> int:
    return cast(int, event[0].data[0])


def _worker_status(worker: WorkerProcess) -> WorkerStatus:
    return WorkerStatus(
        worker.name,
        worker.state.value,
        worker.pid,
        worker.budget.ever,
        worker.ending,
        worker.granted,
    )
