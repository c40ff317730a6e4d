"""The local server of a guarded line, in a process of its own.

Whatever clients do to it, its threads, its memory and its interpreter lock are not the authority's:
between both is the control socket alone.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType

from ssn_edge_runtime.errors import ListenError, SsnEdgeError
from ssn_edge_runtime.server.address import parse_listen
from ssn_edge_runtime.server.inspection_server import InspectionServer
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.supervision.restart_budget import RestartBudget

START_S = 30.0
NICENESS = 5
"""Clients that hammer must not take the processor from the line."""
DRAIN_S = 2.0


class LineServerProcess:
    """The server's process beside a line; a context manager. It ends with whoever opened it.

    Args:
        listen: Where it listens, as `parse_listen` reads it.
        control: The line's control socket; asked once there is a request.
        deadline_ms: The line's.
        takes_triggers: Whether the line does.
        on_message: Told where it listens, and when it is gone for good.
    """

    def __init__(
        self,
        listen: str,
        control: Path,
        *,
        deadline_ms: float,
        takes_triggers: bool,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        parse_listen(listen)  # what is no address is said before a process is begun
        self._command = [sys.executable, "-m", "ssn_edge_runtime.server.line_server", listen]
        self._command += ["--control", str(control), "--deadline-ms", repr(deadline_ms)]
        if takes_triggers:
            self._command.append("--takes-triggers")
        self._listen = listen
        self._on_message = on_message
        self._budget = RestartBudget()
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start it, and wait until it listens.

        Raises:
            ListenError: It cannot.
        """
        self._process = self._started()
        try:
            self._on_message(f"{self._said()}: answering for the line")
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
        self._on_message(f"{self._listen}: the server is gone and is not started again")

    def close(self) -> None:
        """End it, once requests in hand are answered."""
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

    def __enter__(self) -> LineServerProcess:
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
                f"{self._listen}: the server's process did not begin to listen; see its messages"
            ) from None
        if "error" in document:
            raise ListenError(str(document["error"]))
        return str(document["listens"])


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.server.line_server",
        description="Answer local programs for a line that takes its control socket's words.",
    )
    parser.add_argument("listen", help="unix:PATH, or a loopback address and port")
    parser.add_argument("--control", type=Path, required=True, help="the line's control socket")
    parser.add_argument("--deadline-ms", type=float, required=True, help="the line's deadline")
    parser.add_argument("--takes-triggers", action="store_true", help="the line takes triggers")
    options = parser.parse_args(arguments)
    # One that is started again inherits the authority's priority, which is not for clients.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(NICENESS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    line = LineClient(options.control, deadline_ms=options.deadline_ms)
    try:
        with InspectionServer(
            None,
            parse_listen(options.listen),
            limits=ServerLimits(drain_s=DRAIN_S),
            trigger=line.trigger if options.takes_triggers else None,
            status=line.state,
        ) as server:
            _tell(listens=str(server.address))
            stop.wait()
    except SsnEdgeError as error:
        _tell(error=str(error))
        return error.exit_code
    return 0


def _tell(**document: str) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
