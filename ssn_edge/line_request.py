"""What a run of the line is asked for, checked before anything is opened or written."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ssn_edge.bus_request import BusRequest
from ssn_edge.plc_options import check_plc
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.devices import cameras_of
from ssn_edge_runtime.line.encoder import SILENT_NS, EncoderRules
from ssn_edge_runtime.line.live_picture import live_folder
from ssn_edge_runtime.line.options import (
    EvidenceKept,
    FreePolicy,
    LineOptions,
    PicturesKept,
    TriggerKind,
)
from ssn_edge_runtime.line.rules import (
    DEADLINE_MS,
    EJECTOR_WINDOW_MS,
    MILLISECOND_NS,
    TriggerRules,
)
from ssn_edge_runtime.outlets.page.options import PageOptions
from ssn_edge_runtime.server import parse_listen
from ssn_edge_runtime.settings import LineSettings
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.evidence_policy import EvidencePolicy
from ssn_edge_runtime.sinks.journal import SEGMENT_AGE_S, SEGMENT_BYTES, Journal
from ssn_edge_runtime.sinks.pictures import KeepPolicy
from ssn_edge_runtime.sinks.retention import RetentionPolicy
from ssn_edge_runtime.supervision import (
    DriftMonitor,
    Granted,
    Overrides,
    ask_realtime,
    lock_memory,
)
from ssn_edge_runtime.supervision.drift_store import DRIFT_NAME
from ssn_edge_runtime.trust import Trust

DAY_S = 24 * 3600.0
LONGEST_MS = 1e9  # as in the settings
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
        trust: Who must have signed package and settings; None takes them signed or not.
        is_shadow: Judge and record, drive nothing.
        limits: Of rejects and temperature, in place of the settings'.
        alarm_drift: At most one false alarm of the drift monitor in so many parts, 0 for none; None
            for what the settings say.
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
        control: Unix socket that takes triggers; with ``software``, `listen` or `page`,
            ``control.sock`` in the output folder if none is named.
        listen: Where local programs are answered over HTTP, by a process of its own.
        bus: Whom else the line tells over a network.
        modbus: Interface on which a PLC is answered over Modbus TCP, likewise.
        modbus_allow: Addresses and networks of the PLC; may be left out on loopback.
        gpio: Wire with a pulse for each pass, as ``CHIP:LINE[,PULSE_MS]``.
        gpio_reject: Not fail-safe: the pulse is for each part that did not pass.
        page: Where the live page is served, and to whom, likewise; None for none.
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
    trust: Trust | None = None
    is_shadow: bool = False
    limits: Overrides = field(default_factory=Overrides)
    alarm_drift: int | None = None
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
    bus: BusRequest = field(default_factory=BusRequest)
    modbus: str | None = None
    modbus_allow: tuple[str, ...] = ()
    gpio: str | None = None
    gpio_reject: bool = False
    page: PageOptions | None = None

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
        self.drift_monitor()
        if self.listen is not None:
            parse_listen(self.listen)
        check_plc(self, self.line_options())

    def drift_monitor(self, *, is_live: bool = True) -> DriftMonitor | None:
        """What is to watch scores and brightness; a recording's are no reference for a later one.

        Its rate is that of the settings as they are now: another one counts at the next start.

        Raises:
            ConfigError: It would alarm too often, or the settings cannot be used.
        """
        every = self.alarm_drift or None
        if self.alarm_drift is None:
            line = LineSettings() if self.settings is None else read_settings(self.settings).line
            every = line.alarm_drift
        if every is None:
            return None
        return DriftMonitor(every, path=self.output / DRIFT_NAME if is_live else None)

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
            live=None if self.page is None else live_folder(self.output),
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

    def ask_the_system(self) -> list[Granted]:
        """Ask for priority and memory for this process; what was granted."""
        granted = []
        if self.lock_memory:
            granted.append(lock_memory())
        if self.realtime is not None:
            granted.append(ask_realtime(self.realtime))
        return granted

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
        is_asked = self.listen is not None or self.page is not None or self.bus.needs_control
        if self.control is None and (self.trigger == "software" or is_asked):
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


def _ns(milliseconds: float) -> int:
    if not abs(milliseconds) <= LONGEST_MS:  # false for NaN, too
        raise ConfigError(f"a time of {milliseconds:g} ms; {LONGEST_MS:g} ms at most is wanted")
    return round(milliseconds * MILLISECOND_NS)


def _choice(option: str, text: str, kind: type[ChoiceT]) -> ChoiceT:
    try:
        return kind(text)
    except ValueError:
        names = ", ".join(str(each.value) for each in kind)
        also = ", stdin" if kind is TriggerKind else ""
        raise ConfigError(f"{option} {text}: one of {names}{also} is wanted") from None
