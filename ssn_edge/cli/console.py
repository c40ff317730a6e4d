"""What the command line says, and how it ends: progress, one-line errors, exit codes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

EXIT_UNEXPECTED = 1
EXIT_NOT_INSTALLED = 2
"""What is wanted needs an extra of ssn-edge that is not installed: a matter of configuration."""
SECONDS_BETWEEN_LINES = 30.0
EXIT_INTERRUPTED = 130
"""As shells number a command that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Output:
    """How much is said, and where: people read stderr, machines stdout.

    Args:
        debug: Show tracebacks.
        quiet: Errors and warnings only.
        verbose: Debug messages as well.
        speaks: False in all but the first of the processes that torchrun starts: errors alone.
    """

    debug: bool = False
    quiet: bool = False
    verbose: bool = False
    speaks: bool = field(default_factory=lambda: os.environ.get("RANK", "0") == "0")

    def say(self, message: str) -> None:
        """A line for people."""
        if self.speaks and not self.quiet:
            typer.echo(message, err=True)

    def result(self, document: Mapping[str, object], lines: list[str], *, as_json: bool) -> None:
        """The outcome, on stdout: lines for people, or one JSON document."""
        if not self.speaks:
            return
        if as_json:
            typer.echo(json.dumps(document, indent=2, allow_nan=False))
        else:
            typer.echo("\n".join(lines))

    @contextlib.contextmanager
    def progress(self) -> Iterator[StageProgress]:
        """A progress bar on stderr; silent where stderr is no terminal, or with -q."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        console = Console(stderr=True)
        bar = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            Remaining(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=self.quiet or not self.speaks or not console.is_terminal,
            transient=True,
        )
        with bar:
            # Where no bar can be drawn (a log file, a service) a line now and then stands in.
            yield StageProgress(bar, self.say if bar.disable else None)


class StageProgress:
    """One bar that shows the stage at hand, or a line every so often in its place.

    Args:
        bar: What is drawn.
        say: Takes the lines; None where the bar is drawn.
    """

    def __init__(self, bar: Progress, say: Callable[[str], None] | None = None) -> None:
        self._bar = bar
        self._say = say
        self._said_at = time.monotonic()
        self._stage = ""
        self._task = bar.add_task("", total=None, note="", visible=False)

    def __call__(self, stage: str, done: int, count: int, note: str = "") -> None:
        """Show that `done` of `count` are done in a stage."""
        if stage != self._stage:
            self._stage = stage
            self._bar.reset(self._task, total=count, description=stage, note=note, visible=True)
        self._bar.update(self._task, completed=done, total=count, note=note)
        if self._say is not None and time.monotonic() - self._said_at >= SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            self._say(f"    {stage} {done}/{count}  {note}".rstrip())

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A callback that shows one stage."""
        return lambda done, count: self(name, done, count)


@contextlib.contextmanager
def reporting(context: typer.Context) -> Iterator[Output]:
    """Run a verb: its errors become one line and product.md's exit code.

    Args:
        context: Of the command; carries the global options.
    """
    output = context.obj if isinstance(context.obj, Output) else Output()
    _set_up_logging(output)
    try:
        yield output
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_UNEXPECTED) from None
    except Exception as error:  # noqa: BLE001 - the outermost handler: every error ends in one line
        _explain(error, output)
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: Exception) -> int:
    from ssn_edge_runtime.errors import SsnEdgeError

    if isinstance(error, SsnEdgeError):
        return error.exit_code
    return EXIT_UNEXPECTED if _missing_extra(error) is None else EXIT_NOT_INSTALLED


def _explain(error: Exception, output: Output) -> None:
    from ssn_edge_runtime.errors import SsnEdgeError

    if output.debug:
        traceback.print_exception(error)
    if isinstance(error, SsnEdgeError):
        typer.echo(f"error: {error}", err=True)
    elif (missing := _missing_extra(error)) is not None:
        module, extra = missing
        typer.echo(
            f"error: {module} is not installed; install it: pip install 'ssn-edge[{extra}]'",
            err=True,
        )
    else:
        typer.echo(
            f"error: unexpected {type(error).__name__}: {error}. "
            "Run again with --debug before the verb to see where",
            err=True,
        )


_EXTRAS = {
    "torch": "train",
    "timm": "train",
    "safetensors": "train",
    "jinja2": "train",
    "tensorboard": "tensorboard",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "cpu",
    "cv2": "opencv",
}


def _missing_extra(error: Exception) -> tuple[str, str] | None:
    """The module that is not installed and the extra that brings it, if that is what is wrong."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.split(".")[0]
    return (module, _EXTRAS[module]) if module in _EXTRAS else None


def _set_up_logging(output: Output) -> None:
    """Warnings to stderr; what our own rooms say beyond that only with -v."""
    level = logging.DEBUG if output.verbose else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("ssn_edge", "ssn_edge_export", "ssn_edge_calibrate", "ssn_edge_runtime"):
        logging.getLogger(name).setLevel(level)
