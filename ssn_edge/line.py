"""A package on a source: what `ssn-edge run` does, callable from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ssn_edge.line_settings import GuardedSettings
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.devices import cameras_of
from ssn_edge_runtime.line.encoder import SILENT_NS, EncoderRules
from ssn_edge_runtime.line.guarded_line import run_guarded_line
from ssn_edge_runtime.line.options import (
    EvidenceKept,
    FreePolicy,
    LineOptions,
    PicturesKept,
    TriggerKind,
    device_command,
    package_command,
)
from ssn_edge_runtime.line.rules import (
    DEADLINE_MS,
    EJECTOR_WINDOW_MS,
    MILLISECOND_NS,
    TriggerRules,
)
from ssn_edge_runtime.line.status import LineStatus
from ssn_edge_runtime.line.workers import WAITING
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.server import parse_listen
from ssn_edge_runtime.server.line_server import LineServerProcess
from ssn_edge_runtime.settings import LineSettings
from ssn_edge_runtime.sinks.base import Follower
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper
from ssn_edge_runtime.sinks.evidence_policy import EvidencePolicy
from ssn_edge_runtime.sinks.follow import FollowerProcess
from ssn_edge_runtime.sinks.housekeeping import Housekeeping
from ssn_edge_runtime.sinks.journal import SEGMENT_AGE_S, SEGMENT_BYTES, Journal
from ssn_edge_runtime.sinks.pictures import KeepPolicy, PictureFollower, WhenFull
from ssn_edge_runtime.sinks.retention import RetentionPolicy
from ssn_edge_runtime.sinks.write_budget import WriteBudget
from ssn_edge_runtime.sources import open_source
from ssn_edge_runtime.sources.address import without_password
from ssn_edge_runtime.summary import LineSummary
from ssn_edge_runtime.supervision import (
    Granted,
    HardwareWatchdog,
    HealthReader,
    HealthSampler,
    Notifier,
    Overrides,
    Supervisor,
    ask_realtime,
    lock_memory,
    release_process,
    settle_process,
)

DAY_S = 24 * 3600.0
SEGMENTS_OF_A_QUOTA = 8
"""Only whole segments go, so that a log under a quota has some."""

ChoiceT = TypeVar("ChoiceT", bound=Enum)


@dataclass(frozen=True, slots=True)
class LineRequest:
    """What a run of the line is asked for.

    Args:
        device: Camera, video file, folder of pictures or one picture; or several cameras, each as
            ``NAME=SOURCE``.
        package: The model package.
        output: Folder of the journal and the pictures.
        keep: Whose pictures are kept: all, rejects or none.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        durable: Sync each record to disk before the next part.
        max_frames: End after so many frames; None for until the end.
        settings: This device's settings; None for the package's own thresholds.
        recipe: Which of their recipes.
        is_shadow: Judge and record, drive nothing.
        limits: Of rejects and temperature, in place of the settings'.
        realtime: Real-time priority to ask for; None for none.
        lock_memory: Whether to ask that memory is never swapped out.
        waits_for_engine: Whether a line without an engine waits, in Preoperational, until it was
            built or certified; else it ends.
        hardware_watchdog: The board's watchdog, such as ``/dev/watchdog``; None for none.
        key: Device key that signs the journal's heads and checkpoints; made if it is not there.
        sqlite: Database that follows the journal, in a process of its own.
        csv: CSV file that follows the journal, likewise.
        evidence_bytes: Quota of the disk for frames that are kept as evidence; None keeps none.
        write_bytes_a_day: Evidence is left out while the line has written more than its share of
            this; None for no such bound.
        keep_log_days: Segments of the log older than this are deleted; needs `key`.
        log_quota_bytes: So are the oldest, while the log is larger; needs `key`.
        single_process: Everything in this process, without deadline or triggers: recordings are
            always judged so.
        trigger: ``free``, ``software``, ``stdin``, ``camera`` or ``rate:HZ``.
        policy: Free-running: ``latest``, ``every`` or ``block``.
        deadline_ms: From the trigger (free-running: from the exposure) to the verdict.
        min_interval_ms: A trigger sooner than this after the last one is a bounce.
        exposure_delay_ms: From the trigger to the earliest exposure that shows its part.
        exposure_window_ms: From that to the latest such exposure; None for until the deadline.
        ejector_delay_ms: From the exposure to the pass signal; None gives it at once.
        ejector_window_ms: How long it is valid then; None for 50 ms.
        ejector_delay_counts: The same delay in counts of the encoder that `Authority.encoder` or
            the control socket tells of.
        ejector_window_counts: How far beyond that the part can be caught.
        encoder_silent_ms: Without a reading for longer, no pass is given.
        control: Unix socket that takes triggers; with ``software`` or `listen`, ``control.sock`` in
            the output folder if none is named.
        listen: Where local programs are answered over HTTP, by a process of its own.
    """

    device: str | tuple[str, ...]
    package: Path
    output: Path
    keep: str = "rejects"
    engine: str = "auto"
    precision: str = "auto"
    durable: bool = False
    max_frames: int | None = None
    settings: Path | None = None
    recipe: str | None = None
    is_shadow: bool = False
    limits: Overrides = field(default_factory=Overrides)
    realtime: int | None = None
    lock_memory: bool = False
    waits_for_engine: bool = False
    hardware_watchdog: Path | None = None
    key: Path | None = None
    sqlite: Path | None = None
    csv: Path | None = None
    evidence_bytes: int | None = None
    write_bytes_a_day: int | None = None
    keep_log_days: float | None = None
    log_quota_bytes: int | None = None
    single_process: bool = False
    trigger: str = "free"
    policy: str = "latest"
    deadline_ms: float = DEADLINE_MS
    min_interval_ms: float = 0.0
    exposure_delay_ms: float = 0.0
    exposure_window_ms: float | None = None
    ejector_delay_ms: float | None = None
    ejector_window_ms: float | None = None
    ejector_delay_counts: int | None = None
    ejector_window_counts: int | None = None
    encoder_silent_ms: float = SILENT_NS / MILLISECOND_NS
    control: Path | None = None
    listen: str | None = None

    def __post_init__(self) -> None:
        """Refuse a run of no frames, before anything is opened or written."""
        if self.max_frames is not None and self.max_frames < 1:
            raise ConfigError(f"--max-frames {self.max_frames}: 1 or more is wanted")
        if self.recipe is not None and self.settings is None:
            raise ConfigError(
                f"--recipe {self.recipe}: recipes are in the settings, and there are none here; "
                "name them: --settings FILE"
            )
        if self.retention is not None and self.key is None:
            raise ConfigError(
                "--keep-log and --log-quota delete old segments of the log, and only a checkpoint "
                "that this device has signed may stand for them; name its key: --key FILE"
            )
        if self.write_bytes_a_day is not None and self.evidence_bytes is None:
            raise ConfigError(
                "--write-budget leaves out evidence, and none is kept here; add --evidence GB, or "
                "leave it out: records are written whatever it says"
            )
        self.limits.over(LineSettings())  # refuses limits that are none
        if self.listen is not None:
            parse_listen(self.listen)
        self.line_options()

    def line_options(self) -> LineOptions:
        """How the guarded line is to run.

        Raises:
            ConfigError: There is no such trigger or policy, or the times do not go together.
        """
        name, _, rate = self.trigger.partition(":")
        kind = TriggerKind.SOFTWARE if name == "stdin" else _choice("--trigger", name, TriggerKind)
        try:
            rate_hz = float(rate) if rate else None
        except ValueError:
            raise ConfigError(f"--trigger {self.trigger}: rate:HZ is wanted") from None
        delay_ms, ejector_ms = self.ejector_delay_ms, self.ejector_window_ms
        if ejector_ms is not None and delay_ms is None and self.ejector_delay_counts is None:
            raise ConfigError("--ejector-window-ms needs --ejector-delay-ms or -counts beside it")
        window_ms = self.exposure_window_ms or max(self.deadline_ms - self.exposure_delay_ms, 0.001)
        return LineOptions(
            trigger=kind,
            policy=_choice("--policy", self.policy, FreePolicy),
            rate_hz=rate_hz,
            rules=TriggerRules(
                deadline_ns=_ns(self.deadline_ms),
                min_interval_ns=_ns(self.min_interval_ms),
                exposure_delay_ns=_ns(self.exposure_delay_ms),
                exposure_window_ns=_ns(window_ms),
                ejector_delay_ns=None if delay_ms is None else _ns(delay_ms),
                ejector_window_ns=_ns(EJECTOR_WINDOW_MS if ejector_ms is None else ejector_ms),
                encoder=self._encoder_rules(),
            ),
            max_parts=self.max_frames,
            realtime=self.realtime,
            lock_memory=self.lock_memory,
            waits_for_engine=self.waits_for_engine,
            pictures=(
                None
                if self.keep_policy is KeepPolicy.NONE
                else PicturesKept(self.output.absolute(), self.keep_policy)
            ),
            evidence=(
                None
                if self.evidence_bytes is None
                else EvidenceKept(
                    self.output.absolute(),
                    EvidencePolicy(self.evidence_bytes),
                    bytes_a_day=self.write_bytes_a_day,
                )
            ),
        )

    @property
    def retention(self) -> RetentionPolicy | None:
        """How long segments are kept; None for as long as there is room.

        Raises:
            ConfigError: Not even a moment.
        """
        if self.keep_log_days is None and self.log_quota_bytes is None:
            return None
        return RetentionPolicy(
            max_age_s=None if self.keep_log_days is None else self.keep_log_days * DAY_S,
            max_bytes=self.log_quota_bytes,
        )

    def journal(self, key: DeviceKey | None) -> Journal:
        """The journal, not open, in segments that fit what is kept of it."""
        segment_bytes, segment_age_s = SEGMENT_BYTES, SEGMENT_AGE_S
        if self.log_quota_bytes is not None:
            segment_bytes = min(segment_bytes, max(1, self.log_quota_bytes // SEGMENTS_OF_A_QUOTA))
        if self.keep_log_days is not None:
            segment_age_s = min(segment_age_s, self.keep_log_days * DAY_S / SEGMENTS_OF_A_QUOTA)
        return Journal(
            self.output,
            durable=self.durable,
            key=key,
            segment_bytes=segment_bytes,
            segment_age_s=segment_age_s,
        )

    def _encoder_rules(self) -> EncoderRules | None:
        delay, window = self.ejector_delay_counts, self.ejector_window_counts
        if delay is None and window is None:
            return None
        if delay is None or window is None:
            raise ConfigError(
                "--ejector-delay-counts and --ejector-window-counts go together: where the part is "
                "caught, and how far beyond that it still can be"
            )
        return EncoderRules(delay, window, _ns(self.encoder_silent_ms))

    @property
    def cameras(self) -> dict[str, str]:
        """The source of each camera, or of the recording, by name.

        Raises:
            ConfigError: Names that are none, or what follows is no source.
            SourceError: A recording of that name is not there.
        """
        return cameras_of((self.device,) if isinstance(self.device, str) else self.device)

    @property
    def control_path(self) -> Path | None:
        """Where triggers are taken, if anywhere."""
        if self.control is None and (self.trigger == "software" or self.listen is not None):
            return self.output / "control.sock"
        return self.control

    @property
    def keep_policy(self) -> KeepPolicy:
        """The policy by its name.

        Raises:
            ConfigError: There is none of that name.
        """
        try:
            return KeepPolicy(self.keep)
        except ValueError:
            names = ", ".join(each.value for each in KeepPolicy)
            raise ConfigError(f"--keep {self.keep}: one of {names} is wanted") from None


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
        return _run_guarded(
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
            health=HealthSampler(HealthReader(request.output)),
            notifier=notifier,
            hardware=None
            if request.hardware_watchdog is None
            else HardwareWatchdog(request.hardware_watchdog),
            on_record=on_record,
        )
        supervisor.count_again(request.output)
        opened.enter_context(supervisor)
        granted = _ask_the_system(request)
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


def _ask_the_system(request: LineRequest) -> list[Granted]:
    granted = []
    if request.lock_memory:
        granted.append(lock_memory())
    if request.realtime is not None:
        granted.append(ask_realtime(request.realtime))
    return granted


def _what_else(inspector: Inspector, request: LineRequest) -> str:
    """What a person should see at once, if it is not as usual."""
    more = ""
    if inspector.settings is not None:
        recipe = "" if inspector.recipe is None else f", recipe {inspector.recipe}"
        more += f"; settings version {inspector.settings.version}{recipe}"
    return more + ("; shadow mode: nothing is driven" if request.is_shadow else "")


def _run_guarded(
    request: LineRequest,
    *,
    stop: threading.Event | None,
    on_message: Callable[[str], None],
    on_verdict: Callable[[str], None],
    on_end: Callable[[LineSummary, Supervisor], None] | None,
    is_device_process: bool,
) -> LineSummary:
    """A camera: engine and capture as processes of their own, and a deadline."""
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
        server = None
        if request.listen is not None and request.control_path is not None:
            server = opened.enter_context(
                LineServerProcess(
                    request.listen,
                    request.control_path.absolute(),
                    deadline_ms=request.deadline_ms,
                    takes_triggers=request.line_options().trigger is TriggerKind.SOFTWARE,
                    on_message=on_message,
                )
            )
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
        granted = _ask_the_system(request)
        for each in granted:
            on_message(str(each))
        opened.callback(notifier.stopping)

        def begin(authority: Authority) -> None:
            lines.append(authority)
            settings.authority = authority

        def on_status(status: LineStatus) -> None:
            nonlocal said, said_cause
            supervisor.still_here()
            if server is not None:
                server.look()
            if said:  # the journal is open
                supervisor.look_at_settings()
                note_events()
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

        def on_record(record: DecisionRecord) -> None:
            supervisor.after_part(record)
            note_events()
            if supervisor.halted is not None:
                lines[0].stop()

        def on_own_end(summary: LineSummary) -> None:
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
            ),
            journal,
            request.line_options(),
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


def _ns(milliseconds: float) -> int:
    return round(milliseconds * MILLISECOND_NS)


def _choice(option: str, text: str, kind: type[ChoiceT]) -> ChoiceT:
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(str(each.value) for each in kind)
        also = ", stdin" if kind is TriggerKind else ""
        raise ConfigError(f"{option} {text}: one of {names}{also} is wanted") from None
