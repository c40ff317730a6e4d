"""A package on cameras: engine and capture as processes of their own, and a deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from ssn_edge.line_outlets import outlets_of
from ssn_edge.line_request import LineRequest
from ssn_edge.line_settings import GuardedSettings
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.guarded_line import run_guarded_line
from ssn_edge_runtime.line.options import device_command, package_command
from ssn_edge_runtime.line.status import LineStatus
from ssn_edge_runtime.line.workers import WAITING
from ssn_edge_runtime.outlets.gpio.outlet import GpioOutlet
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.follow import FollowerProcess
from ssn_edge_runtime.sinks.housekeeping import Housekeeping
from ssn_edge_runtime.sources.address import without_password
from ssn_edge_runtime.summary import LineSummary
from ssn_edge_runtime.supervision import (
    HardwareWatchdog,
    HealthReader,
    HealthSampler,
    Notifier,
    Supervisor,
)


def run_guarded(
    request: LineRequest,
    *,
    stop: threading.Event | None,
    on_message: Callable[[str], None],
    on_verdict: Callable[[str], None],
    on_end: Callable[[LineSummary, Supervisor], None] | None,
    is_device_process: bool,
) -> LineSummary:
    """Judge what cameras see; see `ssn_edge.line.run_package`."""
    if request.is_shadow and (request.trigger in ("software", "stdin") or request.control):
        raise ConfigError(
            "--shadow drives nothing, and whoever gives a trigger would be answered; leave one of "
            "them out, or let the camera trigger: --trigger camera"
        )
    settings = GuardedSettings(request.settings, request.recipe)
    cameras = request.cameras
    lines: list[Authority] = []
    said, said_cause = False, ""

    with ExitStack() as opened:
        notifier = opened.enter_context(
            Notifier.from_environment() if is_device_process else Notifier()
        )
        key = None if request.key is None else DeviceKey.open(request.key)
        if request.sqlite is not None or request.csv is not None:
            opened.enter_context(
                FollowerProcess(request.output, sqlite=request.sqlite, csv=request.csv)
            )
        outlets = [opened.enter_context(each) for each in outlets_of(request, on_message)]
        journal = request.journal(key)
        opened.callback(journal.close)
        housekeeping = opened.enter_context(
            Housekeeping(
                journal,
                policy=request.retention,
                key=None if key is None else key.public,
                evict=lambda sequence: lines[0].evict_evidence(sequence),
            )
        )
        supervisor = Supervisor(
            settings,
            settings_path=request.settings,
            overrides=request.limits,
            drift=request.drift_monitor(),
            health=HealthSampler(HealthReader(request.output)),
            notifier=notifier,
            hardware=None
            if request.hardware_watchdog is None
            else HardwareWatchdog(request.hardware_watchdog),
            on_record=lambda record: on_verdict(record.verdict.value),
        )
        supervisor.count_again(request.output)
        opened.enter_context(supervisor)
        settings.note, settings.on_change = journal.note, supervisor.settings_changed
        granted = request.ask_the_system()
        for each in granted:
            on_message(str(each))
        opened.callback(notifier.stopping)

        def begin(authority: Authority) -> None:
            lines.append(authority)
            settings.authority = authority

        def on_status(status: LineStatus) -> None:
            nonlocal said, said_cause
            supervisor.still_here()
            if stop is None or not stop.is_set():
                # Else a service manager has told them, too, to end: that is no loss.
                for outlet in outlets:
                    outlet.look()
            if said:  # the journal is open
                supervisor.look_at_settings()
                note_events()
                note_outlets()
                housekeeping.tend()
            if status.cause.startswith(WAITING) and status.cause != said_cause:
                said_cause = status.cause
                on_message(f"{status.state}: {said_cause}")
                # Waiting is what it was started for: the service manager must not lose patience.
                notifier.ready(said_cause)
            if status.state.may_pass and not said:
                said = True
                names = ", ".join(without_password(each) for each in cameras.values())
                what = f"{names}: judging with {request.package.name} ({status.state})"
                for worker in status.workers:
                    for each in worker.granted:
                        on_message(f"{worker.name}: {each}")
                on_message(what + ("; shadow mode: nothing is driven" * request.is_shadow))
                notifier.ready(what)

        def note_events() -> None:
            for event in supervisor.take_events():
                journal.note(event)

        def note_outlets(*, is_last: bool = False) -> None:
            for outlet in outlets:
                for event in outlet.take_events(is_last=is_last):
                    journal.note(event)

        def on_record(record: DecisionRecord) -> None:
            supervisor.after_part(record)
            note_events()
            if supervisor.halted is not None:
                lines[0].stop()

        def on_own_end(summary: LineSummary) -> None:
            if said:
                with suppress(StorageError):  # what ended the run
                    note_outlets(is_last=True)
            if on_end is not None and (said or summary.records):
                on_end(summary, supervisor)  # a line that never came up has nothing to sum up

        return run_guarded_line(
            {name: device_command(device) for name, device in cameras.items()},
            package_command(
                str(request.package),
                engine=request.engine,
                precision=request.precision,
                settings=None if settings.path is None else str(settings.path),
                recipe=request.recipe,
                trust=request.trust,
            ),
            journal,
            request.line_options(),
            outlets=[each for each in outlets if isinstance(each, GpioOutlet)],
            settings_id=None if settings.settings is None else settings.settings.settings_id,
            stop=stop,
            control=request.control_path,
            takes_stdin=request.trigger == "stdin",
            on_ready=begin,
            on_settings=settings.in_force,
            on_record=on_record,
            on_status=on_status,
            on_end=on_own_end,
            open_journal=journal.open,
            inhibit=supervisor.inhibit,
            start_detail={
                "shadow": request.is_shadow,
                **{each.what: each.is_granted for each in granted},
            },
        )
