"""What a benchmark is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.trust import Trust

DEFAULT_SECONDS = 5.0
ALL = "all"
"""As a precision: every one that the package holds."""
MAX_BATCH = 256
MAX_STREAMS = 64


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """Which packages, how, and for how long.

    Args:
        packages: Model packages; each with each engine and each precision is measured in turn.
        engines: ``auto`` or names of `ssn_edge_runtime.engines.ENGINES`.
        precisions: ``auto``, ``all``, or some of ``fp32``, ``fp16`` and ``int8``.
        batch_sizes: Of the engine alone, each with an engine of its own.
        streams: How many chains from frame to verdict run at once, each with an engine of its own.
        frames: Of each measurement; None to go by `seconds`.
        seconds: Of each measurement, about; None for `DEFAULT_SECONDS`.
        data: A folder of pictures, or one, in place of the golden pictures.
        threads: Of a CPU engine; 0 lets it choose.
        trust: Who must have signed the packages; None takes them signed or not.
    """

    packages: tuple[Path, ...]
    engines: tuple[str, ...] = ("auto",)
    precisions: tuple[str, ...] = ("auto",)
    batch_sizes: tuple[int, ...] = (1, 4, 16)
    streams: tuple[int, ...] = (1, 2)
    frames: int | None = None
    seconds: float | None = None
    data: Path | None = None
    threads: int = 0
    trust: Trust | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, before anything is opened."""
        for option, values in (
            ("PACKAGE", self.packages),
            ("--engine", self.engines),
            ("--precision", self.precisions),
        ):
            if not values:
                raise ConfigError(f"{option}: nothing was named; name one at least")
            if len(set(values)) < len(values):
                raise ConfigError(f"{option} {_listed(values)}: one is named twice; name it once")
        _check_numbers("--batch-sizes", self.batch_sizes, MAX_BATCH)
        _check_numbers("--streams", self.streams, MAX_STREAMS)
        if self.frames is not None and self.seconds is not None:
            raise ConfigError("--frames and --seconds: both say how long; give one of them")
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"--frames {self.frames}: 1 or more is wanted")
        if self.seconds is not None and not 0 < self.seconds <= 86_400:
            raise ConfigError(f"--seconds {self.seconds:g}: more than 0, at most a day, is wanted")
        if not 0 <= self.threads <= 1024:
            raise ConfigError(f"--threads {self.threads}: 0 (the engine chooses) or more is wanted")


def _check_numbers(option: str, numbers: Sequence[int], most: int) -> None:
    if not numbers or not all(1 <= number <= most for number in numbers):
        raise ConfigError(
            f"{option} {_listed(numbers)}: numbers from 1 to {most} are wanted, such as 1,4"
        )
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{option} {_listed(numbers)}: one is named twice; name it once")


def _listed(values: Sequence[object]) -> str:
    return ",".join(str(value) for value in values)
