"""The worker processes of a line: started, listened to, watched, killed, started again."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable, Mapping
from time import monotonic_ns

from ssn_edge_runtime import errors
from ssn_edge_runtime.errors import ConfigError, EngineError, SourceError, SsnEdgeError
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.engine_desk import EngineDesk, JudgeIdentity
from ssn_edge_runtime.line.frame_desk import FrameDesk
from ssn_edge_runtime.line.keeper_desk import KeeperDesk
from ssn_edge_runtime.line.ledger import JobFate
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import LineOptions, TriggerKind
from ssn_edge_runtime.line.package_swap import PackageSwaps
from ssn_edge_runtime.line.settings_changes import SettingsChanges
from ssn_edge_runtime.line.states import LineState, StateMachine
from ssn_edge_runtime.line.worker_process import SECOND_NS, WorkerProcess, WorkerState
from ssn_edge_runtime.record import EventKind

MESSAGES_A_TURN = 64
WAITING = "waits for an engine"
"""Begins the cause of a line that is Preoperational because of it."""
ENGINE_TRIED_EVERY_NS = 3 * SECOND_NS
LINK_PRIORITY = 1
EXIT_PRIORITY = 2

logger = logging.getLogger(__name__)


class Workers:
    """The engine's worker, the cameras' and the keeper's.

    Args:
        selector: Of the authority's loop; data are a priority and a function.
        engine: Of the line.
        cameras: By key.
        keeper: Of evidence, where there is one. Its end is not the line's.
        frames: Takes what cameras say.
        delivery: Records and counts.
        settings: Changes of what the engine judges with.
        swaps: Changes of the package; they may have engines of their own.
        options: Of the line.
        states: Of the line.
        on_ready: Called when a worker has become ready.

    All methods raise the `SsnEdgeError` that ends the line: a worker that said it cannot work, one
    whose restarts are spent, one that cannot be killed.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        engine: EngineDesk,
        cameras: Mapping[str, Camera],
        keeper: KeeperDesk | None,
        frames: FrameDesk,
        delivery: Delivery,
        settings: SettingsChanges,
        swaps: PackageSwaps,
        options: LineOptions,
        states: StateMachine,
        on_ready: Callable[[], None],
    ) -> None:
        self.is_stopping = False
        self.on_ready = on_ready
        self.options = options
        self._selector = selector
        self._engine = engine
        self._cameras = cameras
        self._keeper = keeper
        self._frames = frames
        self._delivery = delivery
        self._settings = settings
        self._swaps = swaps
        self._states = states
        self._is_engine_awaited = False
        self._watched: dict[str, tuple[int, int]] = {}

    def look_after(self, now_ns: int) -> None:
        """Kill what hangs, start what is due."""
        for worker in self.all:
            if worker.trouble(now_ns) is not None:
                self._readable(worker)  # a slow disk may have kept us from hearing its pulse
                if (why := worker.trouble(monotonic_ns())) is not None:
                    self._kill(worker, why)
            if worker.is_undead(now_ns):
                if self._is_keeper(worker):
                    self._give_up_keeper(f"{worker.ending}, and a driver holds its process")
                    continue
                if self._swaps.owns(worker):
                    continue  # it judges nothing, and its memory is lost until the next start
                raise (EngineError if worker is self._engine.worker else SourceError)(
                    f"{worker.name}: {worker.ending}, and its process cannot be killed: a driver "
                    "holds it; start the device again"
                )
            self._start_if_due(worker, now_ns)
        if self._keeper is not None and self._states.state is not LineState.PREOPERATIONAL:
            self._keeper.look_after(now_ns)

    def end(self, grace_s: float) -> None:
        """Ask all to end, and see to it that they do. Waits, up to the grace for each."""
        for worker in self.all:
            self._unwatch_worker(worker)
        for worker in self.all:
            worker.send("stop")
        for worker in self.all:
            worker.end(grace_s)

    @property
    def needed(self) -> tuple[WorkerProcess, ...]:
        """Those that the line cannot judge without: the engine's, then the cameras'."""
        return (self._engine.worker, *(each.worker for each in self._cameras.values()))

    @property
    def all(self) -> tuple[WorkerProcess, ...]:
        """The engine's, then the cameras', then the keeper's, then those of another package."""
        keeper = () if self._keeper is None else (self._keeper.worker,)
        return (*self.needed, *keeper, *self._swaps.workers)

    def _is_keeper(self, worker: WorkerProcess) -> bool:
        return self._keeper is not None and worker is self._keeper.worker

    def _give_up_keeper(self, why: str) -> None:
        """Go on without evidence, and say so; once."""
        keeper = self._keeper
        if keeper is None or keeper.is_given_up:
            return
        keeper.give_up(why)
        self._delivery.note(
            EventKind.WORKER_RESTART,
            {
                "worker": keeper.worker.name,
                "why": why,
                "restarts": keeper.worker.budget.ever,
                "given_up": True,
            },
        )

    def _camera_of(self, worker: WorkerProcess) -> Camera | None:
        return next((each for each in self._cameras.values() if each.worker is worker), None)

    def _start_if_due(self, worker: WorkerProcess, now_ns: int) -> None:
        if worker.state is not WorkerState.GONE or self.is_stopping:
            return
        if worker.start_at_ns is None or now_ns < worker.start_at_ns:
            return
        camera = self._camera_of(worker)
        if worker is self._engine.worker:
            self._engine.start(now_ns)
        elif self._swaps.owns(worker):
            self._swaps.start(worker, now_ns)
        elif self._engine.identity is None:
            return  # nothing is read before there is something to judge it
        elif camera is not None:
            camera.start(now_ns)
        elif self._keeper is not None:
            self._keeper.start(now_ns)
        assert worker.socket is not None
        link_fd, exit_fd = worker.socket.fileno(), worker.exit_fd
        self._watched[worker.name] = (link_fd, exit_fd)
        self._selector.register(
            link_fd, selectors.EVENT_READ, (LINK_PRIORITY, lambda: self._readable(worker))
        )
        self._selector.register(
            exit_fd, selectors.EVENT_READ, (EXIT_PRIORITY, lambda: self._exited(worker))
        )

    def _readable(self, worker: WorkerProcess) -> None:
        camera = self._camera_of(worker)
        try:
            for _ in range(MESSAGES_A_TURN):
                now_ns = monotonic_ns()
                message = worker.receive(now_ns)
                if message is None:
                    return
                if camera is not None:
                    self._camera_says(camera, message, now_ns)
                elif self._keeper is not None and worker is self._keeper.worker:
                    self._keeper.take(message, now_ns)
                    if message.kind == "ready":
                        self.on_ready()
                elif self._swaps.owns(worker):
                    self._swaps.take(worker, message, now_ns)
                else:
                    self._engine_says(message, now_ns)
        except MessageError as error:
            self._delivery.counters["strange_messages"] += 1
            self._kill(worker, f"said what makes no sense: {error}")
        except EOFError:
            # Its exit comes next; if it lives on, it is found by its missing pulse.
            self._unwatch_link(worker)

    def _engine_says(self, message: Message, now_ns: int) -> None:
        worker = self._engine.worker
        if message.kind == "result":
            fate, decision = self._engine.result(message, now_ns)
            self._swaps.judged(decision)
            if fate is JobFate.LATE:
                self._delivery.counters["late_results"] += 1
            elif fate is JobFate.STRANGE:
                raise MessageError("an answer that nobody asked for")
            self._engine.feed()
        elif message.kind == "ready":
            identity = JudgeIdentity.of(message)
            before = self._engine.identity
            self._engine.identity = self._delivery.identity = identity
            worker.ready(now_ns, message.texts("granted"))
            if before is not None and before != identity:
                raise EngineError(
                    f"the engine came back as another one ({identity.engine}, "
                    f"{identity.precision}): start the line again to judge with it"
                )
            if before is None:
                self._delivery.note(
                    EventKind.PACKAGE,
                    {
                        "package_id": identity.package_id,
                        "precision": identity.precision,
                        "engine": identity.engine,
                        "engine_sha256": identity.engine_sha256,
                        "settings_id": identity.settings_id,
                        "recipe": identity.recipe,
                    },
                )
            self.on_ready()
        elif message.kind == "settings":
            self._settings.answered(message)
        elif message.kind == "failed":
            self._worker_failed(worker, message, EngineError)
        else:
            raise MessageError(f"an engine says no {message.kind!r}")

    def _camera_says(self, camera: Camera, message: Message, now_ns: int) -> None:
        if message.kind == "ready":
            camera.source = message.text("name")
            camera.is_live = message.flag("is_live")
            if self.options.trigger is not TriggerKind.FREE and not message.flag("tells_exposure"):
                raise ConfigError(
                    f"{camera.source}: does not tell when a frame was exposed, so that an old one "
                    "could be taken for a new part's; it cannot be used with triggers"
                )
            self._frames.camera_gone(camera, "the camera's process was away", now_ns)
            camera.worker.ready(now_ns, message.texts("granted"))
            self.on_ready()
        elif message.kind == "failed":
            self._worker_failed(camera.worker, message, SourceError)
        else:
            self._frames.take(camera, message, now_ns)

    def _worker_failed(
        self, worker: WorkerProcess, message: Message, otherwise: type[SsnEdgeError]
    ) -> None:
        """A worker said that it cannot work: that is no accident, so starting it again is vain."""
        kind = getattr(errors, message.text("error"), otherwise)
        if not (isinstance(kind, type) and issubclass(kind, SsnEdgeError)):
            kind = otherwise
        if (
            self.options.waits_for_engine
            and kind is EngineError
            and self._states.state is LineState.PREOPERATIONAL
        ):
            self._is_engine_awaited = True  # its process ends now
            self._states.explain(f"{WAITING}: {message.text('detail')}")
            return
        raise kind(f"{message.text('detail')} (the line was {self._states.state})")

    def _exited(self, worker: WorkerProcess) -> None:
        self._readable(worker)  # its last words
        if not worker.reap():
            return
        self._unwatch_worker(worker)
        now_ns = monotonic_ns()
        camera = self._camera_of(worker)
        if camera is not None:
            camera.worker_gone()
            self._frames.camera_gone(camera, f"the camera's process {worker.ending}", now_ns)
        elif self._keeper is not None and worker is self._keeper.worker:
            self._keeper.worker_gone()
        elif self._swaps.owns(worker):
            self._swaps.worker_gone(worker)
            return
        else:
            self._engine.worker_gone(now_ns)
            self._settings.worker_gone()
            if self._swaps.engine_gone(worker.ending):
                return  # it is not started again: the engine before judges on
            if self._is_engine_awaited:
                self._is_engine_awaited = False
                worker.start_at_ns = now_ns + ENGINE_TRIED_EVERY_NS
                return
        if self.is_stopping:
            return  # what is in flight has its deadline
        start_at_ns = worker.budget.take(now_ns)
        if start_at_ns is None and self._is_keeper(worker):
            self._give_up_keeper(f"{worker.ending}, once more than its restarts")
            return
        self._delivery.note(
            EventKind.WORKER_RESTART,
            {
                "worker": worker.name,
                "why": worker.ending,
                "restarts": worker.budget.ever,
                "given_up": start_at_ns is None,
            },
        )
        if start_at_ns is None:
            kind = EngineError if camera is None else SourceError
            raise kind(
                f"{worker.name}: {worker.ending}, once more than its {worker.budget.ever} "
                "restarts; look at the device, then start the line again"
            )
        worker.start_at_ns = start_at_ns

    def _kill(self, worker: WorkerProcess, why: str) -> None:
        logger.warning("%s: %s; it is killed", worker.name, why)
        self._unwatch_link(worker)
        worker.kill(why)

    def _unwatch_link(self, worker: WorkerProcess) -> None:
        link_fd, exit_fd = self._watched.get(worker.name, (-1, -1))
        if link_fd >= 0:
            self._selector.unregister(link_fd)
            self._watched[worker.name] = (-1, exit_fd)

    def _unwatch_worker(self, worker: WorkerProcess) -> None:
        self._unwatch_link(worker)
        _, exit_fd = self._watched.pop(worker.name, (-1, -1))
        if exit_fd >= 0:
            self._selector.unregister(exit_fd)
