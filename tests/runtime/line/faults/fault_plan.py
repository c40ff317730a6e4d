"""Which part is faulty, and what goes wrong with it: known to camera, engine and test alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from random import Random

SCORES = 5000
"""The score tells the part's number, modulo this."""


class Fault(str, Enum):
    # The camera's
    NO_FRAME = "no_frame"
    SKIPPED = "skipped"
    OLD_FRAMES = "old_frames"
    FROZEN = "frozen"
    INCOMPLETE = "incomplete"
    SIZE = "size"
    # The engine's
    RAISES = "raises"
    NAN = "nan"
    WRONG_SHAPE = "wrong_shape"
    SLOW = "slow"
    WRONG_JOB = "wrong_job"
    NONSENSE = "nonsense"
    OTHER_THRESHOLD = "other_threshold"
    HOLDS_INTERPRETER = "holds_interpreter"
    CRASHES = "crashes"
    STOPS_ITSELF = "stops_itself"
    # The test's own doing
    STOP_CAPTURE = "stop_capture"
    KILL_CAPTURE = "kill_capture"
    STOP_ENGINE = "stop_engine"
    KILL_ENGINE = "kill_engine"
    DOUBLED = "doubled"
    BOUNCE = "bounce"
    CLOCK_FORWARD = "clock_forward"
    CLOCK_BACK = "clock_back"


COSTLY = frozenset(
    {
        Fault.WRONG_JOB,
        Fault.HOLDS_INTERPRETER,
        Fault.CRASHES,
        Fault.STOPS_ITSELF,
        Fault.STOP_CAPTURE,
        Fault.KILL_CAPTURE,
        Fault.STOP_ENGINE,
        Fault.KILL_ENGINE,
    }
)
"""These end a worker, and many parts go by until the next one is up."""

NEVER_PASS = frozenset(
    {
        Fault.NO_FRAME,
        Fault.SKIPPED,
        Fault.OLD_FRAMES,
        Fault.FROZEN,
        Fault.INCOMPLETE,
        Fault.SIZE,
        Fault.RAISES,
        Fault.NAN,
        Fault.WRONG_SHAPE,
        Fault.SLOW,
        Fault.WRONG_JOB,
        Fault.NONSENSE,
        Fault.OTHER_THRESHOLD,
        Fault.HOLDS_INTERPRETER,
        Fault.CRASHES,
        Fault.STOPS_ITSELF,
    }
)
"""A part with one of these cannot have been judged."""

EXPECTED = {
    Fault.NO_FRAME: {"no_frame"},
    Fault.SKIPPED: {"missed_trigger"},  # exposed and numbered, and its driver loses it
    Fault.OLD_FRAMES: {"no_frame"},
    Fault.FROZEN: {"frozen_frame", "frame_size"},  # it may repeat half a picture
    Fault.INCOMPLETE: {"bad_frame"},
    Fault.SIZE: {"frame_size"},
    Fault.RAISES: {"engine_error"},
    Fault.NAN: {"invalid_output"},
    Fault.WRONG_SHAPE: {"invalid_output"},
    Fault.SLOW: {"deadline"},
    Fault.WRONG_JOB: {"engine_error", "deadline"},
    Fault.NONSENSE: {"invalid_output"},
    Fault.OTHER_THRESHOLD: {"invalid_output"},
    Fault.HOLDS_INTERPRETER: {"deadline"},
    Fault.CRASHES: {"engine_error"},
    Fault.STOPS_ITSELF: {"deadline"},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A line in which part k lies under the camera from `start_ns + k * interval_ns`."""

    seed: int
    start_ns: int
    interval_ns: int
    exposure_ns: int
    often: float = 0.08
    """Share of parts with a fault that costs no worker."""
    spacing: int = 200
    """Parts from one fault that does to the next: each kind in turn."""
    height: int = 48
    width: int = 64

    def arguments(self) -> dict[str, object]:
        return asdict(self)

    def exposed_ns(self, part: int) -> int:
        return self.start_ns + part * self.interval_ns + self.exposure_ns

    def triggered_ns(self, part: int) -> int:
        return self.start_ns + part * self.interval_ns

    def is_faulty(self, part: int) -> bool:
        return _draw(self.seed, part).faulty

    def fault(self, part: int) -> Fault | None:
        drawn = _draw(self.seed, part)
        if self.spacing and part % self.spacing == 0:
            return _COSTLY[part // self.spacing % len(_COSTLY)]
        return drawn.cheap if drawn.dice < self.often else None


@dataclass(frozen=True, slots=True)
class _Drawn:
    faulty: bool
    dice: float
    cheap: Fault


_CHEAP = [each for each in Fault if each not in COSTLY]
_COSTLY = [each for each in Fault if each in COSTLY]


@cache
def _draw(seed: int, part: int) -> _Drawn:
    random = Random(f"{seed}/{part}")
    return _Drawn(
        random.random() < 0.3,
        random.random(),
        _CHEAP[random.randrange(len(_CHEAP))],
    )
