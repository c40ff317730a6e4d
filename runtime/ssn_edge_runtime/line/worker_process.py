"""The authority's hold on one worker process: started, watched, killed, reaped, started again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic_ns

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.messages import (
    LARGEST_MESSAGE,
    Message,
    decode,
    encode,
    link_pair,
)

SECOND_NS = 1_000_000_000
LONGEST_DEATH_NS = 10 * SECOND_NS

logger = logging.getLogger(__name__)


class WorkerState(str, Enum):
    """Where a worker stands; each equal to its text."""

    STARTING = "starting"
    RUNNING = "running"
    DYING = "dying"
    """Killed or gone, not reaped yet: what it owns stays its own."""
    GONE = "gone"

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """What a worker process runs.

    Args:
        factory: ``module:function`` that makes its source or judge.
        arguments: For the factory, by name; JSON.
        module: What ``python -m`` is given.
    """

    factory: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    module: str = ""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """When a worker is taken for dead, and how often it is started again.

    Args:
        start_ns: Longest start, until it says that it is ready.
        beat_ns: Longest silence of a running one: stopped, or its interpreter is held.
        busy_ns: Longest single call, into a driver or an engine.
        restarts: So many within `window_ns`; one more ends the line.
        window_ns: See `restarts`.
        pause_ns: Wait before the second and each further restart of a window.
    """

    start_ns: int = 120 * SECOND_NS
    beat_ns: int = 1 * SECOND_NS
    busy_ns: int = 10 * SECOND_NS
    restarts: int = 5
    window_ns: int = 60 * SECOND_NS
    pause_ns: int = SECOND_NS // 4

    def __post_init__(self) -> None:
        """Refuse limits that no worker could meet."""
        if min(self.start_ns, self.beat_ns, self.busy_ns, self.window_ns) <= 0:
            raise ConfigError("a worker's start, beat, busy and window times must be above 0")
        if self.restarts < 0 or self.pause_ns < 0:
            raise ConfigError("a worker's restarts and pause must be 0 or more")


class RestartBudget:
    """Counts restarts in a sliding window; pure."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._taken: deque[int] = deque()
        self.ever = 0

    def take(self, now_ns: int) -> int | None:
        """When the next start may be; None when the budget is spent."""
        while self._taken and now_ns - self._taken[0] >= self._limits.window_ns:
            self._taken.popleft()
        if len(self._taken) >= self._limits.restarts:
            return None
        pause_ns = self._limits.pause_ns if self._taken else 0
        self._taken.append(now_ns)
        self.ever += 1
        return now_ns + pause_ns


class WorkerProcess:
    """One worker over its restarts. Nothing here waits.

    Args:
        name: For messages and records.
        command: What it runs.
        limits: When it is taken for dead.
        niceness: How far it stands back behind the line, from its first moment: what it imports
            takes a core, too.
    """

    def __init__(
        self, name: str, command: WorkerCommand, limits: WorkerLimits, *, niceness: int = 0
    ) -> None:
        self.name = name
        self.command = command
        """What the next process of it runs."""
        self.state = WorkerState.GONE
        self.budget = RestartBudget(limits)
        self.start_at_ns: int | None = 0
        self.ending = ""
        """Why the last one ended."""
        self.granted: tuple[str, ...] = ()
        """What it asked the system for, and whether it was granted, a line each."""
        self.incarnation = 0
        self.socket: socket.socket | None = None
        self.exit_fd = -1
        self._limits = limits
        self._niceness = niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._started_ns = 0
        self._beat_ns = 0
        self._busy_since_ns: int | None = None
        self._dying_since_ns = 0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def owner(self) -> str:
        """What slots call this very process."""
        return f"{self.name}#{self.incarnation}"

    def start(self, setup: Mapping[str, object], fds: Sequence[int], now_ns: int) -> None:
        """Start the process and tell it what to do.

        Args:
            setup: Its first message.
            fds: Descriptors that it inherits, under the same numbers.
            now_ns: Now.
        """
        assert self._process is None
        ours, theirs = link_pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.command.module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *fds),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C in a terminal is the authority's
            )
        _make_ordinary(self._process.pid)
        self.exit_fd = os.pidfd_open(self._process.pid)
        if self._niceness:
            self._stand_back(self._process.pid)
        self.socket = ours
        self.incarnation += 1
        self.state = WorkerState.STARTING
        self.start_at_ns = None
        self._started_ns = self._beat_ns = now_ns
        self._busy_since_ns = None
        self.send(
            "setup",
            parent=os.getpid(),
            factory=self.command.factory,
            arguments=dict(self.command.arguments),
            **setup,
        )

    def send(self, kind: str, **fields: object) -> bool:
        """Send a message; False if the worker does not take it: it is stuck or gone."""
        if self.socket is None:
            return False
        try:
            self.socket.send(encode(kind, fields))
        except OSError:
            return False
        return True

    def receive(self, now_ns: int) -> Message | None:
        """The next message; beats are taken note of and not returned.

        Raises:
            MessageError: A packet that is none.
            EOFError: The worker's end is closed.
        """
        while self.socket is not None:
            try:
                packet = self.socket.recv(LARGEST_MESSAGE)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                raise EOFError from error
            if not packet:
                raise EOFError
            message = decode(packet)
            self._beat_ns = now_ns
            if message.kind != "beat":
                return message
            self._busy_since_ns = message.whole_or_none("busy_since_ns")
        return None

    def ready(self, now_ns: int, granted: tuple[str, ...] = ()) -> None:
        """It said that it is ready."""
        self.granted = granted
        self.state = WorkerState.RUNNING
        self._beat_ns = now_ns

    def trouble(self, now_ns: int) -> str | None:
        """Why it must be killed now, if it must."""
        if self.state is WorkerState.STARTING:
            if now_ns - self._started_ns > self._limits.start_ns:
                return f"was not ready within {self._limits.start_ns / 1e9:g} s"
        elif self.state is WorkerState.RUNNING:
            if now_ns - self._beat_ns > self._limits.beat_ns:
                return f"showed no pulse for {self._limits.beat_ns / 1e9:g} s"
            if (
                self._busy_since_ns is not None
                and now_ns - self._busy_since_ns > self._limits.busy_ns
            ):
                return f"hung in one call for {self._limits.busy_ns / 1e9:g} s"
        return None

    def is_undead(self, now_ns: int) -> bool:
        """Whether the kernel does not let go of it: a driver holds it, and its slots with it."""
        return self.state is WorkerState.DYING and now_ns - self._dying_since_ns > LONGEST_DEATH_NS

    def kill(self, why: str) -> None:
        """Kill it; it is not gone before it is reaped."""
        if self._process is None or self.state is WorkerState.DYING:
            return
        self.state = WorkerState.DYING
        self.ending = why
        self._dying_since_ns = monotonic_ns()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_fd, signal.SIGKILL)
        self._close_link()

    def reap(self) -> bool:
        """Whether it is gone for good now."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        if self.state is not WorkerState.DYING:
            self.ending = f"ended with {code}" if code >= 0 else f"was ended by signal {-code}"
        self.state = WorkerState.GONE
        self._process = None
        self._close_link()
        os.close(self.exit_fd)
        self.exit_fd = -1
        return True

    def end(self, grace_s: float) -> None:
        """Ask it to end, and see to it that it does. Waits, up to the grace."""
        if self._process is None:
            return
        if self.state is not WorkerState.DYING and self.send("stop"):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        if self._process.poll() is None:
            self.kill("did not end when asked to")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LONGEST_DEATH_NS / 1e9)
        if not self.reap():
            logger.error("%s: process %s cannot be killed, a driver holds it", self.name, self.pid)
            self._close_link()
            os.close(self.exit_fd)

    def _stand_back(self, pid: int) -> None:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        with suppress(OSError):  # it is gone already, or a service may not
            # Else it would have the line's real-time priority, where that has one.
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, pid, own + self._niceness)

    def _close_link(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def _make_ordinary(pid: int) -> None:
    """Take a new process off the real-time priority that it inherits.

    It would load its libraries with the authority's own, and keep it waiting.
    """
    with suppress(OSError):
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
