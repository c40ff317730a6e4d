"""What becomes of each frame that a camera gave: a part's, waiting, dropped, or nobody's."""

from __future__ import annotations

from collections.abc import Mapping

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.engine_desk import EngineDesk
from ssn_edge_runtime.line.ledger import FrameFate, SeenFrame, TriggerLedger
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import FreePolicy, LineOptions, TriggerKind
from ssn_edge_runtime.line.states import StateMachine
from ssn_edge_runtime.record import EventKind

NO_ROOM = "there was no room for the frame"
MISSED_RECORDS = 1000
"""A larger gap is no lost frames, but a counter that was set."""


class FrameDesk:
    """Frames to parts, by the line's trigger and policy.

    Args:
        ledger: Of the line.
        engine: Where parts with a frame go.
        delivery: Records.
        cameras: By key.
        options: Of the line.
        states: Frames become parts in the executing ones alone.
    """

    def __init__(
        self,
        ledger: TriggerLedger,
        engine: EngineDesk,
        delivery: Delivery,
        cameras: Mapping[str, Camera],
        options: LineOptions,
        states: StateMachine,
    ) -> None:
        self.parts_begun = 0
        self.parts_done = 0
        self._ledger = ledger
        self._engine = engine
        self._delivery = delivery
        self._cameras = cameras
        self._options = options
        self._states = states
        self._is_stopped = False
        self._turn = 0
        self._is_free = options.trigger is TriggerKind.FREE
        self._has_own_trigger = options.trigger is TriggerKind.CAMERA
        rules = options.rules
        # Where a frame is in time up to the deadline, its number alone tells that one is missing.
        reaches = rules.exposure_delay_ns + rules.exposure_window_ns >= rules.deadline_ns
        self._needs_numbers = self._has_own_trigger or (not self._is_free and reaches)

    @property
    def is_full(self) -> bool:
        """Whether the run has all the parts that it was asked for."""
        limit = self._options.max_parts
        return limit is not None and self.parts_begun >= limit

    @property
    def is_ended(self) -> bool:
        """Whether every source has come to its end, and nothing of it waits."""
        return all(each.is_ended and not each.waiting for each in self._cameras.values())

    def stop(self) -> None:
        """Take no further frame as a part; those that wait for that get no record."""
        self._is_stopped = True
        for camera in self._cameras.values():
            while camera.waiting:
                self._drop(camera, camera.waiting.popleft(), "the line was stopped")

    def take(self, camera: Camera, message: Message, now_ns: int) -> None:
        """Take what a running camera says.

        Raises:
            MessageError: It says no such thing.
            ConfigError: Its camera does not number its frames, and the line's triggers need it.
        """
        kind = message.kind
        if kind == "frame":
            frame = camera.seen(message)
            self._delivery.counters["frames"] += 1
            self._look_at_number(camera, frame, now_ns)
            if not self._take_frame(camera, frame, now_ns):
                camera.let_go(frame)
        elif kind == "dropped":
            first, last = message.whole("first"), message.whole("last")
            count = message.whole("count")
            self._delivery.counters["dropped"] += count
            camera.drop(first, last, count, "no room for a frame")
            self._lost_parts(camera, count, now_ns, Reason.OVERRUN, NO_ROOM)
            captured_ns = min(message.whole("captured_ns"), now_ns)
            self._ledger.frame_lost(camera.key, captured_ns, now_ns, Reason.OVERRUN, NO_ROOM)
        elif kind == "damaged":
            self._damaged(camera, message, now_ns)
        elif kind == "lost":
            self._lost(camera, message.text("detail"), now_ns)
        elif kind == "back":
            camera.is_lost = False
            camera.last_frame_id = None
            attempts = message.whole("attempts")
            self.camera_gone(camera, "the camera was away", now_ns)
            self._delivery.counters["reopened"] += 1
            self._delivery.note(
                EventKind.SOURCE_BACK,
                {"source": camera.source, "what": f"after {attempts} attempts"},
            )
        elif kind == "end":
            camera.is_ended = True
        else:
            raise MessageError(f"a camera says no {kind!r}")

    def admit(self, now_ns: int) -> None:
        """Free-running: make parts of waiting frames, while there is room.

        Cameras take turns: by the age of their frames, one whose frames are always a little older
        when the engine is free would have all of it.
        """
        if not self._is_free or self._options.policy is FreePolicy.EVERY:
            return
        if not self._states.state.may_pass:
            return
        while not self.is_full:
            if not self._engine.wants_frame:
                return
            waiting = [each for each in self._cameras.values() if each.waiting]
            if not waiting:
                return
            camera = min(waiting, key=lambda each: each.turn)
            self._turn += 1
            camera.turn = self._turn
            self._begin(camera, camera.waiting.popleft(), now_ns)
            self._engine.feed()
        if self.is_full:
            self.stop()

    def _take_frame(self, camera: Camera, frame: SeenFrame, now_ns: int) -> bool:
        """Whether the line keeps the frame."""
        if self._is_stopped and self._is_free:
            return False
        waits = self._is_free and self._options.policy is FreePolicy.BLOCK
        if not self._states.state.may_pass and not waits:
            return False
        if not self._is_free and not self._has_own_trigger:
            return self._match(frame, now_ns)
        if self.is_full or self._is_stopped:
            return False
        if self._has_own_trigger:
            self._fill_gap(camera, frame, now_ns)
            return self._begin(camera, frame, now_ns)
        if self._options.policy is FreePolicy.EVERY:
            return self._begin(camera, frame, now_ns)
        if self._options.policy is FreePolicy.LATEST:
            while camera.waiting:
                self._drop(camera, camera.waiting.popleft(), "the engine was busy")
        camera.waiting.append(frame)
        return True

    def _match(self, frame: SeenFrame, now_ns: int) -> bool:
        fate, part = self._ledger.frame(frame, now_ns)
        if fate is FrameFate.STALE:
            self._delivery.counters["stale_frames"] += 1
        if part is None or part.frame is not frame:
            return False
        if part.decision is None:
            self._engine.enqueue(part)
        return True

    def _begin(self, camera: Camera, frame: SeenFrame, now_ns: int) -> bool:
        """Make a part of a frame; whether the part keeps it."""
        is_trigger = self._has_own_trigger
        admitted = self._ledger.frame_is_part(frame, now_ns, is_trigger=is_trigger)
        part = admitted.part
        assert part is not None
        self.parts_begun += 1
        self._delivery.counters[f"trigger:{admitted.admission.value}"] += 1
        if is_trigger:
            self._delivery.accepted(part)
        if part.decision is None:
            self._engine.enqueue(part)
        return part.frame is frame

    def _fill_gap(self, camera: Camera, frame: SeenFrame, now_ns: int) -> None:
        """A record for each trigger that the camera had and whose frame did not come."""
        assert frame.frame_id is not None  # looked at before
        last, camera.last_frame_id = camera.last_frame_id, frame.frame_id
        missed = 0 if last is None else frame.frame_id - last - 1
        for number in range(min(missed, MISSED_RECORDS)):
            assert last is not None
            detail = f"frame {last + 1 + number} of the camera did not come"
            self._own_trigger_lost(camera, now_ns, detail)

    def _own_trigger_lost(
        self,
        camera: Camera,
        now_ns: int,
        detail: str,
        reason: Reason = Reason.MISSED_TRIGGER,
    ) -> None:
        part = self._ledger.missed(camera.key, now_ns, detail, reason)
        self.parts_begun += 1
        self._delivery.counters["trigger:missed"] += 1
        self._delivery.accepted(part)

    def _look_at_number(self, camera: Camera, frame: SeenFrame, now_ns: int) -> None:
        """A gap before a frame: one was exposed and lost, and nothing tells when.

        Perhaps that of a part which waits; then this one shows it somewhere else, or another part.
        """
        if frame.frame_id is None and self._needs_numbers:
            remedy = "use a source that does"
            if not self._has_own_trigger:
                remedy += ", or give --exposure-window-ms, one of its periods long"
            raise ConfigError(
                f"{camera.source}: does not number its frames, so that a lost one would go "
                f"unnoticed with --trigger {self._options.trigger.value}; {remedy}"
            )
        if not frame.missed:
            return
        self._delivery.counters["missed_frames"] += frame.missed
        detail = f"the camera counted {frame.missed} frames before this one that did not come"
        exposed_ns = now_ns if frame.exposed_ns is None else min(frame.exposed_ns, now_ns)
        self._ledger.frame_lost(camera.key, exposed_ns, now_ns, Reason.MISSED_TRIGGER, detail)
        self._lost_parts(camera, frame.missed, now_ns, Reason.MISSED_TRIGGER, detail)

    def _lost_parts(
        self, camera: Camera, count: int, now_ns: int, reason: Reason, detail: str
    ) -> None:
        """Where each frame is to have a record, those that nobody saw have one as well."""
        if not self._is_free or self._options.policy is not FreePolicy.EVERY:
            return
        for _ in range(min(count, MISSED_RECORDS)):
            if self.is_full or self._is_stopped or not self._states.state.may_pass:
                return
            self._ledger.unseen(camera.key, now_ns, now_ns, reason, detail)
            self.parts_begun += 1

    def _damaged(self, camera: Camera, message: Message, now_ns: int) -> None:
        """A frame that cannot be read: a part where frames are parts, or that of one that waits."""
        captured_ns = min(message.whole("captured_ns"), now_ns)
        detail = message.text("detail")
        self._ledger.frame_lost(camera.key, captured_ns, now_ns, Reason.BAD_FRAME, detail)
        if self.is_full or self._is_stopped:
            return
        if self._has_own_trigger and self._states.state.may_pass:
            self._own_trigger_lost(camera, now_ns, detail, Reason.BAD_FRAME)
        if not self._is_free:
            return
        self._ledger.unseen(
            camera.key,
            captured_ns,
            now_ns,
            Reason.BAD_FRAME,
            detail,
            part_id=message.text_or_none("part_id"),
        )
        self.parts_begun += 1

    def _lost(self, camera: Camera, detail: str, now_ns: int) -> None:
        camera.is_lost = True
        self._delivery.note(EventKind.SOURCE_LOST, {"source": camera.source, "what": detail})
        self._delivery.counters["lost"] += 1
        self.camera_gone(camera, detail, now_ns)
        if self._is_free and not self._is_stopped and not self.is_full:
            self._ledger.unseen(camera.key, now_ns, now_ns, Reason.NO_FRAME, detail)
            self.parts_begun += 1

    def camera_gone(self, camera: Camera, detail: str, now_ns: int) -> None:
        """The camera, or its worker, is away or was: what it shows then is of later parts."""
        self._ledger.frame_lost(camera.key, now_ns, now_ns, Reason.NO_FRAME, detail)

    def _drop(self, camera: Camera, frame: SeenFrame, cause: str) -> None:
        camera.drop(frame.index, frame.index, 1, cause)
        camera.let_go(frame)
        self._delivery.counters["dropped"] += 1
