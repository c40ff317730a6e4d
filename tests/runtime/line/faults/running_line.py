"""A line in the test's own thread, and somebody beside it who wants things of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ssn_edge_runtime.line.authority import Authority


def while_running(authority: Authority, work: Callable[[], None]) -> None:
    """Run the line; the work begins once it executes, and its end ends the line."""
    failures: list[BaseException] = []
    begun, is_over = threading.Event(), threading.Event()
    told_before = authority._on_status

    def look(status: Any) -> None:
        if status.state.may_pass:
            begun.set()
        if told_before is not None:
            told_before(status)

    authority._on_status = look

    def do() -> None:
        try:
            while not begun.wait(0.1):
                if is_over.is_set():
                    return  # it never executed: what it raised says why
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            authority.stop()

    thread = threading.Thread(target=do, name="work")
    thread.start()
    try:
        authority.run()
    finally:
        is_over.set()
        thread.join()
    if failures:
        raise failures[0]
