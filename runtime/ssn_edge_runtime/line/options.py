"""How a line is to run, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.line.shared_frames import SLOT_BYTES
from ssn_edge_runtime.line.worker_process import SECOND_NS, WorkerCommand, WorkerLimits
from ssn_edge_runtime.sinks.evidence_policy import EvidencePolicy
from ssn_edge_runtime.sinks.pictures import KeepPolicy
from ssn_edge_runtime.trust import Trust


class TriggerKind(str, Enum):
    """What makes a part; each equal to its text."""

    FREE = "free"
    """Every frame, as the camera gives it: frames are judged, not parts."""
    SOFTWARE = "software"
    """A call, a line on a socket or on stdin; the next frame exposed after it is the part's."""
    CAMERA = "camera"
    """The camera has a trigger input: each frame is a part, a gap in its counter a missed one."""
    RATE = "rate"
    """A timer."""

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


class FreePolicy(str, Enum):
    """What a free-running line does with more frames than it can judge; each equal to its text."""

    LATEST = "latest"
    """The newest is judged, older ones are dropped: the answer is as fresh as can be."""
    EVERY = "every"
    """Each gets a record; where there is no room, `unknown(overrun)`."""
    BLOCK = "block"
    """The source waits: right for a recording."""

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


@dataclass(frozen=True, slots=True)
class PicturesKept:
    """Whose masks and overlays the engine's process writes, behind its answers.

    Args:
        folder: The journal's.
        keep: Whose.
    """

    folder: Path
    keep: KeepPolicy


LOWEST_HZ, HIGHEST_HZ = 1e-4, 1000.0
"""Of a rate: once in three hours."""
CAPTURE_MODULE = "ssn_edge_runtime.line.capture_worker"
ENGINE_MODULE = "ssn_edge_runtime.line.engine_worker"
KEEPER_MODULE = "ssn_edge_runtime.line.keeper_worker"


@dataclass(frozen=True, slots=True)
class EvidenceKept:
    """Whose frames the keeper's process hashes and writes, behind their records.

    Args:
        folder: The journal's.
        policy: Whose, and how much of the disk.
        frames: So many may be in its hands; each camera has that many slots more. What comes
            beyond is left out, and counted.
        bytes_a_day: No frame is kept while the line's processes have written more; None for no such
            bound. See `WriteBudget`.
        limits: When it is taken for dead. It is no part of a verdict, so that it has more time than
            the others; once its restarts are spent, the line goes on without it.
        command: What the keeper runs.
    """

    folder: Path
    policy: EvidencePolicy
    frames: int = 4
    bytes_a_day: int | None = None
    limits: WorkerLimits = field(
        default_factory=lambda: WorkerLimits(
            start_ns=20 * SECOND_NS, beat_ns=5 * SECOND_NS, busy_ns=30 * SECOND_NS
        )
    )
    command: WorkerCommand = field(default_factory=lambda: WorkerCommand("", {}, KEEPER_MODULE))

    def __post_init__(self) -> None:
        """Refuse a keeper that holds nothing."""
        if self.frames < 1:
            raise ConfigError(f"a keeper that holds {self.frames} frames keeps none; 1 or more")


@dataclass(frozen=True, slots=True)
class LineOptions:
    """How a line runs.

    Args:
        trigger: What makes a part.
        policy: With `free`: what happens to frames beyond what can be judged.
        rate_hz: With `rate`: triggers a second.
        rules: Times and room of triggers.
        max_parts: Ends the run after so many.
        drives_while_dropping: Lets a line that drops frames drive an outlet: a part on a dropped
            frame gets no verdict, and whoever sets this says that it is rejected, or seen again.
        engine: When the engine worker is taken for dead.
        capture: The same for each capture worker.
        spare_slots: Frame slots of a camera beyond the parts in flight.
        slot_bytes: Room for one frame.
        frame_timeout_s: Longest wait for a frame of a camera that owes one.
        reopen_attempts: How often a lost camera is opened again, in a row.
        reopen_pause_s: Wait before the first of them.
        clock_step_ns: A step of the wall clock beyond this is an event.
        stop_grace_s: How long a worker may take to end before it is killed.
        pictures: Whose masks and overlays are kept; None for nobody's.
        realtime: The authority's real-time priority, if it asked for one: capture workers ask for
            one less, the engine's for two less, so that an engine that takes every core leaves
            deadlines and frames their time.
        lock_memory: Whether the workers ask that their memory is never swapped out.
        waits_for_engine: An engine that cannot be opened yet is tried again every
            `ENGINE_TRIED_EVERY_NS`, and the line stays Preoperational; else it ends the run.
        evidence: Whose frames are kept; None for nobody's.
        live: Where the last part is laid out for who looks at it now; None where nobody can.
    """

    trigger: TriggerKind = TriggerKind.FREE
    policy: FreePolicy = FreePolicy.LATEST
    rate_hz: float | None = None
    rules: TriggerRules = field(default_factory=TriggerRules)
    max_parts: int | None = None
    drives_while_dropping: bool = False
    engine: WorkerLimits = field(default_factory=WorkerLimits)
    capture: WorkerLimits = field(default_factory=WorkerLimits)
    spare_slots: int = 4
    slot_bytes: int = SLOT_BYTES
    frame_timeout_s: float = 5.0
    reopen_attempts: int = 10
    reopen_pause_s: float = 2.0
    clock_step_ns: int = 500_000_000
    stop_grace_s: float = 2.0
    pictures: PicturesKept | None = None
    realtime: int | None = None
    lock_memory: bool = False
    waits_for_engine: bool = False
    evidence: EvidenceKept | None = None
    live: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work together."""
        if (self.trigger is TriggerKind.RATE) != (self.rate_hz is not None):
            raise ConfigError("a rate goes with --trigger rate:HZ, and it alone")
        if self.rate_hz is not None and not LOWEST_HZ <= self.rate_hz <= HIGHEST_HZ:
            raise ConfigError(
                f"a rate of {self.rate_hz} Hz; {LOWEST_HZ:g} to {HIGHEST_HZ:g} is wanted"
            )
        if self.max_parts is not None and self.max_parts < 1:
            raise ConfigError(f"a run of {self.max_parts} parts is none; ask for 1 or more")
        if self.spare_slots < 2:
            raise ConfigError("2 spare frame slots or more are needed: one is always being filled")
        if not self.frame_timeout_s > 0 or not self.reopen_pause_s > 0 or self.reopen_attempts < 0:
            raise ConfigError("frame timeout and reopening pause must be above 0")

    def asks(self, *, below: int) -> dict[str, object]:
        """What a worker is to ask of the system, `below` the authority; no priority below 1."""
        priority = 0 if self.realtime is None else max(0, self.realtime - below)
        return {"realtime": priority or None, "lock_memory": self.lock_memory}

    @property
    def drops(self) -> bool:
        """Whether frames may go without a record."""
        return self.trigger is TriggerKind.FREE and self.policy is FreePolicy.LATEST


def device_command(device: str) -> WorkerCommand:
    """The capture worker of a `--device`."""
    return WorkerCommand(f"{CAPTURE_MODULE}:open_device", {"device": device}, CAPTURE_MODULE)


def package_command(
    package: str,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    settings: str | None = None,
    recipe: str | None = None,
    trust: Trust | None = None,
) -> WorkerCommand:
    """The engine worker of a model package.

    Settings are read again by a worker that is restarted, and other ones end the line: name a file
    that does not change, such as a version that the store keeps.
    """
    arguments: dict[str, object] = {
        "package": package,
        "engine": engine,
        "precision": precision,
        "threads": threads,
    }
    if settings is not None:
        arguments |= {"settings": settings, "recipe": recipe}
    if trust is not None:
        arguments["trust"] = trust.to_dict()
    return WorkerCommand(f"{ENGINE_MODULE}:open_inspector", arguments, ENGINE_MODULE)
