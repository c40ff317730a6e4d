"""Another package for a line that runs: opened beside the one that judges, then put in its place.

Both engines are in memory from the asking until the new one has proved itself, and opening one
takes time of the processor beside the line. No part waits for that: it waits, once, until the jobs
in the old engine's hands are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic_ns

from ssn_edge_runtime.decision import Decision, Reason
from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.engine_desk import EngineDesk, JudgeIdentity
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.line.settings_changes import SettingsChanges
from ssn_edge_runtime.line.worker_process import (
    SECOND_NS,
    WorkerCommand,
    WorkerProcess,
    WorkerState,
)
from ssn_edge_runtime.record import EventKind, Scalar

PROBATION_PARTS = 100
"""So many parts without an error of the new engine, and the old one is let go."""
PROBATION_NS = 600 * SECOND_NS
"""Or so long, where few parts come: the old one's memory is not held for ever."""
LEAVING_NS = 10 * SECOND_NS
ENGINE_FAULTS = (Reason.ENGINE_ERROR, Reason.INVALID_OUTPUT)
"""What brings the old package back: the engine failed. Parts that are bad never do."""

OnSwap = Callable[["str | None", "str | None"], None]
"""Told the id of the package that judges now, or None and in one line why it is not in force."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """What is to judge from now on.

    Args:
        package: A file that does not change: an engine that is started again opens it again.
        settings: This device's for that package, likewise; None for the package's thresholds.
        recipe: Which of their recipes.
        asked_by: Who wants it, for the record.
        on_done: Told what came of it, in the line's thread: it must not wait.
    """

    package: str
    settings: str | None
    recipe: str | None
    asked_by: str
    on_done: OnSwap


@dataclass(slots=True)
class _Candidate:
    """An engine that is being opened, or is ready and waits for the old one's last answers."""

    change: PackageChange
    worker: WorkerProcess
    identity: JudgeIdentity | None = None


@dataclass(slots=True)
class _Standby:
    """The engine before, open still, while the new one is on probation."""

    worker: WorkerProcess
    identity: JudgeIdentity
    until_ns: int
    parts: int = 0
    fault: str = ""
    """Why it is to judge again."""


class PackageSwaps:
    """One swap at a time; the next is refused until the last one has proved itself or gone back.

    Args:
        engine: Whose worker is exchanged.
        delivery: Notes what came of it.
        settings: Changes of settings: one that was told is answered before an exchange.
        options: Of the line.
        on_settings: Told the file and the recipe that came to be in force with a package.
    """

    def __init__(
        self,
        engine: EngineDesk,
        delivery: Delivery,
        settings: SettingsChanges,
        options: LineOptions,
        on_settings: Callable[[str, str | None], None],
    ) -> None:
        self._engine = engine
        self._delivery = delivery
        self._settings = settings
        self._options = options
        self._on_settings = on_settings
        self._candidate: _Candidate | None = None
        self._standby: _Standby | None = None
        self._leaving: dict[str, tuple[WorkerProcess, int]] = {}
        self._waiting: deque[PackageChange] = deque()
        self._count = 1
        is_held = engine.is_held
        engine.is_held = lambda: is_held() or self._is_due

    @property
    def workers(self) -> tuple[WorkerProcess, ...]:
        """Those beside the one that judges."""
        found = [worker for worker, _ in self._leaving.values()]
        if self._standby is not None:
            found.append(self._standby.worker)
        if self._candidate is not None:
            found.append(self._candidate.worker)
        return tuple(found)

    @property
    def on_probation(self) -> bool:
        """Whether the engine before could judge again."""
        return self._standby is not None

    @property
    def judging(self) -> str | None:
        """The id of the package that judges now; None before one does."""
        return None if self._engine.identity is None else self._engine.identity.package_id

    @property
    def is_settled(self) -> bool:
        """Whether what judges has proved itself, and nothing else is on its way."""
        return not (self._standby or self._candidate or self._waiting)

    def owns(self, worker: WorkerProcess) -> bool:
        """Whether a worker is one of these."""
        return any(each is worker for each in self.workers)

    def ask(self, change: PackageChange) -> None:
        """Have another package opened beside the one that judges."""
        self._waiting.append(change)

    def start(self, worker: WorkerProcess, now_ns: int) -> None:
        """Start the process of the package that was asked for."""
        self._engine.start(now_ns, worker)

    def feed(self, now_ns: int) -> None:
        """Take the next step of a swap, if there is one to take."""
        self._begin()
        for worker, until_ns in self._leaving.values():
            if now_ns >= until_ns:
                worker.kill("did not end when asked to")
        standby = self._standby
        if standby is not None and not standby.fault and now_ns >= standby.until_ns:
            self._settle()
        if not self._is_due or not self._engine.is_idle or self._settings.is_telling:
            return
        if self._standby is not None:
            self._go_back(now_ns)
        elif self._candidate is not None:
            self._exchange(self._candidate, now_ns)

    def take(self, worker: WorkerProcess, message: Message, now_ns: int) -> None:
        """Take what one of these workers says.

        Raises:
            MessageError: It is not its to say.
        """
        candidate = self._candidate
        if candidate is None or worker is not candidate.worker:
            if message.kind == "settings":
                return  # the answer to what was told just before it left
            raise MessageError(f"an engine that does not judge says no {message.kind!r}")
        if message.kind == "ready":
            candidate.identity = JudgeIdentity.of(message)
            worker.ready(now_ns, message.texts("granted"))
        elif message.kind == "failed":
            self._refuse(message.text("detail"))
            self._leave(worker, now_ns)  # its process ends now
        else:
            raise MessageError(f"an engine that is being opened says no {message.kind!r}")

    def judged(self, decision: Decision) -> None:
        """Look at an answer of the engine that judges, while it is on probation."""
        standby = self._standby
        if standby is None or standby.fault:
            return
        if decision.reason in ENGINE_FAULTS:
            standby.fault = f"{decision.reason}: {decision.detail}"
            return
        standby.parts += 1
        if standby.parts >= PROBATION_PARTS:
            self._settle()

    def engine_gone(self, ending: str) -> bool:
        """The engine that judges was reaped: whether the one before takes its place."""
        if self._standby is None:
            return False
        self._standby.fault = self._standby.fault or f"the engine {ending}"
        return True

    def worker_gone(self, worker: WorkerProcess) -> None:
        """One of these workers was reaped."""
        self._leaving.pop(worker.name, None)
        if self._candidate is not None and worker is self._candidate.worker:
            self._refuse(f"its engine {worker.ending}")
        elif self._standby is not None and worker is self._standby.worker:
            # Where both are gone, the one that judges is started again as ever.
            self._standby = None
            self._note({"standby_lost": f"the engine before {worker.ending}"})
            self._keep_taken()
            if self._engine.worker.state is WorkerState.GONE:
                self._engine.worker.start_at_ns = 0

    def end(self) -> None:
        """The run is over: whoever still waits is told."""
        changes, self._waiting = list(self._waiting), deque()
        if self._candidate is not None:
            changes.insert(0, self._candidate.change)
        for change in changes:
            self._delivery.tell(change.on_done, None, "the line ended")

    @property
    def _is_due(self) -> bool:
        """Whether engines are to be exchanged as soon as no job is in hand."""
        if self._standby is not None:
            return bool(self._standby.fault)
        return self._candidate is not None and self._candidate.identity is not None

    def _begin(self) -> None:
        while self._waiting and self._engine.identity is not None:
            change = self._waiting.popleft()
            if self._candidate is not None or self._standby is not None:
                self._refuse("another package is on its way or on probation; ask again", change)
                continue
            command = self._engine.worker.command
            if "package" not in command.arguments:
                self._refuse("what judges here is no package", change)
                continue
            self._count += 1
            worker = WorkerProcess(
                f"engine-{self._count}", _command(command, change), self._options.engine
            )
            self._candidate = _Candidate(change, worker)

    def _exchange(self, candidate: _Candidate, now_ns: int) -> None:
        before, identity = self._engine.identity, candidate.identity
        assert before is not None
        assert identity is not None
        old = self._engine.exchange(candidate.worker, identity)
        self._delivery.identity = identity
        self._candidate = None
        if old.state is WorkerState.RUNNING:
            self._standby = _Standby(old, before, now_ns + PROBATION_NS)
        elif old.state is not WorkerState.GONE:
            self._leaving[old.name] = (old, now_ns)
        self._note({**_detail(identity, before), "asked_by": candidate.change.asked_by})
        if self._standby is None:
            self._keep_taken()
        self._tell_settings()
        self._delivery.tell(candidate.change.on_done, identity.package_id, None)

    def _go_back(self, now_ns: int) -> None:
        standby, before = self._standby, self._engine.identity
        assert standby is not None
        assert before is not None
        failed = self._engine.exchange(standby.worker, standby.identity)
        self._delivery.identity = standby.identity
        self._standby = None
        if failed.state is not WorkerState.GONE:
            self._leave(failed, now_ns)
        fault = " ".join(standby.fault.split())[:500]
        self._note({**_detail(standby.identity, before), "rolled_back": fault})
        self._tell_settings()

    def _settle(self) -> None:
        standby = self._standby
        assert standby is not None
        self._standby = None
        self._leave(standby.worker, monotonic_ns())
        self._note({"settled_after_parts": standby.parts})
        self._keep_taken()

    def _keep_taken(self) -> None:
        """Have it noted that an older package is no longer taken, now and at each later start."""
        worker = self._engine.worker
        arguments = dict(worker.command.arguments)
        trust = arguments.get("trust")
        if isinstance(trust, dict):
            arguments["trust"] = {**trust, "notes_taken": True}
            worker.command = replace(worker.command, arguments=arguments)
            worker.send("settled")

    def _leave(self, worker: WorkerProcess, now_ns: int) -> None:
        worker.send("stop")
        self._leaving[worker.name] = (worker, now_ns + LEAVING_NS)

    def _tell_settings(self) -> None:
        arguments = self._engine.worker.command.arguments
        settings, recipe = arguments.get("settings"), arguments.get("recipe")
        if isinstance(settings, str):
            self._on_settings(settings, recipe if isinstance(recipe, str) else None)

    def _refuse(self, why: str, change: PackageChange | None = None) -> None:
        if change is None:
            assert self._candidate is not None
            change, self._candidate = self._candidate.change, None
        refused = " ".join(why.split())[:500]
        self._note({"refused": refused, "asked_for": change.package, "asked_by": change.asked_by})
        self._delivery.tell(change.on_done, None, refused)

    def _note(self, detail: Mapping[str, Scalar]) -> None:
        judges = self._engine.identity
        own = {} if judges is None else {"package_id": judges.package_id}
        self._delivery.note(EventKind.PACKAGE, {**own, **detail})


def _command(command: WorkerCommand, change: PackageChange) -> WorkerCommand:
    arguments = {**command.arguments, "package": str(Path(change.package).absolute())}
    for name in ("settings", "recipe"):
        arguments.pop(name, None)
    if change.settings is not None:
        settings = str(Path(change.settings).absolute())
        arguments |= {"settings": settings, "recipe": change.recipe}
    trust = arguments.get("trust")
    if isinstance(trust, dict):
        # Whatever was allowed at the start was for the start; and until it has proved itself, the
        # package before must be able to come back.
        arguments["trust"] = {**trust, "allows_older": False, "notes_taken": False}
    return replace(command, arguments=arguments)


def _detail(identity: JudgeIdentity, before: JudgeIdentity) -> dict[str, Scalar]:
    return {
        "package_id": identity.package_id,
        "precision": identity.precision,
        "engine": identity.engine,
        "engine_sha256": identity.engine_sha256,
        "settings_id": identity.settings_id,
        "recipe": identity.recipe,
        "previous_package_id": before.package_id,
        "previous_settings_id": before.settings_id,
    }
