"""A process beside the line: whatever its peers do to it, the authority does not notice.

Between both are the control socket and the journal's files; its threads, its memory and its
interpreter lock are its own. On its standard output it says that it is up, and what becomes of its
peer: that, and its own end, are events of the journal.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from types import TracebackType

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.outlets.loss_notes import LossNotes
from ssn_edge_runtime.outlets.seldom import Seldom
from ssn_edge_runtime.outlets.word_reader import WordReader
from ssn_edge_runtime.outlets.words import LONGEST_WORD, PeerLosses, PeerReport, plain_cause
from ssn_edge_runtime.record import EventKind, EventRecord
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
        outlet: What it is, for the journal: such as ``mqtt``.
        peer: Whom it is for, for the journal, without secrets; the name if it is left out.
        on_message: Told that it is up, and when it is gone for good.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        what: str,
        outlet: str,
        peer: str | None = None,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._name = name
        self._command = [sys.executable, "-m", module, *arguments]
        self._what = what
        self._on_message = on_message
        self._budget = RestartBudget()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: WordReader | None = None
        whose = (outlet, name if peer is None else peer)
        self._peer_notes = LossNotes(*whose, "peer")
        self._own_notes = LossNotes(*whose, "process")
        self._own_losses = PeerLosses()
        self._ending = ""  # what the process said before its end
        self._refused = Seldom()
        self._whose = {"outlet": outlet, "peer": whose[1]}

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
        self._own_losses.back()
        self._listen(self._process)

    def look(self) -> None:
        """Take what it says, and start it again if it is gone; waits for nothing."""
        process = self._process
        if process is None:
            return
        self._hear()
        if process.poll() is None:
            return
        self._hear()  # its last words
        self._reader = None
        _close_pipes(process)
        cause = self._ending or _ending_of(process.returncode)
        self._ending = ""
        self._own_losses.lost(cause)
        if self._budget.spend(monotonic()):
            self._process = self._started()
            self._listen(self._process)
            return
        self._process = None
        self._own_losses.lost(f"{cause}; it is not started again")
        self._given_up()
        self._on_message(f"{self._name}: the server is gone and is not started again")

    def take_events(self, *, is_last: bool = False) -> list[EventRecord]:
        """What the journal is to be told now: few, whatever the process and its peer do.

        Args:
            is_last: The run ends: also what would have been told later.
        """
        now_s = float("inf") if is_last else monotonic()
        if (report := self._own_losses.report) is not None:
            self._own_notes.see(report)
        events = [
            EventRecord.now(event, detail)
            for notes in (self._own_notes, self._peer_notes)
            for event, detail in notes.notes(now_s)
        ]
        if self._refused.untold and self._refused.is_free(now_s):
            detail = self._whose | {"words": self._refused.tell(now_s)}
            events.append(EventRecord.now(EventKind.OUTLET_FLOOD, detail))
        return events

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

    def _given_up(self) -> None:
        """What is left to do once it is not started again."""

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            bufsize=0,
            stdin=subprocess.PIPE,  # its end is ours, also where we are killed
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # Ctrl-C in a terminal is the line's
        )

    def _said(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        is_told = select.select([self._process.stdout], [], [], START_S)[0]
        said = self._process.stdout.readline(LONGEST_WORD) if is_told else b""
        try:
            document = json.loads(said)
        except ValueError:
            raise ListenError(
                f"{self._name}: the server's process did not begin to listen; see its messages"
            ) from None
        if "error" in document:
            raise ListenError(str(document["error"]))
        return str(document["listens"])

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)  # the authority must not wait
        self._reader = WordReader(process.stdout.fileno())
        self._peer_notes.begin_again()

    def _hear(self) -> None:
        reader = self._reader
        if reader is None:
            return
        for word in reader.take():
            try:
                self._heed(word)
            except ValueError:
                reader.refused += 1
        self._refused.untold, reader.refused = self._refused.untold + reader.refused, 0

    def _heed(self, word: Mapping[str, object]) -> None:
        ((name, said),) = word.items()
        if name == "peer" and isinstance(said, dict):
            self._peer_notes.see(PeerReport.from_dict(said))
        elif name == "listens" and isinstance(said, str):
            self._own_losses.back()
        elif name == "error" and isinstance(said, str):
            self._ending = plain_cause(said)
        else:
            raise ValueError("is none of an outlet's words")


def environment() -> dict[str, str]:
    """Of a process that is to find this package where this one did."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


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


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _ending_of(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was ended by signal {-code}"


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
