"""Followers in a process of their own: ``python -m ssn_edge_runtime.sinks.follow decisions/ ...``.

They read the journal's files and nothing else, so that they can lag, crash and start again without
the line noticing. SIGTERM lets them read to the journal's end first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Protocol

from ssn_edge_runtime.errors import SsnEdgeError, StorageError
from ssn_edge_runtime.sinks.csv_follower import CsvFollower
from ssn_edge_runtime.sinks.sqlite_follower import SqliteFollower
from ssn_edge_runtime.sinks.tail import POLL_S, Tail

_STOP_TIMEOUT_S = 60.0


class _Steps(Protocol):
    def step(self) -> int:
        """Copy the next lines."""
        ...


class StdoutFollower:
    """Writes the lines of a journal to a file descriptor as they are, one JSON object a line.

    Args:
        folder: Of the journal.
        from_line: Number of the first line that is wanted.
        fd: Standard output, if nothing else.
    """

    def __init__(self, folder: Path, *, from_line: int = 1, fd: int = 1) -> None:
        self._tail = Tail(folder, after_line=from_line - 1)
        self._fd = fd

    def step(self) -> int:
        """Write the next lines; returns how many they were.

        Raises:
            BrokenPipeError: Nobody reads any more.
            StorageError: The journal cannot be read.
        """
        lines = self._tail.read()
        rest = memoryview(b"".join(line.raw + b"\n" for line in lines))
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        return len(lines)

    def close(self) -> None:
        """Let the journal's file go."""
        self._tail.close()


class FollowerProcess:
    """Followers of a journal beside the line; a context manager.

    Args:
        folder: Of the journal.
        sqlite: Database to keep, if any.
        csv: CSV file to keep, if any.
    """

    def __init__(
        self, folder: Path, *, sqlite: Path | None = None, csv: Path | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "ssn_edge_runtime.sinks.follow", str(folder)]
        self._command.append("--until-stdin-ends")
        if sqlite is not None:
            self._command += ["--sqlite", str(sqlite)]
        if csv is not None:
            self._command += ["--csv", str(csv)]
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start the process."""
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the line; it ends the followers when it is done
        )

    def close(self) -> None:
        """Let the followers read to the journal's end; then they end.

        Raises:
            StorageError: They ended with an error, or did not end.
        """
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # also what happens when the line is killed
        try:
            code = process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise StorageError(
                f"the followers did not end within {_STOP_TIMEOUT_S:.0f} s; they go on from where "
                "they were when they are started again"
            ) from error
        if code != 0:
            raise StorageError(
                f"the followers ended with code {code}; the journal has everything, they go on "
                "from where they were when they are started again"
            )

    def __enter__(self) -> FollowerProcess:
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


def follow(followers: Sequence[_Steps], stop: Event, *, poll_s: float = POLL_S) -> None:
    """Let followers take turns until told to stop, and then to the journal's end.

    Raises:
        StorageError: One of them failed.
    """
    while True:
        is_last = stop.is_set()
        if sum(each.step() for each in followers):
            continue
        if is_last:
            return
        stop.wait(poll_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow a journal; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.sinks.follow",
        description="Keep a copy of a decision journal up to date.",
    )
    parser.add_argument("folder", type=Path, help="folder of the journal")
    parser.add_argument("--sqlite", type=Path, help="database to keep")
    parser.add_argument("--csv", type=Path, help="CSV file to keep")
    parser.add_argument("--stdout", action="store_true", help="write the lines to standard output")
    parser.add_argument("--from-line", type=int, default=1, help="first line for --stdout")
    parser.add_argument("--once", action="store_true", help="end at the journal's end")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="end when whoever started it does"
    )
    options = parser.parse_args(arguments)
    if options.sqlite is None and options.csv is None and not options.stdout:
        parser.error("nothing to keep: give --sqlite, --csv or --stdout")
    stop = Event()
    if options.once:
        stop.set()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.until_stdin_ends:
        Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    try:
        with ExitStack() as opened:
            followers: list[_Steps] = []
            if options.sqlite is not None:
                followers.append(
                    opened.enter_context(SqliteFollower(options.folder, options.sqlite))
                )
            if options.csv is not None:
                followers.append(opened.enter_context(CsvFollower(options.folder, options.csv)))
            if options.stdout:
                stdout = StdoutFollower(options.folder, from_line=options.from_line)
                opened.callback(stdout.close)
                followers.append(stdout)
            follow(followers, stop)
    except BrokenPipeError:
        return 0
    except SsnEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _wait_for_end(stop: Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
