"""`ssn-edge run`: camera to verdicts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    EngineOption,
    JsonOption,
    PackageOption,
    PrecisionOption,
    project_settings,
)

if TYPE_CHECKING:
    from ssn_edge_runtime.summary import LineSummary


def run(
    context: typer.Context,
    device: Annotated[
        str | None,
        typer.Option(help="Camera (/dev/video0), video file, folder of pictures or one picture."),
    ] = None,
    package: PackageOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the decisions; default decisions/.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Whose mask and overlay are kept: all, rejects or none.")
    ] = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    durable: Annotated[
        bool, typer.Option("--durable", help="Sync each record to disk before the next part.")
    ] = False,
    max_frames: Annotated[int | None, typer.Option(help="End after so many frames.")] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="Answer frames that local programs send, in place of a camera's: "
            "unix:/run/ssn-edge.sock or 127.0.0.1:8090."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Camera to verdicts, one record for each frame; or frames of other programs to answers.

    Ctrl-C ends after the part in hand.

    Example: ssn-edge run --device /dev/video0
    """
    with reporting(context) as out:
        if listen is not None:
            from ssn_edge.cli.serving import serve

            given = {
                "--device": device,
                "--output": output,
                "--keep": keep,
                "--max-frames": max_frames,
                "--durable": durable or None,
            }
            with _stop_on_signal() as stop:
                serve(
                    out,
                    listen,
                    package=package,
                    engine=engine,
                    precision=precision,
                    refused=[name for name, value in given.items() if value is not None],
                    stop=stop,
                    as_json=as_json,
                )
            return
        from ssn_edge.line import LineRequest, run_package
        from ssn_edge.project import find_package

        settings = project_settings().run
        request = LineRequest(
            device=device or settings.device,
            package=find_package(package),
            output=output or Path(settings.output),
            keep=keep or settings.keep,
            engine=engine or settings.engine,
            precision=precision or settings.precision,
            durable=durable,
            max_frames=max_frames,
        )
        summaries: list[LineSummary] = []
        with ExitStack() as opened:
            stop = opened.enter_context(_stop_on_signal())
            progress = opened.enter_context(out.progress())
            counts = {"pass": 0, "fail": 0, "unknown": 0}

            def on_verdict(verdict: str) -> None:
                counts[verdict] += 1
                done = sum(counts.values())
                note = "  ".join(f"{name} {count}" for name, count in counts.items())
                progress("run", done, max_frames or done, note)

            def on_end(summary: LineSummary) -> None:
                # Also when the line ends with an error: what was decided is reported.
                summaries.append(summary)

            try:
                run_package(
                    request, stop=stop, on_message=out.say, on_verdict=on_verdict, on_end=on_end
                )
            finally:
                for summary in summaries:
                    out.result(summary.to_dict(), summary_lines(summary), as_json=as_json)
                    out.say(f"decisions: {request.output / 'decisions.jsonl'}")


def summary_lines(summary: LineSummary) -> list[str]:
    """A line's summary for a terminal."""
    verdicts = ", ".join(f"{count} {name}" for name, count in summary.verdicts.items())
    lines = [
        f"{summary.frames} frames in {summary.duration_s:.1f} s "
        f"({summary.throughput_fps:.1f} a second): {verdicts}"
    ]
    reasons = {name: count for name, count in summary.reasons.items() if name != "none"}
    if reasons:
        lines.append("reasons: " + ", ".join(f"{name} {count}" for name, count in reasons.items()))
    for stage, latency in summary.latency_ms.items():
        lines.append(
            f"  {stage:<12} p50 {latency.p50:7.2f}  p99 {latency.p99:7.2f}  "
            f"p99.99 {latency.p99_99:7.2f}  max {latency.max:7.2f} ms"
        )
    lost = {
        "frames dropped": summary.dropped,
        "camera reopened": summary.reopened,
        "pictures shed": summary.pictures_shed,
        "follower failures": summary.followers_failed,
    }
    lines += [f"  {name}: {count}" for name, count in lost.items() if count]
    return lines


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the line ends with everything delivered."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
