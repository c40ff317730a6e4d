"""What every worker process does: find its link, show a pulse, and die with the authority."""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from time import monotonic_ns
from typing import cast

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.line.messages import LARGEST_MESSAGE, Message, decode, encode
from ssn_edge_runtime.supervision.process import ask_realtime, lock_memory

BEAT_S = 0.1
EXIT_ORPHANED = 9
EXIT_FAILED = 5
_PR_SET_PDEATHSIG = 1


class WorkerLink:
    """A worker's end of its link to the authority; sending is safe from several threads.

    Args:
        end: The inherited socket.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._socket = end
        self._busy_since_ns: dict[str, int] = {}
        self._pulse_priority: int | None = None
        self.is_stopped = False

    @classmethod
    def from_arguments(cls) -> tuple[WorkerLink, Message]:
        """Take over the process: link, signals, parent; returns the link and the set-up."""
        link = cls(socket.socket(fileno=int(sys.argv[1])))
        # The authority stops its workers itself, once all is delivered.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        setup = link.receive(None)
        if setup is None:
            os._exit(EXIT_ORPHANED)
        _die_with(setup.whole("parent"))
        return link, setup

    def send(self, kind: str, **fields: object) -> None:
        """Send a message; ends the process if nobody is there to read it."""
        try:
            self._socket.send(encode(kind, fields))
        except OSError:
            os._exit(EXIT_ORPHANED)

    def receive(self, timeout_s: float | None) -> Message | None:
        """The next message, or None if none came in time; ends the process with the authority."""
        if timeout_s is not None:
            try:
                if not select.select([self._socket], [], [], timeout_s)[0]:
                    return None
            except OSError:
                os._exit(EXIT_ORPHANED)
        try:
            packet = self._socket.recv(LARGEST_MESSAGE)
        except OSError:
            packet = b""
        if not packet:
            os._exit(EXIT_ORPHANED)
        message = decode(packet)
        self.is_stopped = self.is_stopped or message.kind == "stop"
        return message

    def busy(self, is_busy: bool, thread: str = "main") -> None:
        """Say whether a call is under way that may hang: the pulse carries since when.

        Args:
            is_busy: Whether one is.
            thread: Of the caller; the pulse carries the oldest call of all threads.
        """
        if is_busy:
            self._busy_since_ns[thread] = monotonic_ns()
        else:
            self._busy_since_ns.pop(thread, None)

    @property
    def busy_since_ns(self) -> int | None:
        """Since when the oldest call of all threads is under way; None while none is."""
        return min(tuple(self._busy_since_ns.values()), default=None)

    def start_pulse(self, priority: int | None = None) -> None:
        """Show every `BEAT_S` that the interpreter runs; a stopped or seized one shows none.

        Args:
            priority: Real-time priority to ask for: above that of threads that use every core.
        """
        self._pulse_priority = priority
        threading.Thread(target=self._beat, name="ssn-edge-pulse", daemon=True).start()

    def _beat(self) -> None:
        if self._pulse_priority is not None:
            ask_realtime(self._pulse_priority)  # refused where the worker's own was, and told there
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            self.send("beat", busy_since_ns=self.busy_since_ns)


def call_factory(setup: Message) -> object:
    """Make what the set-up asks for: ``module:function``, called with its arguments by name.

    Raises:
        TypeError, ImportError, AttributeError: There is no such thing.
    """
    module, _, function = setup.text("factory").partition(":")
    arguments = setup.raw("arguments")
    if not isinstance(arguments, dict):
        raise TypeError("arguments are no object")
    factory = cast(Callable[..., object], getattr(importlib.import_module(module), function))
    return factory(**arguments)


def settle() -> None:
    """After warm-up: what is there stays there, and is not looked through again.

    The collector runs when the worker is idle, not in the middle of a part.
    """
    gc.collect()
    gc.freeze()
    gc.disable()


def single_thread_opencv() -> None:
    """OpenCV's own threads would take the cores of engine and capture."""
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(1)


def ask_the_system(setup: Message) -> list[str]:
    """Ask for what the set-up wants of priority and memory; what was granted, a line each.

    Before anything is loaded: a library's threads inherit the priority.
    """
    granted = []
    priority = setup.whole_or_none("realtime")
    if priority is not None:
        granted.append(str(ask_realtime(priority)))
    if setup.flag("lock_memory"):
        granted.append(str(lock_memory()))
    return granted


def report_failure(link: WorkerLink, error: SsnEdgeError) -> None:
    """Say why the worker cannot work, by the name of the error: starting it again is vain.

    What is not an error of ours is an accident: it ends the process, and the authority starts
    another one within its budget.
    """
    text = " ".join(str(error).split())[:2000]
    link.send("failed", error=type(error).__name__, detail=text)


def set_up_logging() -> None:
    """Warnings go where the authority's go."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process with the authority, even where no code of ours runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(EXIT_ORPHANED)
