"""A guarded line in one call: journal open, cameras and engine as processes of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from time import perf_counter

from ssn_edge_runtime.line.authority import Authority, Inhibit
from ssn_edge_runtime.line.control import ControlSocket, StandardInput
from ssn_edge_runtime.line.delivery import LineJournal, OnRecord
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.line.status import LineStatus, Outlet
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.record import Scalar
from ssn_edge_runtime.summary import LineSummary

logger = logging.getLogger(__name__)


def run_guarded_line(
    cameras: Mapping[str, WorkerCommand],
    engine: WorkerCommand,
    journal: LineJournal,
    options: LineOptions,
    *,
    outlets: Sequence[Outlet] = (),
    settings_id: str | None = None,
    open_journal: Callable[[], None] | None = None,
    stop: Event | None = None,
    control: Path | None = None,
    takes_stdin: bool = False,
    on_ready: Callable[[Authority], None] | None = None,
    on_record: OnRecord | None = None,
    on_status: Callable[[LineStatus], None] | None = None,
    on_end: Callable[[LineSummary], None] | None = None,
    inhibit: Inhibit | None = None,
    start_detail: Mapping[str, Scalar] | None = None,
    on_settings: Callable[[str, str | None], None] = lambda settings, recipe: None,
) -> LineSummary:
    """Judge with a deadline: whatever hangs, each part has its verdict, and a worker is killed.

    The caller's process becomes the authority: it owns numbers, deadlines, journal and signals,
    and imports neither an engine nor a camera library. It should do nothing else.

    Args:
        cameras: What each capture worker runs, by the camera's name; see `device_command`.
        engine: What the engine worker runs; see `package_command`.
        journal: Open, or opened by `open_journal`.
        options: Triggers, limits, room.
        outlets: What tells the line.
        settings_id: The device settings in force.
        open_journal: Opens the journal once all is up; without it, it is open already.
        stop: Ends the run once all in flight is delivered; set it from a signal handler.
        control: Unix socket that takes triggers as lines of text.
        takes_stdin: Take them from standard input as well, and answer on standard output.
        on_ready: Given the authority before the run, for triggers from other threads.
        on_record: Called for each written record.
        on_status: Called about every 50 ms.
        on_end: Called once with the summary, also when the run ends with an error.
        inhibit: Asked before each pass; a reason and a detail make it `unknown`.
        start_detail: More that the start event is to say.
        on_settings: Told the file and the recipe whenever other settings came to be in force.

    Returns:
        The summary.

    Raises:
        ConfigError: Options that do not go together, or a source unfit for triggers.
        SsnEdgeError: See `Authority.run`.
    """

    def look(status: LineStatus) -> None:
        if stop is not None and stop.is_set():
            authority.stop()
        if on_status is not None:
            on_status(status)

    authority = Authority(
        cameras,
        engine,
        journal,
        options,
        outlets=outlets,
        settings_id=settings_id,
        on_record=on_record,
        on_status=look,
        open_journal=open_journal,
        inhibit=inhibit,
        start_detail=start_detail,
        on_settings=on_settings,
    )
    began_s = perf_counter()
    try:
        with ExitStack() as opened:
            if control is not None:
                opened.enter_context(ControlSocket(authority, control))
            if takes_stdin:
                opened.enter_context(StandardInput(authority))
            if on_ready is not None:
                on_ready(authority)
            authority.run()
    finally:
        status = authority.status(with_latency=True)
        summary = summary_of(status, perf_counter() - began_s)
        if on_end is not None:
            on_end(summary)
    return summary


def summary_of(status: LineStatus, duration_s: float) -> LineSummary:
    """What a run came to."""
    counters = status.counters
    records = counters.get("records", 0)
    reasons = {
        name.partition(":")[2]: count
        for name, count in counters.items()
        if name.startswith("reason:")
    }
    if passed := counters.get("pass", 0):
        reasons["none"] = passed
    return LineSummary(
        frames=counters.get("frames", 0),
        records=records,
        first_sequence=None if status.last is None else status.last.sequence - records + 1,
        last_sequence=None if status.last is None else status.last.sequence,
        verdicts={name: counters.get(name, 0) for name in ("pass", "fail", "unknown")},
        reasons=reasons,
        dropped=counters.get("dropped", 0),
        reopened=counters.get("reopened", 0),
        pictures_shed=sum(
            counters.get(name, 0) for name in ("evidence_shed", "evidence_over_budget")
        ),
        followers_failed=counters.get("outlet_failures", 0),
        duration_s=duration_s,
        throughput_fps=records / duration_s if duration_s > 0 else 0.0,
        latency_ms=status.latency_ms,
    )
