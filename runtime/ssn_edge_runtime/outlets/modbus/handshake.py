"""The handshake with a PLC, as rules: no socket, no clock, no file. Times are arguments.

What holds, whatever either side does:

- A trigger is a *change* of `trigger_id` to a number that is not 0, at a moment at which triggers
  are taken. An id that comes while none is taken is seen and never taken later.
- The id last written, written again, is a retry: no new trigger, and the block stays as it is. Any
  other id is a new part, also one that was used before: the line is given `epoch * 65536 + id`, and
  an id that is not above the one before begins the next epoch. So a counter that wraps, or a PLC
  that counts from 1 again, never gets the answer of another part.
- `trigger_id` 0, the loss of the PLC's heartbeat and the loss of the line abandon all parts in
  hand: their results are not shown any more. After 0 the same id is a new part. At the start and
  after a lost heartbeat a 0 is wanted first, since nobody knows what the register stood for.
- Results are shown in the order of the triggers, each until it is acknowledged, or until its time
  is over and the next one is there. A pass is shown for no longer than the deadline, counted from
  the PLC's write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.modbus.address import HEARTBEAT_MS
from ssn_edge_runtime.outlets.modbus.registers import (
    GENERAL_SETTINGS,
    MAP_VERSION,
    OTHER_REASON,
    REASON_NUMBERS,
    RECIPE_REFUSED,
    RECIPE_WAITING,
    STATE_NUMBERS,
    HandshakeState,
    recipes_crc,
)
from ssn_edge_runtime.verdict_codes import VerdictCode, verdict_code

IDS = 1 << 16
MOST_OPEN = 8
"""Parts without an acknowledgement; the oldest makes room."""
PLC_SILENT_NS = HEARTBEAT_MS * 1_000_000
"""Unless another time is asked for: without another heartbeat of the PLC for longer, no pass is
shown."""
LINE_SILENT_NS = 500_000_000
"""The same for the line's state, which is asked for every 100 ms."""
BEAT_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class GiveTrigger:
    """Tell the line of a trigger.

    Args:
        line_id: Never given before.
        recipe: What its part is judged by, as the PLC was told; "" for the general settings, None
            for whatever the line is told.
    """

    line_id: int
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class UseRecipe:
    """Ask the line for a recipe.

    Args:
        name: None for the general settings.
    """

    name: str | None


Order = GiveTrigger | UseRecipe


@dataclass(slots=True)
class _Part:
    """A trigger that was taken.

    Args:
        line_id: As the line knows it.
        until_ns: The end of a pass.
        verdict: None where there was no part, or not yet an answer.
        reason: Of the answer; None before it.
        held_until_ns: From then on the next result may take its place.
    """

    line_id: int
    until_ns: int
    verdict: Verdict | None = None
    reason: Reason | None = None
    held_until_ns: int = 0

    @property
    def plc_id(self) -> int:
        return self.line_id % IDS


@dataclass(slots=True)
class Counts:
    """What went wrong, since the start."""

    plc_losses: int = 0
    line_losses: int = 0
    refused_writes: int = 0
    refused_clients: int = 0
    untaken_triggers: int = 0
    dropped_results: int = 0


@dataclass(slots=True)
class _Written:
    """The PLC's registers as it wrote them last."""

    trigger_id: int = 0
    acked_id: int = 0
    recipe: int = 0
    plc_heartbeat: int = 0


class Handshake:
    """One PLC and one line.

    Args:
        deadline_ns: The line's, from the trigger to the verdict.
        recipes: Names in the order of their numbers, from 1.
        next_epoch: Gives a number that was never given before, also not by an earlier process; None
            where it cannot.
        plc_silent_ns: Without another heartbeat of the PLC for longer, no pass is shown.
    """

    def __init__(
        self,
        *,
        deadline_ns: int,
        recipes: Sequence[str] = (),
        next_epoch: Callable[[], int | None],
        plc_silent_ns: int = PLC_SILENT_NS,
    ) -> None:
        self.counts = Counts()
        self._deadline_ns = deadline_ns
        self._plc_silent_ns = plc_silent_ns
        self._recipes = tuple(recipes)
        self._recipes_crc = recipes_crc(self._recipes)
        self._next_epoch = next_epoch
        self._epoch: int | None = None
        self._highest = 0  # of this epoch
        self._written = _Written()
        self._wants_zero = True
        self._accepted = 0
        self._parts: list[_Part] = []
        self._plc_ns: int | None = None  # its heartbeat's last change
        self._line_ns: int | None = None  # its last answer
        self._line_state: LineState | None = None
        self._beat = 0
        self._recipe_answer = 0
        self._asked: list[str | None] = []  # recipes that the line has not answered yet

    # From the PLC

    def is_recipe(self, number: int) -> bool:
        """Whether a number stands for anything."""
        return number in (0, GENERAL_SETTINGS) or 1 <= number <= len(self._recipes)

    def write(self, values: Mapping[str, int], now_ns: int) -> list[Order]:
        """Take what the PLC wrote in one request; what the line is to be told, in that order.

        Args:
            values: By register, of those that it may write; a recipe is one that `is_recipe`.
            now_ns: Now.
        """
        self.tick(now_ns)
        orders: list[Order] = []
        if "plc_heartbeat" in values:
            self._beaten(values["plc_heartbeat"], now_ns)
        if "acked_id" in values:
            self._acked(values["acked_id"], now_ns)
        if "recipe" in values:
            orders += self._recipe_asked(values["recipe"])
        if "trigger_id" in values:
            orders += self._triggered(values["trigger_id"], now_ns)
        return orders

    def _beaten(self, beat: int, now_ns: int) -> None:
        if beat != self._written.plc_heartbeat:
            self._written.plc_heartbeat = beat
            self._plc_ns = now_ns

    def _acked(self, plc_id: int, now_ns: int) -> None:
        self._written.acked_id = plc_id
        shown = self._shown(now_ns)
        if shown is not None and shown.plc_id == plc_id:
            self._parts.remove(shown)

    def _recipe_asked(self, number: int) -> list[Order]:
        if number == self._written.recipe:
            return []  # one that was refused is asked for again after another number, such as 0
        self._written.recipe = number
        self._recipe_answer = RECIPE_WAITING if number else 0
        return self._ask_recipe()

    def _ask_recipe(self) -> list[Order]:
        """Ask the line for what the PLC wants, if there is a line."""
        if self._written.recipe == 0 or self._line_state is None:
            return []
        name = self._wanted_recipe()
        self._asked.append(name)
        return [UseRecipe(name)]

    def _wanted_recipe(self) -> str | None:
        number = self._written.recipe
        return None if number == GENERAL_SETTINGS else self._recipes[number - 1]

    def _triggered(self, plc_id: int, now_ns: int) -> list[Order]:
        before, self._written.trigger_id = self._written.trigger_id, plc_id
        if plc_id == 0:
            self._abandon()
            self._wants_zero = False
            return []
        if plc_id == before:
            return []
        if self.state(now_ns) is not HandshakeState.READY or not self._has_epoch_for(plc_id):
            self.counts.untaken_triggers += 1
            return []
        assert self._epoch is not None
        self._highest = plc_id
        self._accepted = plc_id
        if len(self._parts) >= MOST_OPEN:
            self._drop(0)
        line_id = self._epoch * IDS + plc_id
        self._parts.append(_Part(line_id, now_ns + self._deadline_ns))
        # By name: somebody else may give the line another recipe, and the PLC would not know.
        recipe = (self._wanted_recipe() or "") if self._written.recipe else None
        return [GiveTrigger(line_id, recipe)]

    def _has_epoch_for(self, plc_id: int) -> bool:
        """Whether an id can be given that was never given before."""
        if self._epoch is None or plc_id <= self._highest:
            self._epoch = self._next_epoch()
            self._highest = 0
        return self._epoch is not None

    # From the line

    def line_said(self, state: LineState, now_ns: int) -> list[Order]:
        """The line told its state; what it is to be told."""
        self.tick(now_ns)
        is_new = self._line_state is None
        self._line_ns = now_ns
        self._line_state = state
        if not state.may_pass:
            self._parts.clear()
        # A line that was away may have begun again, with a recipe of its own.
        return self._ask_recipe() if is_new else []

    def line_lost(self) -> None:
        """The line hung up, or does not answer."""
        if self._line_state is None:
            return
        self.counts.line_losses += 1
        self._line_state = None
        self._parts.clear()
        self._asked.clear()
        if self._written.recipe:
            self._recipe_answer = RECIPE_WAITING

    def answered(self, line_id: int, verdict: Verdict | None, reason: Reason, now_ns: int) -> None:
        """The line answered a trigger; one that nobody waits for is nobody's.

        Args:
            line_id: As it was given.
            verdict: None where it made no part.
            reason: From the closed list.
            now_ns: Now.
        """
        self.tick(now_ns)
        for part in self._parts:
            if part.line_id == line_id and part.reason is None:
                if verdict is Verdict.PASS and now_ns >= part.until_ns:
                    verdict, reason = Verdict.UNKNOWN, Reason.DEADLINE
                self._settle(part, verdict, reason, now_ns)

    def complained(self, now_ns: int) -> None:
        """The line said an error, and not to what: whatever waits for a word has none."""
        self.tick(now_ns)
        if self._asked:
            self._recipe_done(self._asked[0], is_used=False)
        for part in self._parts:
            if part.reason is None:
                self._settle(part, None, Reason.MISSED_TRIGGER, now_ns)

    def recipe_used(self, name: str | None) -> None:
        """The line judges by a recipe from now on; None for the general settings."""
        self._recipe_done(name, is_used=True)

    def _recipe_done(self, name: str | None, *, is_used: bool) -> None:
        is_ours = bool(self._asked) and self._asked.pop(0) == name
        if self._asked or self._written.recipe == 0:
            return  # the last one that was asked for counts
        is_wanted = is_used and is_ours and name == self._wanted_recipe()
        self._recipe_answer = self._written.recipe if is_wanted else RECIPE_REFUSED

    def _settle(self, part: _Part, verdict: Verdict | None, reason: Reason, now_ns: int) -> None:
        part.verdict, part.reason = verdict, reason
        part.held_until_ns = part.until_ns
        if verdict is not Verdict.PASS:
            part.held_until_ns = now_ns + self._deadline_ns

    # What is seen

    def tick(self, now_ns: int) -> None:
        """Notice what did not come; each other call does, too."""
        if self._plc_ns is not None and now_ns - self._plc_ns > self._plc_silent_ns:
            self.counts.plc_losses += 1
            self._plc_ns = None
            self._abandon()
            self._wants_zero = True
        if self._line_ns is not None and now_ns - self._line_ns > LINE_SILENT_NS:
            self.line_lost()
        for part in self._parts:
            # The line answers each trigger by its deadline: this answer was lost.
            if part.reason is None and now_ns > part.until_ns + LINE_SILENT_NS:
                self._settle(part, None, Reason.DEADLINE, now_ns)
        while len(self._parts) > 1 and self._makes_room(now_ns):
            self._drop(0)

    @property
    def hears_plc(self) -> bool:
        """Whether the PLC's heartbeat was there at the last look."""
        return self._plc_ns is not None

    def state(self, now_ns: int) -> HandshakeState:
        """Whether a trigger would be taken now."""
        self.tick(now_ns)
        if self._line_state is None or not self._line_state.may_pass:
            return HandshakeState.NO_LINE
        if self._plc_ns is None:
            return HandshakeState.NO_PLC
        if self._wants_zero:
            return HandshakeState.WANTS_ZERO
        if self._asked or self._recipe_answer != self._written.recipe:
            return HandshakeState.RECIPE
        return HandshakeState.READY

    def registers(self, now_ns: int) -> dict[str, int]:
        """Each register's number at this moment, by name."""
        state = self.state(now_ns)
        is_heard = self._line_state is not None
        if is_heard:
            self._beat = now_ns // BEAT_NS % IDS
        plc_id, code, reason = self._result(now_ns)
        return {
            "trigger_id": self._written.trigger_id,
            "acked_id": self._written.acked_id,
            "recipe": self._written.recipe,
            "plc_heartbeat": self._written.plc_heartbeat,
            "map_version": MAP_VERSION,
            "device_heartbeat": self._beat,
            "line_state": 0 if self._line_state is None else STATE_NUMBERS[self._line_state],
            "handshake": int(state),
            "accepted_id": self._accepted,
            "recipe_answer": self._recipe_answer,
            "result_id": plc_id,
            "result_code": code,
            "result_reason": reason,
            "result_id_again": plc_id,
            "recipes_crc": self._recipes_crc,
            "plc_losses": self.counts.plc_losses % IDS,
            "line_losses": self.counts.line_losses % IDS,
            "refused_writes": self.counts.refused_writes % IDS,
            "refused_clients": self.counts.refused_clients % IDS,
            "untaken_triggers": self.counts.untaken_triggers % IDS,
            "dropped_results": self.counts.dropped_results % IDS,
        }

    def _result(self, now_ns: int) -> tuple[int, int, int]:
        part = self._shown(now_ns)
        if part is None or part.reason is None:
            return 0, int(VerdictCode.NONE), 0
        code, reason = verdict_code(part.verdict), part.reason
        if part.verdict is Verdict.PASS and now_ns >= part.until_ns:
            code, reason = VerdictCode.NONE, Reason.DEADLINE
        return part.plc_id, int(code), REASON_NUMBERS.get(reason, OTHER_REASON)

    def _shown(self, now_ns: int) -> _Part | None:
        self.tick(now_ns)
        if not self._parts or self._parts[0].reason is None:
            return None
        return self._parts[0]

    def _makes_room(self, now_ns: int) -> bool:
        first, second = self._parts[:2]
        is_over = first.reason is not None and now_ns >= first.held_until_ns
        return is_over and second.reason is not None

    def _drop(self, index: int) -> None:
        self.counts.dropped_results += 1
        del self._parts[index]

    def _abandon(self) -> None:
        """The PLC begins anew: nothing of before is shown, and its last id says nothing."""
        self._parts.clear()
        self._accepted = 0
        self._written.trigger_id = 0
