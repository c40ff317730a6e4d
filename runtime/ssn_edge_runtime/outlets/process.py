"""A process beside the line: whatever its peers do to it, the authority does not notice.

Between both are the control socket and the journal's files; its threads, its memory and its
interpreter lock are its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.supervision.restart_budget import RestartBudget

START_S = 30.0
NICENESS = 5
"""Peers that hammer must not take the processor from the line."""
DRAIN_S = 2.0
"""How long a process may take to end what it has in hand."""


class OutletProcess:
    """One process beside a line; a context manager. It ends with whoever opened it.

    Args:
        name: For messages: what a person gave, such as the address that it listens on.
        module: Run as ``python -m``; its `main` begins with `begin_beside` and tells with `tell`.
        arguments: Its command line.
        what: What it does, for the message when it is up.
        on_message: Told that it is up, and when it is gone for good.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        what: str,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._what = what
        self._on_message = on_message
        self._budget = RestartBudget()
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start it, and wait until it says that it is up.

        Raises:
            ListenError: It cannot.
        """
        self._process = self._started()
        try:
            self._on_message(f"{self._said()}: {self._what}")
        except BaseException:
            self.close()
            raise

    def look(self) -> None:
        """Start it again if it is gone; waits for nothing."""
        process = self._process
        if process is None or process.poll() is None:
            return
        _close_pipes(process)
        if self._budget.spend(monotonic()):
            self._process = self._started()
            return
        self._process = None
        self._on_message(f"{self._name}: the server is gone and is not started again")

    def close(self) -> None:
        """End it, once what it has in hand is done."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(DRAIN_S + 3.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close_pipes(process)

    def __enter__(self) -> OutletProcess:
        """Start it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,  # its end is ours, also where we are killed
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C in a terminal is the line's
        )

    def _said(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        is_told = select.select([self._process.stdout], [], [], START_S)[0]
        said = self._process.stdout.readline() if is_told else b""
        try:
            document = json.loads(said)
        except ValueError:
            raise ListenError(
                f"{self._name}: the server's process did not begin to listen; see its messages"
            ) from None
        if "error" in document:
            raise ListenError(str(document["error"]))
        return str(document["listens"])


def begin_beside() -> threading.Event:
    """In the process itself: give way to the line; the event is set when it is to end.

    That is at SIGTERM, at SIGINT, and with whoever started it.
    """
    # One that is started again inherits the authority's priority, which is not for peers.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(NICENESS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    return stop


def tell(**document: str) -> None:
    """In the process itself: ``listens=...`` once it is up, ``error=...`` if it cannot."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
