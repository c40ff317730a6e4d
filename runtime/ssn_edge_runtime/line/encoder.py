"""Where parts are on the belt, by an encoder's counts: pure rules, times and counts are arguments.

A pass that waits for its part to reach the ejector is given when the count since the exposure
reaches the delay, and withheld where that cannot be known to hold: never late, never for another
part. A belt that stands gives none.

The signal is given at a reading, so that the encoder must be read at least once in each window of
counts: a larger step is a jump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError

COUNTER_BITS = 32
MILLISECOND_NS = 1_000_000
SILENT_NS = 200 * MILLISECOND_NS
SLACK_COUNTS = 2
"""An encoder that stands on an edge trembles; this far back is no motion."""
MOST_WAITING = 1024
_HISTORY = 4096
_SPEED_READINGS = 8
_SPEED_SPAN_NS = 2 * MILLISECOND_NS
"""Readings that came together tell no speed."""


@dataclass(frozen=True, slots=True)
class EncoderRules:
    """When a part is at the ejector, and when its encoder is not to be believed.

    Args:
        delay_counts: From the exposure to the pass signal.
        window_counts: So far beyond that the part can be caught; also the largest step from one
            reading to the next.
        silent_ns: Without a reading for longer, nothing is known of the belt.
        slack_counts: Less than this back is no motion backwards.
    """

    delay_counts: int
    window_counts: int
    silent_ns: int = SILENT_NS
    slack_counts: int = SLACK_COUNTS

    def __post_init__(self) -> None:
        """Refuse counts that no part could reach, or that the counter cannot tell apart."""
        if self.delay_counts < 0 or self.slack_counts < 0:
            raise ConfigError("the ejector's delay in counts must be 0 or more")
        if not self.slack_counts < self.window_counts < 2 ** (COUNTER_BITS - 2):
            raise ConfigError(
                f"an ejector window of {self.window_counts} counts; more than "
                f"{self.slack_counts} are wanted, which an encoder trembles by"
            )
        if self.silent_ns <= 0:
            raise ConfigError("the encoder's longest silence must be above 0")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pass that waited for its count.

    Args:
        sequence: Of its part.
        until_ns: The signal is due now, until then at the belt's speed; None: it is withheld.
        why: One line for a person, if it is withheld.
    """

    sequence: int
    until_ns: int | None
    why: str = ""


@dataclass(slots=True)
class _Waiting:
    sequence: int
    exposed_ns: int
    target: float | None = None


class CountedPasses:
    """Passes on their way to the ejector.

    Args:
        rules: Counts and times.
    """

    def __init__(self, rules: EncoderRules) -> None:
        self._rules = rules
        self._readings: deque[tuple[int, int]] = deque(maxlen=_HISTORY)  # time, position
        self._raw = 0
        self._farthest = 0
        self._moved_ns = 0
        self._waiting: list[_Waiting] = []
        self._outcomes: list[Outcome] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting and not self._outcomes

    def read(self, count: int, at_ns: int) -> None:
        """Take a reading of the counter, which wraps at 32 bit; one that is not newer is none."""
        raw = count % 2**COUNTER_BITS
        if not self._readings:
            self._begin(raw, 0, at_ns)
            return
        last_ns, last = self._readings[-1]
        if at_ns <= last_ns:
            return
        step = (raw - self._raw) % 2**COUNTER_BITS
        if step >= 2 ** (COUNTER_BITS - 1):
            step -= 2**COUNTER_BITS
        position = last + step
        why = ""
        if at_ns - last_ns > self._rules.silent_ns:
            why = f"the encoder was silent for {(at_ns - last_ns) / 1e6:.0f} ms"
        elif self._farthest - position > self._rules.slack_counts:
            why = "the belt ran backwards"
        elif step > self._rules.window_counts:
            why = f"the encoder jumped by {step} counts"
        if why:
            self.withhold(why)
            self._readings.clear()  # what was exposed before has no place on this belt
            self._begin(raw, position, at_ns)
            return
        self._raw = raw
        self._readings.append((at_ns, position))
        if position > self._farthest:
            self._farthest, self._moved_ns = position, at_ns

    def wait(self, sequence: int, exposed_ns: int) -> None:
        """Have a pass wait for its part."""
        if len(self._waiting) >= MOST_WAITING:
            why = f"{MOST_WAITING} passes wait for a belt that does not bring their parts"
            self._outcomes.append(Outcome(sequence, None, why))
        else:
            self._waiting.append(_Waiting(sequence, exposed_ns))

    def withhold(self, why: str) -> None:
        """Give none of those that wait."""
        self._outcomes += [Outcome(each.sequence, None, why) for each in self._waiting]
        self._waiting.clear()

    def settle(self, now_ns: int) -> list[Outcome]:
        """What is due now, and what will never be; each pass once."""
        if self._waiting:
            self._look(now_ns)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def next_ns(self) -> int | None:
        """When `settle` has something to do without a reading: the silence is too long then."""
        if self._outcomes:
            return 0
        if not self._waiting:
            return None
        return self._readings[-1][0] + self._rules.silent_ns + 1 if self._readings else 0

    def stands(self, now_ns: int) -> bool:
        """Whether the belt brings no part to the ejector."""
        return now_ns - self._moved_ns > self._rules.silent_ns

    def _begin(self, raw: int, position: int, at_ns: int) -> None:
        self._raw, self._farthest = raw, position
        self._readings.append((at_ns, position))

    def _look(self, now_ns: int) -> None:
        if not self._readings:
            self.withhold("nothing was read of the encoder")
            return
        last_ns, position = self._readings[-1]
        if now_ns - last_ns > self._rules.silent_ns:
            self.withhold(f"the encoder has been silent for {(now_ns - last_ns) / 1e6:.0f} ms")
            return
        speed = self._fastest()
        left = []
        for each in self._waiting:
            outcome = self._outcome(each, position, last_ns, speed, now_ns)
            if outcome is None:
                left.append(each)
            else:
                self._outcomes.append(outcome)
        self._waiting = left

    def _outcome(
        self, each: _Waiting, position: int, last_ns: int, speed: float, now_ns: int
    ) -> Outcome | None:
        """None while it goes on waiting."""
        if each.target is None:
            if each.exposed_ns > last_ns:
                return None  # the next reading tells where it was
            exposed = self._position_at(each.exposed_ns)
            if exposed is None:
                why = "no reading of the encoder reaches back to its exposure"
                return Outcome(each.sequence, None, why)
            each.target = exposed + self._rules.delay_counts
        end = each.target + self._rules.window_counts
        if position >= end:
            return Outcome(each.sequence, None, "its part had passed the ejector")
        if position < each.target or speed <= 0:
            return None
        until_ns = last_ns + int((end - position) / speed)
        if until_ns <= now_ns:
            return Outcome(each.sequence, None, "its part had passed the ejector")
        return Outcome(each.sequence, until_ns)

    def _position_at(self, at_ns: int) -> float | None:
        """Between two readings, in proportion to time; None before the first."""
        later_ns, later = self._readings[-1]
        for earlier_ns, earlier in reversed(self._readings):
            if earlier_ns <= at_ns:
                if later_ns == earlier_ns:
                    return float(earlier)
                share = (at_ns - earlier_ns) / (later_ns - earlier_ns)
                return earlier + share * (later - earlier)
            later_ns, later = earlier_ns, earlier
        return None

    def _fastest(self) -> float:
        """Counts a nanosecond: the highest mean of the last readings, so that no signal is long."""
        last_ns, last = self._readings[-1]
        return max(
            (
                (last - position) / max(last_ns - at_ns, _SPEED_SPAN_NS)
                for at_ns, position in self._newest()
            ),
            default=0.0,
        )

    def _newest(self) -> Iterator[tuple[int, int]]:
        for back in range(2, min(_SPEED_READINGS, len(self._readings)) + 1):
            yield self._readings[-back]
