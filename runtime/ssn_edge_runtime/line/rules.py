"""The line's times and room, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.encoder import EncoderRules

MILLISECOND_NS = 1_000_000
DEADLINE_MS = 500.0
EJECTOR_WINDOW_MS = 50.0


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """When a frame belongs to a trigger, until when its verdict counts, and how many fit.

    All times in nanoseconds.

    Args:
        deadline_ns: From the trigger (free-running: from the exposure) to the verdict.
        exposure_delay_ns: From the trigger to the earliest exposure that shows its part.
        exposure_window_ns: From that to the latest such exposure. Best shorter than the time
            between two parts; where windows overlap, a frame is the newest trigger's. Shorter than
            delay and deadline leave, where the camera does not number its frames.
        min_interval_ns: A trigger sooner than this after the last accepted one is a bounce.
        in_flight: Parts that may be without a verdict at a time. Where cameras share the engine,
            one that has less than its share of them finds room all the same.
        ejector_delay_ns: From the exposure to the pass signal; None gives it at once.
        ejector_window_ns: How long it is valid then. Without a delay: until the deadline. With an
            encoder: at most.
        encoder: The delay by counts of an encoder, in place of time.
        remembered: Ids whose answers are kept for repeated triggers.
    """

    deadline_ns: int = int(DEADLINE_MS * MILLISECOND_NS)
    exposure_delay_ns: int = 0
    exposure_window_ns: int = int(DEADLINE_MS * MILLISECOND_NS)
    min_interval_ns: int = 0
    in_flight: int = 8
    ejector_delay_ns: int | None = None
    ejector_window_ns: int = int(EJECTOR_WINDOW_MS * MILLISECOND_NS)
    remembered: int = 1024
    encoder: EncoderRules | None = None

    def __post_init__(self) -> None:
        """Refuse times that run backwards, and verdicts that come after their part is gone."""
        if self.deadline_ns <= 0 or self.exposure_window_ns <= 0 or self.ejector_window_ns <= 0:
            raise ConfigError("deadline, exposure window and ejector window must be above 0")
        if self.exposure_delay_ns < 0 or self.min_interval_ns < 0:
            raise ConfigError("the exposure delay and the minimum interval must be 0 or more")
        if self.in_flight < 1 or self.remembered < self.in_flight:
            raise ConfigError(
                f"{self.in_flight} parts in flight and {self.remembered} answers remembered: 1 "
                "part or more is wanted, and an answer for each"
            )
        if self.exposure_delay_ns >= self.deadline_ns:
            raise ConfigError(
                f"the exposure comes {self.exposure_delay_ns / 1e6:g} ms after the trigger, the "
                f"deadline {self.deadline_ns / 1e6:g} ms: no part could be judged in time"
            )
        if self.encoder is not None and self.ejector_delay_ns is not None:
            raise ConfigError("the ejector delay is either a time or a number of counts, not both")
        if self.ejector_delay_ns is not None and self.ejector_delay_ns < 0:
            raise ConfigError("the ejector delay must be 0 or more")
