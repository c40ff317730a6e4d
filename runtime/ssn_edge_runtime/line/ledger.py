"""Triggers, frames and verdicts of one line, as rules: no clock, no file, no process.

Every accepted trigger gets exactly one verdict, in the order of acceptance. Times are arguments, in
nanoseconds on one monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.in_force import GENERAL
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.sinks.base import PictureNames

if TYPE_CHECKING:
    from ssn_edge_runtime.line.engine_desk import JudgeIdentity

NO_EXPOSURE = "the source does not tell when the frame was exposed"


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame that a capture worker announced; its pixels lie in a slot of shared memory.

    Args:
        camera: Which camera.
        slot: Where the pixels are.
        generation: Of the slot's lending.
        shape: (H, W) or (H, W, 3) of uint8.
        index: Running number within the source.
        frame_id: The camera's own counter, if it has one.
        missed: How many frames before it the camera counted that never reached us.
        exposed_ns: When its exposure began; None where the source does not tell.
        captured_ns: When the source handed it over.
        capture_ms: How long the source's `read` took, waiting included.
        part_id: The part's id where the source knows one.
        fault: What is wrong with it, if anything: such a frame is not judged.
        fault_detail: One line for a person.
        has_pixels: Whether its slot holds it as the camera gave it; not if it did not fit.
    """

    camera: str
    slot: int
    generation: int
    shape: tuple[int, ...]
    index: int
    captured_ns: int
    exposed_ns: int | None = None
    frame_id: int | None = None
    missed: int = 0
    capture_ms: float | None = None
    part_id: str | None = None
    fault: Reason | None = None
    fault_detail: str = ""
    has_pixels: bool = True

    @property
    def age_ns(self) -> int:
        """What its deadline counts from: the exposure, or else the moment it was handed over."""
        return self.captured_ns if self.exposed_ns is None else self.exposed_ns


@dataclass(slots=True, eq=False)
class Part:
    """An accepted trigger, from acceptance to its one verdict.

    Args:
        sequence: Its place in the order, and the number of its record.
        trigger_id: As the controller gave it; None in a free-running line.
        camera: Which camera sees it.
        triggered_ns: When the trigger came; free-running: when the frame was exposed.
        deadline_ns: From here on its verdict is `unknown`.
        earliest_ns: A frame exposed before this is not of this part.
        latest_ns: Nor is one exposed after this.
        part_id: The part's id, if the trigger brought one.
        recipe: What it is judged by: as its trigger named it, or as the line was told by then. A
            later word to the line is for later parts. ``""`` for the settings without one.
        frame: The frame it is judged by, once there is one.
        job: The engine's job, once it was given to one.
        decision: Its verdict, once it stands.
        decided_ns: When it stood.
        defect_count: How many defects there were; the decision lists the largest.
        pictures: Files that the engine's process writes of it.
        judge: What judged it, where an engine did; another may judge when its record is written.
    """

    sequence: int
    trigger_id: int | None
    camera: str
    triggered_ns: int
    deadline_ns: int
    earliest_ns: int
    latest_ns: int
    part_id: str | None = None
    recipe: str = GENERAL
    frame: SeenFrame | None = None
    job: int | None = None
    decision: Decision | None = None
    decided_ns: int | None = None
    defect_count: int = 0
    pictures: PictureNames = field(default_factory=PictureNames)
    judge: JudgeIdentity | None = None


class Admission(Enum):
    """What became of a trigger."""

    ACCEPTED = "accepted"
    OVERRUN = "overrun"
    """Accepted, and at once `unknown(overrun)`: no room was left."""
    DUPLICATE = "duplicate"
    """The id of a part that is known: its answer is this one's, too."""
    BOUNCE = "bounce"
    """Too soon after the one before: counted, no part."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a trigger, and its part; None for a bounce."""

    admission: Admission
    part: Part | None


class FrameFate(Enum):
    """What a frame is to the line."""

    MATCHED = "matched"
    """It is a part's; judge it, unless the part is decided already."""
    STALE = "stale"
    """Exposed before the oldest trigger that still waits."""
    SURPLUS = "surplus"
    """Nobody waits for it."""


class JobFate(Enum):
    """What an engine's answer is to the line."""

    DECIDED = "decided"
    LATE = "late"
    """Its part is decided already; discarded."""
    STRANGE = "strange"
    """No such job was given out: the engine is not to be trusted."""


class TriggerLedger:
    """The parts in flight, and the answers that are remembered.

    Args:
        rules: Times and room.
        next_sequence: The number of the next part.
        cameras: How many share the room.
    """

    def __init__(self, rules: TriggerRules, *, next_sequence: int, cameras: int = 1) -> None:
        self._rules = rules
        self._share = max(1, rules.in_flight // cameras)
        self.recipe = GENERAL
        """Of parts that name none, from now on."""
        self._next_sequence = next_sequence
        self._order: deque[Part] = deque()  # accepted and not released, oldest first
        self._undecided: OrderedDict[int, Part] = OrderedDict()
        self._jobs: dict[int, Part] = {}
        self._late_jobs: set[int] = set()
        self._next_job = 1
        self._known: OrderedDict[int, Part] = OrderedDict()
        self._last_trigger_ns: dict[str, int] = {}
        self._distrusted_ns: int | None = None
        self._lost: dict[str, tuple[int, Decision]] = {}

    def begin_at(self, next_sequence: int) -> None:
        """Number the parts from here on; before the first of them."""
        if self._order or self._known:
            raise ValueError("parts were numbered already")
        self._next_sequence = next_sequence

    def recall(self, trigger_id: int, sequence: int, source: str) -> None:
        """Know a trigger that was decided before this run; oldest first, each id once.

        Args:
            trigger_id: Given again, it is a duplicate.
            sequence: Of its record, whose answer is kept elsewhere.
            source: The camera's name in records: its key of that time is not known.
        """
        self._known[trigger_id] = Part(
            sequence, trigger_id, source, 0, 0, 0, 0, decision=unknown(Reason.RESTART, "")
        )

    @property
    def next_sequence(self) -> int:
        """The number of the next part."""
        return self._next_sequence

    @property
    def undecided(self) -> tuple[Part, ...]:
        """Parts without a verdict, oldest first."""
        return tuple(self._undecided.values())

    @property
    def is_empty(self) -> bool:
        """Whether every accepted part was released."""
        return not self._order

    @property
    def has_room(self) -> bool:
        """Whether another part would be judged."""
        return len(self._undecided) < self._rules.in_flight

    def trigger(
        self,
        camera: str,
        trigger_id: int | None,
        now_ns: int,
        *,
        part_id: str | None = None,
        recipe: str | None = None,
    ) -> Admitted:
        """Take a trigger; None as id gives it its sequence number as id."""
        if trigger_id is not None and (known := self._known.get(trigger_id)) is not None:
            return Admitted(Admission.DUPLICATE, known)
        last_ns = self._last_trigger_ns.get(camera)
        if last_ns is not None and now_ns - last_ns < self._rules.min_interval_ns:
            return Admitted(Admission.BOUNCE, None)
        self._last_trigger_ns[camera] = now_ns
        part = self._new_part(
            camera, trigger_id, now_ns, delay_ns=self._rules.exposure_delay_ns, part_id=part_id
        )
        if recipe is not None:
            part.recipe = recipe
        self._take_back_frames(part, now_ns)
        admitted = self._admit(part, now_ns)
        lost_by_ns, decision = self._lost.get(camera, (None, None))
        if lost_by_ns is not None and part.earliest_ns <= lost_by_ns and part.decision is None:
            # We were told of it after the frame that may be its was lost.
            assert decision is not None
            self._decide(part, decision, now_ns)
        return admitted

    def frame_is_part(self, frame: SeenFrame, now_ns: int, *, is_trigger: bool) -> Admitted:
        """Take a frame that is a part by itself: free-running, or a camera with its own trigger.

        Args:
            frame: Announced just now.
            now_ns: Now.
            is_trigger: Whether it gets an id, its sequence number.
        """
        at_ns = min(frame.age_ns, now_ns)
        part = self._new_part(frame.camera, None, at_ns, part_id=frame.part_id, named=is_trigger)
        admitted = self._admit(part, now_ns)
        if part.decision is None:
            self._give_frame(part, frame, now_ns)
        if part.decision is None and is_trigger and frame.exposed_ns is None:
            # Nothing tells it from one that lay in a queue.
            self._decide(part, unknown(Reason.CLOCK, NO_EXPOSURE), now_ns)
        return admitted

    def missed(
        self, camera: str, now_ns: int, detail: str, reason: Reason = Reason.MISSED_TRIGGER
    ) -> Part:
        """Take a trigger that the camera had and that brought no frame, or none to be judged."""
        part = self._new_part(camera, None, now_ns)
        self._decide(part, unknown(reason, detail), now_ns)
        return part

    def unseen(
        self,
        camera: str,
        at_ns: int,
        now_ns: int,
        reason: Reason,
        detail: str,
        *,
        part_id: str | None = None,
    ) -> Part:
        """Take a part of a free-running line that has no frame to be judged by."""
        part = self._new_part(camera, None, at_ns, part_id=part_id, named=False)
        self._decide(part, unknown(reason, detail), now_ns)
        return part

    def frame(self, frame: SeenFrame, now_ns: int) -> tuple[FrameFate, Part | None]:
        """Find the trigger that a frame belongs to: the newest that it was exposed after.

        Older triggers of that camera that still wait for a frame get none any more: frames come in
        the order of their exposure, and this one shows a later part.
        """
        waiting = [
            part
            for part in self._undecided.values()
            if part.frame is None and part.camera == frame.camera
        ]
        if not waiting:
            return FrameFate.SURPLUS, None
        if frame.exposed_ns is None or frame.exposed_ns > now_ns:
            # Without a trustworthy exposure nothing tells whose frame it is.
            detail = (
                NO_EXPOSURE
                if frame.exposed_ns is None
                else f"the frame claims an exposure {(frame.exposed_ns - now_ns) / 1e6:.1f} ms "
                "in the future"
            )
            self._decide(waiting[0], unknown(Reason.CLOCK, detail), now_ns)
            return FrameFate.MATCHED, waiting[0]
        started = [part for part in waiting if part.earliest_ns <= frame.exposed_ns]
        if not started:
            return FrameFate.STALE, None
        # A newer trigger that has its frame, or its verdict, already: this frame is not an older's.
        newest = started[-1]
        for part in started[:-1]:
            self._decide(
                part, unknown(Reason.NO_FRAME, "the next part came before a frame"), now_ns
            )
        if self._belongs_to_a_later_part(frame.camera, newest, frame.exposed_ns):
            self._decide(newest, unknown(Reason.NO_FRAME, "the next part came first"), now_ns)
            return FrameFate.SURPLUS, None
        if frame.exposed_ns > newest.latest_ns:
            late_ms = (frame.exposed_ns - newest.latest_ns) / 1e6
            self._decide(
                newest,
                unknown(Reason.NO_FRAME, f"the frame was exposed {late_ms:.1f} ms too late"),
                now_ns,
            )
            return FrameFate.SURPLUS, None
        self._give_frame(newest, frame, now_ns)
        return FrameFate.MATCHED, newest

    def frame_lost(
        self, camera: str, exposed_by_ns: int, now_ns: int, reason: Reason, detail: str
    ) -> None:
        """A frame will not come, and nothing tells whose it was: perhaps that of a part that waits.

        The next one may show that part somewhere else, or no part at all, and is none for it.

        Args:
            camera: Whose frame.
            exposed_by_ns: It was exposed no later.
            now_ns: The present.
            reason: What becomes of the parts that wait for a frame from before that.
            detail: Why, for people.
        """
        decision = unknown(reason, detail)
        if exposed_by_ns >= self._lost.get(camera, (exposed_by_ns,))[0]:
            # One that claims to be older takes nothing back for parts that we are told of late.
            self._lost[camera] = (exposed_by_ns, decision)
        for part in tuple(self._undecided.values()):
            if part.camera == camera and part.frame is None and part.earliest_ns <= exposed_by_ns:
                self._decide(part, decision, now_ns)

    def dispatch(self, part: Part) -> int:
        """Give a part's frame to an engine; returns the job's number, never given out again."""
        if part.decision is not None or part.frame is None or part.job is not None:
            raise ValueError(f"part {part.sequence} is not waiting for an engine")
        job, self._next_job = self._next_job, self._next_job + 1
        part.job = job
        self._jobs[job] = part
        return job

    def judged(self, job: int, decision: Decision, now_ns: int) -> JobFate:
        """Take an engine's answer; one that comes at or after the deadline counts for nothing."""
        part = self._jobs.pop(job, None)
        if part is None:
            if job in self._late_jobs:
                self._late_jobs.discard(job)
                return JobFate.LATE
            return JobFate.STRANGE
        if part.decision is not None:
            return JobFate.LATE
        if now_ns >= part.deadline_ns:
            self._decide(part, _too_late(part, now_ns), now_ns)
            return JobFate.LATE
        self._decide(part, decision, now_ns)
        return JobFate.DECIDED

    def lost_jobs(self) -> list[Part]:
        """The engine is gone and answers no job any more; its parts wait again, oldest first."""
        parts = list(self._jobs.values())
        for part in parts:
            part.job = None
        self._jobs.clear()
        self._late_jobs.clear()
        return parts

    def fail(self, part: Part, reason: Reason, detail: str, now_ns: int) -> None:
        """Decide a part `unknown`; nothing happens to one that is decided."""
        if part.decision is None:
            self._decide(part, unknown(reason, detail), now_ns)

    def distrust_all(self, detail: str, now_ns: int) -> None:
        """Decide all that is in hand `unknown(clock)`, a pass that was not released as well.

        A part that was triggered, or a frame that was exposed, before now makes no pass any more.
        """
        self._distrusted_ns = now_ns
        for part in self._order:
            if part.decision is None:
                self._decide(part, unknown(Reason.CLOCK, detail), now_ns)
            elif part.decision.verdict is Verdict.PASS:
                part.decision = unknown(Reason.CLOCK, detail)

    def expire(self, now_ns: int) -> list[Part]:
        """Decide the parts whose deadline has come."""
        expired = [part for part in self._undecided.values() if now_ns >= part.deadline_ns]
        for part in expired:
            self._decide(part, _too_late(part, now_ns), now_ns)
        return expired

    def next_deadline_ns(self) -> int | None:
        """When `expire` has something to do; None while nothing waits."""
        return min((part.deadline_ns for part in self._undecided.values()), default=None)

    def release(self, now_ns: int) -> Part | None:
        """The next part in order, if its verdict stands; a pass that is too late is none."""
        if not self._order or self._order[0].decision is None:
            return None
        part = self._order.popleft()
        assert part.decision is not None
        if part.decision.verdict is Verdict.PASS:
            if now_ns >= part.deadline_ns:
                part.decision = _too_late(part, now_ns)
            elif not _has_its_frame(part):  # the rules above do not let this happen
                part.decision = unknown(Reason.STALE_FRAME, "the frame is not of this part")
        return part

    def accept_from_ns(self, part: Part) -> int:
        """When the pass signal is to be given: at the ejector, or at once."""
        delay_ns = self._rules.ejector_delay_ns
        if delay_ns is None or part.frame is None:
            return 0
        return part.frame.age_ns + delay_ns

    def accept_until_ns(self, part: Part) -> int:
        """Until when the pass signal is valid."""
        if self._rules.ejector_delay_ns is None:
            return part.deadline_ns
        return self.accept_from_ns(part) + self._rules.ejector_window_ns

    def _new_part(
        self,
        camera: str,
        trigger_id: int | None,
        triggered_ns: int,
        *,
        delay_ns: int = 0,
        part_id: str | None = None,
        named: bool = True,
    ) -> Part:
        sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
        earliest_ns = triggered_ns + delay_ns
        part = Part(
            sequence=sequence,
            trigger_id=sequence if trigger_id is None and named else trigger_id,
            camera=camera,
            triggered_ns=triggered_ns,
            deadline_ns=triggered_ns + self._rules.deadline_ns,
            earliest_ns=earliest_ns,
            latest_ns=earliest_ns + self._rules.exposure_window_ns,
            part_id=part_id,
            recipe=self.recipe,
        )
        self._order.append(part)
        self._undecided[sequence] = part
        if trigger_id is not None:
            self._known[trigger_id] = part
            while len(self._known) > self._rules.remembered:
                oldest = next(iter(self._known))
                if self._known[oldest].decision is None:
                    break  # a repeated trigger must still find its part
                del self._known[oldest]
        return part

    def _take_back_frames(self, newer: Part, now_ns: int) -> None:
        """A trigger that came to us late may find its own frame with the part before it."""
        for part in self._order:
            frame = part.frame
            if part is newer or frame is None or frame.camera != newer.camera:
                continue
            if frame.exposed_ns is None or frame.exposed_ns < newer.earliest_ns:
                continue
            decision = unknown(Reason.STALE_FRAME, "the frame is of the part that came next")
            if part.decision is None:
                self._decide(part, decision, now_ns)
            elif part.decision.verdict is Verdict.PASS:
                part.decision = decision

    def _admit(self, part: Part, now_ns: int) -> Admitted:
        if len(self._undecided) > self._rules.in_flight and self._has_its_share(part.camera):
            detail = f"{self._rules.in_flight} parts are being judged, there is no room for more"
            self._decide(part, unknown(Reason.OVERRUN, detail), now_ns)
            return Admitted(Admission.OVERRUN, part)
        return Admitted(Admission.ACCEPTED, part)

    def _has_its_share(self, camera: str) -> bool:
        """A camera that has less than its share of the room finds some, whoever took it all."""
        of_camera = sum(each.camera == camera for each in self._undecided.values())
        return of_camera > self._share

    def _give_frame(self, part: Part, frame: SeenFrame, now_ns: int) -> None:
        part.frame = frame
        if part.part_id is None:
            part.part_id = frame.part_id
        if frame.exposed_ns is not None and frame.exposed_ns > now_ns:
            self._decide(part, unknown(Reason.CLOCK, "the exposure lies in the future"), now_ns)
        elif frame.fault is not None:
            self._decide(part, unknown(frame.fault, frame.fault_detail), now_ns)
        elif now_ns >= part.deadline_ns:
            self._decide(part, _too_late(part, now_ns), now_ns)
        elif self._distrusted_ns is not None and (
            min(part.triggered_ns, frame.age_ns) < self._distrusted_ns
        ):
            self._decide(part, unknown(Reason.CLOCK, "from before the clock stood still"), now_ns)

    def _belongs_to_a_later_part(self, camera: str, part: Part, exposed_ns: int) -> bool:
        return any(
            other.sequence > part.sequence
            and other.camera == camera
            and other.earliest_ns <= exposed_ns
            for other in self._order
        )

    def _decide(self, part: Part, decision: Decision, now_ns: int) -> None:
        assert part.decision is None
        part.decision = decision
        part.decided_ns = now_ns
        del self._undecided[part.sequence]
        if part.job is not None and self._jobs.pop(part.job, None) is not None:
            self._late_jobs.add(part.job)


def _has_its_frame(part: Part) -> bool:
    frame = part.frame
    if frame is None or frame.fault is not None:
        return False
    return part.earliest_ns <= frame.age_ns <= part.latest_ns


def _too_late(part: Part, now_ns: int) -> Decision:
    late_ms = (now_ns - part.triggered_ns) / 1e6
    if part.frame is None:
        return unknown(Reason.NO_FRAME, f"no frame came within {late_ms:.1f} ms")
    if part.decision is not None:
        return replace(
            unknown(Reason.DEADLINE, f"decided, but not released within {late_ms:.1f} ms"),
            timings_ms=part.decision.timings_ms,
        )
    return unknown(Reason.DEADLINE, f"no verdict within {late_ms:.1f} ms")
