"""What comes from outside while the line runs: triggers, and readings of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from time import monotonic_ns
from typing import TypeVar

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.answers import Answer, OnAnswer
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.frame_desk import FrameDesk
from ssn_edge_runtime.line.ledger import Admission, TriggerLedger
from ssn_edge_runtime.line.options import LineOptions, TriggerKind
from ssn_edge_runtime.line.states import StateMachine

READINGS = 1024

ItemT = TypeVar("ItemT")


class Intake:
    """Triggers and readings: put down from any thread, taken by the line's own.

    Args:
        options: Of the line.
        cameras: By key; the first sees what names none.
        ledger: Takes the triggers.
        delivery: Records and answers them, and gives signals by the readings.
        frames: Counts their parts.
        states: Triggers are taken in the executing ones alone.
    """

    def __init__(
        self,
        options: LineOptions,
        cameras: Mapping[str, Camera],
        ledger: TriggerLedger,
        delivery: Delivery,
        frames: FrameDesk,
        states: StateMachine,
    ) -> None:
        self.is_open = True
        """Whether triggers are taken; not any more once the line stops."""
        self.next_tick_ns: int | None = None
        """When the timer triggers next."""
        self._options = options
        self._cameras = cameras
        self._ledger = ledger
        self._delivery = delivery
        self._frames = frames
        self._states = states
        self._requests: deque[tuple[str, int, str | None, str | None, int, OnAnswer]] = deque()
        # One that is pushed out by newer ones shows as a silence or a jump.
        self._readings: deque[tuple[int, int]] = deque(maxlen=READINGS)

    def trigger(
        self,
        trigger_id: int,
        part_id: str | None,
        camera: str | None,
        recipe: str | None,
        at_ns: int | None,
        on_answer: OnAnswer,
    ) -> None:
        """Put a trigger down; see `Authority.trigger`.

        Raises:
            ConfigError: It is none that this line takes.
        """
        key = next(iter(self._cameras)) if camera is None else camera
        if key not in self._cameras:
            raise ConfigError(f"there is no camera {key}; {', '.join(self._cameras)} are there")
        if self._options.trigger is not TriggerKind.SOFTWARE:
            raise ConfigError(f"this line takes no triggers, it runs on {self._options.trigger}")
        if type(trigger_id) is not int or not 1 <= trigger_id < 2**63:
            raise ConfigError(
                f"trigger id {trigger_id!r}; a whole number above 0 and of 63 bit at most is wanted"
            )
        now_ns = monotonic_ns()
        # A trigger from the future would let an older frame seem to be of this part.
        at_ns = now_ns if at_ns is None else min(at_ns, now_ns)
        self._requests.append((key, trigger_id, part_id, recipe, at_ns, on_answer))

    def encoder(self, count: int, at_ns: int | None) -> None:
        """Put a reading down; see `Authority.encoder`.

        Raises:
            ConfigError: No 32 bit count, or nothing of this line depends on an encoder.
        """
        if self._options.rules.encoder is None:
            raise ConfigError("this line has no use for an encoder; see --ejector-delay-counts")
        if type(count) is not int or not -(2**31) <= count < 2**32:
            raise ConfigError(f"encoder count {count!r}; a whole number of 32 bit is wanted")
        now_ns = monotonic_ns()
        self._readings.append((count, now_ns if at_ns is None else min(at_ns, now_ns)))

    def take(self) -> None:
        """Take what was put down."""
        while (reading := _next(self._readings)) is not None:
            self._delivery.signals.read(*reading)
        while (request := _next(self._requests)) is not None:
            self._admit(*request)

    def tick(self, now_ns: int) -> None:
        """Trigger each camera where a timer does."""
        if self._options.rate_hz is None or not self._states.state.may_pass or not self.is_open:
            self.next_tick_ns = None
            return
        period_ns = int(1e9 / self._options.rate_hz)
        if self.next_tick_ns is None:
            self.next_tick_ns = now_ns + period_ns
        while self.next_tick_ns <= now_ns:
            self.next_tick_ns += period_ns
            for key in self._cameras:
                self._admit(key, None, None, None, now_ns, lambda answer: None)

    def _admit(
        self,
        camera: str,
        trigger_id: int | None,
        part_id: str | None,
        recipe: str | None,
        at_ns: int,
        on_answer: OnAnswer,
    ) -> None:
        counters, answers = self._delivery.counters, self._delivery.answers
        if not self._states.state.may_pass or not self.is_open or self._frames.is_full:
            counters["refused"] += 1
            refused = Answer.refused(trigger_id, f"the line is {self._states.state}")
            answers.tell(on_answer, refused)
            return
        admitted = self._ledger.trigger(camera, trigger_id, at_ns, part_id=part_id, recipe=recipe)
        counters[f"trigger:{admitted.admission.value}"] += 1
        part = admitted.part
        if part is None:
            answers.tell(on_answer, Answer.refused(trigger_id, "too soon after the trigger before"))
            return
        if admitted.admission is Admission.DUPLICATE:
            # After a restart the part's camera is known by its name in records.
            if part.camera not in (camera, self._cameras[camera].source):
                detail = f"this id is another part's, which {part.camera} saw"
                answers.tell(on_answer, Answer.refused(trigger_id, detail))
                return
            if None not in (part_id, part.part_id) and part_id != part.part_id:
                detail = f"this id is another part's, which is called {part.part_id}"
                answers.tell(on_answer, Answer.refused(trigger_id, detail))
                return
            answers.answer_again(part, on_answer, monotonic_ns())
            return
        answers.when_answered(part, on_answer)
        self._frames.parts_begun += 1
        self._delivery.accepted(part)


def _next(items: deque[ItemT]) -> ItemT | None:
    """The oldest, if there is one: at the end of the run another thread may take, too."""
    try:
        return items.popleft()
    except IndexError:
        return None
