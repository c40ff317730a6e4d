"""What is asked of a line that runs, over its control socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, PackageError, SourceError

ANSWER_S = 300.0
"""Opening an engine takes its time; see the unit's start timeout."""
LOOK_S = 0.5

OnMessage = Callable[[str], None]


def have_line_take(
    control: Path,
    package: Path,
    settings: Path | None,
    package_id: str,
    on_message: OnMessage = lambda message: None,
) -> None:
    """Have a line that runs take a package, and wait until it has proved itself there.

    Raises:
        PackageError: The line refused it, or went back to the one before.
        SourceError: No line answers.
        ConfigError: A path that a line of text cannot hold.
    """
    words = ["package", str(package)] + ([] if settings is None else [str(settings.absolute())])
    if any(len(word.split()) != 1 for word in words):
        raise ConfigError(f"{package}: a line takes paths without blanks; move it")
    with _talk(control) as ask:
        answer = ask(" ".join(words))
        if answer != f"package {package_id}":
            reason = answer.removeprefix("error: ") or "the line ended"
            raise PackageError(f"the line keeps its package: {reason}")
        on_message("the line judges with it; waiting until the new engine has proved itself")
        while True:
            told = ask("package").split()
            if len(told) != 3 or told[1] != package_id:
                raise PackageError(
                    "the line went back to the package before: the new engine failed; see "
                    "the package events in its log"
                )
            if told[2] == "settled":
                return
            time.sleep(LOOK_S)


def have_line_note(control: Path, user: str, action: str, details: list[str]) -> None:
    """Have a line that runs record who did what.

    Raises:
        SourceError: No line answers, or it does not record it.
    """
    words = ["user", user, action, *details]
    with _talk(control) as ask:
        answer = ask(" ".join(words))
    if answer != " ".join(words[:3]):
        reason = answer.removeprefix("error: ") or "it ended"
        raise SourceError(f"{control}: the line does not record who did that: {reason}")


@contextmanager
def _talk(control: Path) -> Iterator[Callable[[str], str]]:
    """A line of text out, a line of text back."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(ANSWER_S)
            talk.connect(str(control))
            with talk.makefile("rw") as lines:

                def ask(text: str) -> str:
                    lines.write(f"{text}\n")
                    lines.flush()
                    return lines.readline().strip()

                yield ask
    except OSError as error:
        raise SourceError(
            f"{control}: no line answers there ({error.strerror or error}); start one with "
            "--control, or leave --control out where none runs"
        ) from error
