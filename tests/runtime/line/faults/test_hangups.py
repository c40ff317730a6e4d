"""Talkers that hang up, or do not listen, at the worst moment: the line goes on without them."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest
import simulated_line
from test_ends import QUIET, events, make_authority, run_beside

from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.control import ControlSocket, StandardInput
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.sinks import Journal

F_SETPIPE_SZ = 1031
"""From <linux/fcntl.h>; Python 3.10 may not have it."""


def is_alive(authority: Authority) -> bool:
    """Whether the line's thread still comes round: it answers a trigger."""
    return authority.ask(10**6 + Random().randrange(10**6)).result(10) is not None


@pytest.mark.parametrize("word", ["recipe brass", "package /nowhere.ssn"])
def test_a_client_that_is_gone_before_its_word_is_done_does_not_end_the_line(
    tmp_path: Path, nothing_is_left: None, word: str
) -> None:
    path = tmp_path / "line.sock"
    with Journal(tmp_path / "out") as journal:
        authority = make_authority(journal, simulated_line.plan(1, **QUIET))

        def drive() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.shutdown(socket.SHUT_RD)  # the answer to the first word is the last one
                client.sendall(f"state\n{word}\n".encode())
                sleep(0.5)
            assert is_alive(authority)

        with ControlSocket(authority, path):
            run_beside(authority, drive)
    kind = "settings" if word.startswith("recipe") else "package"
    assert any("refused" in event["detail"] for event in events(tmp_path / "out", kind))  # type: ignore[operator]
    assert authority.status().state is LineState.HALTED


def test_a_listener_that_fails_does_not_end_the_line(tmp_path: Path, nothing_is_left: None) -> None:
    def fail(*what: object) -> None:
        told.append(what)
        raise RuntimeError("nobody is there any more")

    told: list[tuple[object, ...]] = []
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, simulated_line.plan(1, **QUIET))

        def drive() -> None:
            authority.use_settings(None, "brass", on_done=fail)
            authority.use_package("/nowhere.ssn", asked_by="a test", on_done=fail)
            authority.trigger(1, on_answer=fail)
            assert is_alive(authority)
            until_s = monotonic() + 10
            while len(told) < 3:
                assert monotonic() < until_s
                sleep(0.01)
            assert is_alive(authority)

        run_beside(authority, drive)
        authority.use_settings(None, "brass", on_done=fail)  # after the end: refused at once
    assert len(told) == 4
    assert authority.status().state is LineState.HALTED
    assert authority.status().counters["outlet_failures"] == 4


def test_who_asks_and_does_not_read_does_not_hold_the_line_up(
    tmp_path: Path, nothing_is_left: None
) -> None:
    """A pipe that can be written to takes 4096 bytes at once, and a longer word would wait."""
    planned = simulated_line.plan(1, **QUIET)
    reads, gives = os.pipe()
    takes, writes = os.pipe()
    fcntl.fcntl(writes, F_SETPIPE_SZ, 4096)
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned)
        # As long as that of a line with many cameras, reasons and outlets.
        authority._delivery.counters.update({f"reason:number_{n:03d}": 1 for n in range(300)})

        def drive() -> None:
            os.write(gives, b"status\n")
            until_s = monotonic() + 20
            while not authority._stop_asked and monotonic() < until_s:
                sleep(0.01)
            if not authority._stop_asked:  # it waits for a reader
                os.close(takes)
                raise AssertionError("the line was held up")
            os.close(gives)

        with StandardInput(authority, reads, writes):
            run_beside(authority, drive)
    os.close(writes)
    with os.fdopen(takes, "rb") as answers:
        answer = answers.read()
    os.close(reads)
    assert len(answer) == 4096
    assert authority.status().state is LineState.HALTED
