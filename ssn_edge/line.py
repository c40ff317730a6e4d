"""A package on a source: what `ssn-edge run` does, callable from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from ssn_edge.guarded_run import run_guarded
from ssn_edge.line_request import LineRequest
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks.base import Follower
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper
from ssn_edge_runtime.sinks.evidence_policy import EvidencePolicy
from ssn_edge_runtime.sinks.follow import FollowerProcess
from ssn_edge_runtime.sinks.housekeeping import Housekeeping
from ssn_edge_runtime.sinks.pictures import PictureFollower, WhenFull
from ssn_edge_runtime.sinks.write_budget import WriteBudget
from ssn_edge_runtime.sources import open_source
from ssn_edge_runtime.summary import LineSummary
from ssn_edge_runtime.supervision import (
    HardwareWatchdog,
    HealthReader,
    HealthSampler,
    Notifier,
    Supervisor,
    release_process,
    settle_process,
)


def run_package(
    request: LineRequest,
    *,
    stop: threading.Event | None = None,
    on_message: Callable[[str], None] = lambda message: None,
    on_verdict: Callable[[str], None] = lambda verdict: None,
    on_end: Callable[[LineSummary, Supervisor], None] | None = None,
    is_device_process: bool = False,
) -> LineSummary:
    """Judge every frame of a source with a package; see `ssn_edge_runtime.loop.run_line`.

    Args:
        request: What is asked for.
        stop: Ends the run after the part in hand.
        on_message: Told what a person should know.
        on_verdict: Told each verdict.
        on_end: Told the summary and what the supervisor counted, also after an error.
        is_device_process: Whether this process is there for the line alone: it then tells the
            service manager, freezes what is loaded, and leaves OpenCV one thread.

    Raises:
        ConfigError: No such policy, engine or precision, a source of a kind that is not read here,
            or settings for another package.
        SourceError: No such source, or it was lost for good.
        PackageError: Not a whole, unchanged package.
        EngineError: The engine cannot run here, or has no device certificate.
        CertificateError: It fails the self-test.
        StorageError: Decisions cannot be written.
    """
    keep = request.keep_policy
    sources = [open_source(device) for device in request.cameras.values()]
    source = sources[0]
    if len(sources) > 1 and (request.single_process or not all(each.is_live for each in sources)):
        raise ConfigError(
            "several sources are judged together if each is a camera, and not in one process; run "
            "recordings one after the other"
        )
    if source.is_live and not request.single_process:
        return run_guarded(
            request,
            stop=stop,
            on_message=on_message,
            on_verdict=on_verdict,
            on_end=on_end,
            is_device_process=is_device_process,
        )
    if request.listen is not None:
        raise ConfigError(
            f"--listen {request.listen}: recordings and --single-process answer nobody; it goes "
            "with a camera, or without --device for frames that other programs send"
        )
    if request.bus.given:
        raise ConfigError(
            f"{request.bus.given[0]} tells of a line, which recordings and --single-process are "
            "not; it goes with a camera"
        )
    if request.gpio is not None:
        raise ConfigError(
            f"--gpio {request.gpio}: recordings and --single-process drive nothing; it goes with a "
            "camera"
        )
    if request.page is not None:
        raise ConfigError(
            f"--page {request.page.listen}: the live page shows cameras; recordings have a log "
            "(ssn-edge review) and reports"
        )
    if request.trigger != "free":
        raise ConfigError(
            f"--trigger {request.trigger}: recordings and --single-process judge frame by frame; "
            "triggers need a camera"
        )
    with ExitStack() as opened:
        notifier = opened.enter_context(
            Notifier.from_environment() if is_device_process else Notifier()
        )
        inspector = opened.enter_context(
            Inspector.open(
                request.package,
                engine=request.engine,
                precision=request.precision,
                settings=request.settings,
                recipe=request.recipe,
                trust=request.trust,
            )
        )
        # The camera before the journal: without one, nothing is written.
        opened.enter_context(source)
        key = None if request.key is None else DeviceKey.open(request.key)
        if request.sqlite is not None or request.csv is not None:
            # Entered before the journal, and so left after it: they read to its end.
            opened.enter_context(
                FollowerProcess(request.output, sqlite=request.sqlite, csv=request.csv)
            )
        journal = opened.enter_context(request.journal(key))
        followers: list[Follower] = []
        evidence = None
        if request.evidence_bytes is not None:
            budget = request.write_bytes_a_day
            evidence = EvidenceKeeper(
                request.output,
                EvidencePolicy(request.evidence_bytes),
                budget=None if budget is None else WriteBudget(budget),
            )
            followers.append(evidence)
        housekeeping = opened.enter_context(
            Housekeeping(
                journal,
                policy=request.retention,
                key=None if key is None else key.public,
                evidence=evidence,
            )
        )
        pictures = PictureFollower(
            request.output, keep=keep, when_full=WhenFull.SHED if source.is_live else WhenFull.WAIT
        )
        followers.append(pictures)
        for follower in followers:
            opened.enter_context(follower)

        def on_record(record: DecisionRecord) -> None:
            on_verdict(record.verdict.value)
            housekeeping.tend()

        supervisor = Supervisor(
            inspector,
            settings_path=request.settings,
            overrides=request.limits,
            drift=request.drift_monitor(is_live=source.is_live),
            health=HealthSampler(HealthReader(request.output)),
            notifier=notifier,
            hardware=None
            if request.hardware_watchdog is None
            else HardwareWatchdog(request.hardware_watchdog),
            on_record=on_record,
        )
        supervisor.count_again(request.output)
        opened.enter_context(supervisor)
        granted = request.ask_the_system()
        for each in granted:
            on_message(str(each))
        if is_device_process:
            settle_process()
            opened.callback(release_process)
        what = (
            f"{source.name}: judging with {request.package.name} "
            f"(id {inspector.package_id[:16]}, {inspector.precision} on {inspector.engine_name})"
        )
        on_message(what + _what_else(inspector, request))
        notifier.ready(what)
        opened.callback(notifier.stopping)
        return run_line(
            source,
            inspector,
            journal,
            followers,
            max_frames=request.max_frames,
            stop=stop,
            on_end=None if on_end is None else lambda summary: on_end(summary, supervisor),
            observer=supervisor,
            is_shadow=request.is_shadow,
            start_detail={each.what: each.is_granted for each in granted},
        )


def _what_else(inspector: Inspector, request: LineRequest) -> str:
    """What a person should see at once, if it is not as usual."""
    more = ""
    if inspector.settings is not None:
        recipe = "" if inspector.recipe is None else f", recipe {inspector.recipe}"
        more += f"; settings version {inspector.settings.version}{recipe}"
    return more + ("; shadow mode: nothing is driven" if request.is_shadow else "")
