"""The authority's side of the engine: parts in line for it, jobs given out, answers looked at."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic_ns

from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.in_force import GENERAL
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.ledger import JobFate, Part, SeenFrame, TriggerLedger
from ssn_edge_runtime.line.messages import Message, MessageError, decision_from
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerProcess, WorkerState
from ssn_edge_runtime.line.zone_limits import ZoneLimits
from ssn_edge_runtime.sinks.base import PictureNames
from ssn_edge_runtime.sinks.pictures import PICTURES_FOLDER
from ssn_edge_runtime.sound_decision import is_sound


@dataclass(frozen=True, slots=True)
class JudgeIdentity:
    """What judges, as its worker said when it was ready."""

    package_id: str
    precision: str
    engine: str
    engine_sha256: str
    threshold: float | None
    min_area_px: float | None
    settings_id: str | None = None
    recipe: str | None = None
    zones: ZoneLimits = field(default_factory=ZoneLimits)
    recipes: Mapping[str, JudgeIdentity] = field(default_factory=dict)
    """The same for a part that names its recipe."""

    @classmethod
    def of(cls, message: Message) -> JudgeIdentity:
        """Read it from the worker's word."""
        judge = cls(
            message.text("package_id"),
            message.text("precision"),
            message.text("engine"),
            message.text("engine_sha256"),
            threshold=None,
            min_area_px=None,
        )
        return judge.with_settings(message)

    def with_settings(self, message: Message) -> JudgeIdentity:
        """The same judge with the settings of another word of its worker."""
        own = self._with_limits(message, message.text_or_none("recipe"))
        own = replace(own, settings_id=message.text_or_none("settings_id"), recipes={})
        told = message.raw("recipes")
        if told is None:
            return own  # a worker without recipes need not name any
        if not isinstance(told, dict):
            raise MessageError("recipes is no object")
        limits = Message(told)
        return replace(
            own, recipes={name: own._with_limits(limits.inner(name), name or None) for name in told}
        )

    def _with_limits(self, message: Message, recipe: str | None) -> JudgeIdentity:
        return replace(
            self,
            threshold=message.number("threshold"),
            min_area_px=message.number("min_area_px"),
            zones=ZoneLimits.of(message),
            recipe=recipe,
        )


@dataclass(frozen=True, slots=True)
class _Job:
    part: Part
    frame: SeenFrame
    reader: str
    recipe: str | None


class EngineDesk:
    """One engine worker for all cameras.

    Args:
        command: What it runs.
        options: Of the line.
        ledger: Of the line.
        cameras: By key.
    """

    def __init__(
        self,
        command: WorkerCommand,
        options: LineOptions,
        ledger: TriggerLedger,
        cameras: Mapping[str, Camera],
    ) -> None:
        self.worker = WorkerProcess("engine", command, options.engine)
        self.identity: JudgeIdentity | None = None
        self.is_held: Callable[[], bool] = lambda: False
        """Whether a change of settings is to be told first: what comes after it must not be judged
        by what was in force before."""
        # A second job waits in the worker, so that it need not wait for us; but a line that wants
        # the newest frame chooses it when the engine is free, not before.
        self._depth = 1 if options.drops else 2
        self._options = options
        self._ledger = ledger
        self._cameras = cameras
        self._queue: deque[Part] = deque()
        self._jobs: dict[int, _Job] = {}

    @property
    def wants_frame(self) -> bool:
        """Whether a frame would go to the engine at once."""
        return (
            self.worker.state is WorkerState.RUNNING
            and not self._queue
            and len(self._jobs) < self._depth
        )

    def check_recipe(self, recipe: str) -> None:
        """Whether a part can be judged by a recipe.

        Raises:
            ConfigError: The settings in force hold none of that name that this engine can use.
        """
        identity = self.identity
        held = () if identity is None else tuple(filter(None, identity.recipes))
        if recipe not in (GENERAL, *held):
            raise ConfigError(
                f"there is no recipe {recipe!r} in force; {', '.join(held) or 'none'} can be named"
            )

    def _recipe_of(self, part: Part) -> str | None:
        """What the engine is told; None where there are no settings, and so no recipes."""
        if part.recipe == GENERAL and (self.identity is None or self.identity.settings_id is None):
            return None
        return part.recipe

    def _holds(self, recipe: str) -> bool:
        return self.identity is not None and recipe in self.identity.recipes

    @property
    def is_idle(self) -> bool:
        """Whether no job is in the worker's hands."""
        return not self._jobs

    def exchange(self, worker: WorkerProcess, identity: JudgeIdentity) -> WorkerProcess:
        """Have another worker judge from the next part on; returns the one before.

        No job may be in hand: each answer is held against what it was judged with.
        """
        assert self.is_idle
        before, self.worker, self.identity = self.worker, worker, identity
        return before

    def start(self, now_ns: int, worker: WorkerProcess | None = None) -> None:
        """Start a worker, or the one that judges, with sight of every camera's memory."""
        memories = [camera.reader_memory for camera in self._cameras.values()]
        fds = [camera.reader_fd for camera in self._cameras.values()]
        kept = self._options.pictures
        setup = {
            "memories": memories,
            "pictures_folder": None if kept is None else str(kept.folder),
            "pictures_keep": None if kept is None else kept.keep.value,
            "live_folder": None if self._options.live is None else str(self._options.live),
            **self._options.asks(below=2),
        }
        (worker or self.worker).start(setup, fds, now_ns)

    def enqueue(self, part: Part) -> None:
        """Put a part with its frame in line."""
        self._queue.append(part)

    def feed(self) -> None:
        """Give out as many jobs as the worker may hold; parts that are decided are passed over."""
        if self.worker.state is not WorkerState.RUNNING or self.is_held():
            return
        while self._queue and len(self._jobs) < self._depth:
            part = self._queue.popleft()
            frame = part.frame
            if part.decision is not None or frame is None:
                continue
            recipe = self._recipe_of(part)
            if recipe is not None and not self._holds(recipe):
                # Not the engine's failure: a package on probation must not be taken back by it.
                detail = f"the settings in force hold no recipe {recipe!r} any more"
                self._ledger.fail(part, Reason.ENGINE_ERROR, detail, monotonic_ns())
                continue
            job = self._ledger.dispatch(part)
            reader = f"{self.worker.owner}/{job}"
            self._cameras[frame.camera].hold(frame, reader)
            self._jobs[job] = _Job(part, frame, reader, recipe)
            sent = self.worker.send(
                "job",
                job=job,
                sequence=part.sequence,
                camera=frame.camera,
                slot=frame.slot,
                generation=frame.generation,
                shape=list(frame.shape),
                recipe=recipe,
            )
            if not sent:
                self.worker.kill("takes no jobs")
                return

    def result(self, message: Message, now_ns: int) -> tuple[JobFate, Decision]:
        """Take an answer; it is looked at again before it counts."""
        number = message.whole("job")
        job = self._jobs.pop(number, None)
        if job is None or message.whole("generation") != job.frame.generation:
            return JobFate.STRANGE, unknown(Reason.ENGINE_ERROR, "an answer that nobody asked for")
        self._cameras[job.frame.camera].let_go(job.frame, job.reader)
        identity = self.identity
        if identity is not None and job.recipe is not None:
            identity = identity.recipes.get(job.recipe)
        decision, count = checked_decision(message, identity)
        fate = self._ledger.judged(number, decision, now_ns)
        if fate is JobFate.DECIDED:
            job.part.defect_count = count
            job.part.judge = self.identity
            job.part.pictures = picture_names(message, job.part.sequence)
        return fate, decision

    def worker_gone(self, now_ns: int) -> None:
        """The worker was reaped: the part in hand is lost with it, the next one waits again."""
        owner = f"{self.worker.name}#{self.worker.incarnation}"
        for camera in self._cameras.values():
            camera.reader_gone(f"{owner}/")
        lost = self._ledger.lost_jobs()
        self._jobs.clear()
        for part in lost[:1]:
            self._ledger.fail(part, Reason.ENGINE_ERROR, f"the engine {self.worker.ending}", now_ns)
        self._queue.extendleft(reversed(lost[1:]))


def picture_names(message: Message, sequence: int) -> PictureNames:
    """The files that an answer says will be there; none whose name is not its part's."""
    stem = rf"{PICTURES_FOLDER}/{sequence:09d}_(pass|fail|unknown)_"
    try:
        mask, overlay = message.text_or_none("mask"), message.text_or_none("overlay")
    except MessageError:
        return PictureNames()
    return PictureNames(
        mask if mask and re.fullmatch(stem + r"mask\.png", mask) else None,
        overlay if overlay and re.fullmatch(stem + r"overlay\.(jpg|png)", overlay) else None,
    )


def checked_decision(message: Message, identity: JudgeIdentity | None) -> tuple[Decision, int]:
    """The decision of an answer and its number of defects.

    `unknown` if anything about it does not hold together: the worker may have gone mad.
    """
    try:
        decision, count = decision_from(message.inner("decision"))
    except MessageError as error:
        return _invalid(f"the engine's answer is none: {error}")
    if not is_sound(decision):
        return _invalid("the engine's answer contradicts itself")
    if identity is not None and not _is_of(decision, identity):
        return _invalid("the engine used other settings than those in force")
    if identity is not None and (
        complaint := identity.zones.complaint(decision, identity.threshold, identity.min_area_px)
    ):
        return _invalid(complaint)
    if decision.verdict is not Verdict.PASS:
        return decision, count
    if identity is None or decision.raw_score is None or decision.threshold is None:
        return _invalid("the engine passed a part without a score")
    return decision, count


def _is_of(decision: Decision, identity: JudgeIdentity) -> bool:
    """Whether a decision was made with the settings in force; without a score it may name none."""
    if decision.raw_score is None:
        return decision.settings_id in (None, identity.settings_id)
    return (decision.settings_id, decision.recipe) == (identity.settings_id, identity.recipe)


def _invalid(detail: str) -> tuple[Decision, int]:
    return unknown(Reason.INVALID_OUTPUT, detail[:500]), 0
