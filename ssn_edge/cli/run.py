"""`ssn-edge run`: camera to verdicts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.line_text import summary_lines, supervision_lines
from ssn_edge.cli.options import (
    EngineOption,
    JsonOption,
    PackageOption,
    PrecisionOption,
    RequireSignatureOption,
    TrustOption,
    parse_share,
    project_settings,
    whom_to_trust,
)
from ssn_edge.cli.run_options import (
    AlarmAfterOption,
    AlarmDriftOption,
    AlarmRejectRateOption,
    ControlOption,
    CsvOption,
    DeadlineMsOption,
    DeviceOption,
    DurableOption,
    EjectorDelayCountsOption,
    EjectorDelayMsOption,
    EjectorWindowCountsOption,
    EjectorWindowMsOption,
    EncoderSilentMsOption,
    EvidenceOption,
    ExposureDelayMsOption,
    ExposureWindowMsOption,
    GoBackOption,
    GpioOption,
    GpioRejectOption,
    HaltAfterOption,
    HaltRejectRateOption,
    HardwareWatchdogOption,
    KeepLogOption,
    KeepOption,
    KeyOption,
    ListenOption,
    LockMemoryOption,
    LogQuotaOption,
    MaxFramesOption,
    MaxTemperatureOption,
    MinimumSerialOption,
    MinIntervalMsOption,
    ModbusAllowOption,
    ModbusOption,
    MqttCaOption,
    MqttCertOption,
    MqttLoginOption,
    MqttOption,
    OpcuaOpenOption,
    OpcuaOption,
    OpcuaUsersOption,
    OutputOption,
    PageCertificateOption,
    PageKeyOption,
    PageNameOption,
    PageOption,
    PageProxyOption,
    PageSigningKeyOption,
    PageTokensOption,
    PolicyOption,
    RealtimeOption,
    RecipeOption,
    SettingsOption,
    ShadowOption,
    SingleProcessOption,
    SqliteOption,
    TriggerOption,
    WaitForEngineOption,
    WebhookCaOption,
    WebhookCertOption,
    WebhookKeyOption,
    WebhookOption,
    WriteBudgetOption,
)

if TYPE_CHECKING:
    from ssn_edge.settings import RunSettings
    from ssn_edge_runtime.summary import LineSummary
    from ssn_edge_runtime.supervision import Supervisor

EXIT_HALTED = 4
"""The line halted itself: a gate that refused."""


def run(
    context: typer.Context,
    device: DeviceOption = None,
    package: PackageOption = None,
    output: OutputOption = None,
    keep: KeepOption = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    durable: DurableOption = False,
    key: KeyOption = None,
    sqlite: SqliteOption = None,
    csv: CsvOption = None,
    evidence: EvidenceOption = None,
    write_budget: WriteBudgetOption = None,
    keep_log: KeepLogOption = None,
    log_quota: LogQuotaOption = None,
    max_frames: MaxFramesOption = None,
    settings: SettingsOption = None,
    recipe: RecipeOption = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: GoBackOption = False,
    minimum_serial: MinimumSerialOption = None,
    shadow: ShadowOption = False,
    alarm_after: AlarmAfterOption = None,
    halt_after: HaltAfterOption = None,
    alarm_reject_rate: AlarmRejectRateOption = None,
    halt_reject_rate: HaltRejectRateOption = None,
    alarm_drift: AlarmDriftOption = None,
    max_temperature: MaxTemperatureOption = None,
    realtime: RealtimeOption = None,
    lock_memory: LockMemoryOption = False,
    wait_for_engine: WaitForEngineOption = False,
    hardware_watchdog: HardwareWatchdogOption = None,
    listen: ListenOption = None,
    mqtt: MqttOption = None,
    mqtt_login: MqttLoginOption = None,
    mqtt_ca: MqttCaOption = None,
    mqtt_cert: MqttCertOption = None,
    opcua: OpcuaOption = None,
    opcua_users: OpcuaUsersOption = None,
    opcua_open: OpcuaOpenOption = False,
    webhook: WebhookOption = None,
    webhook_key: WebhookKeyOption = None,
    webhook_ca: WebhookCaOption = None,
    webhook_cert: WebhookCertOption = None,
    page: PageOption = None,
    page_tokens: PageTokensOption = None,
    page_certificate: PageCertificateOption = None,
    page_key: PageKeyOption = None,
    page_signing_key: PageSigningKeyOption = None,
    page_proxy: PageProxyOption = None,
    page_name: PageNameOption = None,
    trigger: TriggerOption = "free",
    policy: PolicyOption = "latest",
    deadline_ms: DeadlineMsOption = None,
    min_interval_ms: MinIntervalMsOption = 0.0,
    exposure_delay_ms: ExposureDelayMsOption = 0.0,
    exposure_window_ms: ExposureWindowMsOption = None,
    ejector_delay_ms: EjectorDelayMsOption = None,
    ejector_window_ms: EjectorWindowMsOption = None,
    ejector_delay_counts: EjectorDelayCountsOption = None,
    ejector_window_counts: EjectorWindowCountsOption = None,
    encoder_silent_ms: EncoderSilentMsOption = 200.0,
    control: ControlOption = None,
    modbus: ModbusOption = None,
    modbus_allow: ModbusAllowOption = None,
    gpio: GpioOption = None,
    gpio_reject: GpioRejectOption = False,
    single_process: SingleProcessOption = False,
    as_json: JsonOption = False,
) -> None:
    """Camera to verdicts, one record for each frame; or frames of other programs to answers.

    Ctrl-C ends after the parts in hand. A limit on rejects that is reached raises an alarm, or
    halts the line (exit code 4); it never changes how parts are judged.

    Example: ssn-edge run --device /dev/video0 --trigger stdin --deadline-ms 200

    A PLC: ssn-edge run --device /dev/video0 --trigger software --modbus 127.0.0.1:5020

    One that is lost after half a second: --modbus '127.0.0.1:5020?heartbeat_ms=500'

    A broker: ssn-edge run --device /dev/video0 --mqtt mqtts://10.1.2.3/line1 --mqtt-ca ca.pem

    With a page in the browser: ssn-edge run --device /dev/video0 --page 8080

    One whose thresholds are signed: ssn-edge run --device /dev/video0 --trust keys --page 8080
    --page-tokens page-tokens.json --page-signing-key page.key
    """
    with reporting(context) as out:
        trusted = whom_to_trust(
            trust,
            is_required=require_signature,
            output=output,
            allows_older=allow_older,
            minimum_serial=minimum_serial,
        )
        if listen is not None and not device:
            from ssn_edge.cli.serving import serve

            given = {
                "--output": output,
                "--keep": keep,
                "--key": key,
                "--sqlite": sqlite,
                "--csv": csv,
                "--evidence": evidence,
                "--write-budget": write_budget,
                "--keep-log": keep_log,
                "--log-quota": log_quota,
                "--max-frames": max_frames,
                "--durable": durable or None,
                "--shadow": shadow or None,
                "--alarm-after": alarm_after,
                "--halt-after": halt_after,
                "--alarm-reject-rate": alarm_reject_rate,
                "--halt-reject-rate": halt_reject_rate,
                "--alarm-drift": alarm_drift,
                "--max-temperature": max_temperature,
                "--realtime": realtime,
                "--lock-memory": lock_memory or None,
                "--hardware-watchdog": hardware_watchdog,
                "--wait-for-engine": wait_for_engine or None,
                "--mqtt": mqtt,
                "--opcua": opcua,
                "--webhook": webhook,
                "--modbus": modbus,
                "--gpio": gpio,
                "--page": page,
            }
            with _stop_on_signal() as stop:
                serve(
                    out,
                    listen,
                    package=package,
                    engine=engine,
                    precision=precision,
                    settings=settings,
                    recipe=recipe,
                    trust=trusted,
                    refused=[name for name, value in given.items() if value is not None],
                    stop=stop,
                    as_json=as_json,
                )
            return
        from ssn_edge.bus_request import BusRequest
        from ssn_edge.line import run_package
        from ssn_edge.line_request import LineRequest
        from ssn_edge.line_settings import deadline_ms_of
        from ssn_edge.packages import find_in_force
        from ssn_edge_runtime.outlets.page.options import page_options
        from ssn_edge_runtime.supervision import Overrides

        project = project_settings().run
        judge, in_force = find_in_force(
            package, settings, default=Path(project.settings), on_message=out.say
        )
        request = LineRequest(
            device=tuple(device) if device else project.device,
            package=judge,
            output=output or Path(project.output),
            keep=keep or project.keep,
            engine=engine or project.engine,
            precision=precision or project.precision,
            durable=durable,
            max_frames=max_frames,
            settings=in_force,
            recipe=recipe,
            trust=trusted,
            is_shadow=shadow,
            limits=Overrides(
                alarm_after=alarm_after,
                halt_after=halt_after,
                alarm_reject_rate=_share(alarm_reject_rate, "--alarm-reject-rate"),
                halt_reject_rate=_share(halt_reject_rate, "--halt-reject-rate"),
                max_temperature_c=max_temperature,
            ),
            alarm_drift=alarm_drift,
            realtime=realtime,
            lock_memory=lock_memory,
            waits_for_engine=wait_for_engine,
            hardware_watchdog=hardware_watchdog,
            key=key if key is not None or not project.key else Path(project.key),
            sqlite=sqlite,
            csv=csv,
            evidence_bytes=_bytes(evidence, project.evidence_gb),
            write_bytes_a_day=_bytes(write_budget, project.write_budget_gb),
            keep_log_days=keep_log or project.keep_log_days or None,
            log_quota_bytes=_bytes(log_quota, project.log_quota_gb),
            single_process=single_process,
            trigger=trigger,
            policy=policy,
            deadline_ms=deadline_ms_of(in_force) if deadline_ms is None else deadline_ms,
            min_interval_ms=min_interval_ms,
            exposure_delay_ms=exposure_delay_ms,
            exposure_window_ms=exposure_window_ms,
            ejector_delay_ms=ejector_delay_ms,
            ejector_window_ms=ejector_window_ms,
            ejector_delay_counts=ejector_delay_counts,
            ejector_window_counts=ejector_window_counts,
            encoder_silent_ms=encoder_silent_ms,
            control=control,
            listen=listen,
            bus=BusRequest(
                mqtt=mqtt,
                mqtt_login=mqtt_login,
                mqtt_ca=mqtt_ca,
                mqtt_cert=mqtt_cert,
                opcua=opcua,
                opcua_users=opcua_users,
                opcua_open=opcua_open,
                webhook=webhook,
                webhook_key=webhook_key,
                webhook_ca=webhook_ca,
                webhook_cert=webhook_cert,
            ),
            modbus=modbus,
            modbus_allow=tuple(modbus_allow or ()),
            gpio=gpio,
            gpio_reject=gpio_reject,
            page=page_options(
                page,
                page_tokens,
                page_certificate,
                page_key,
                page_proxy,
                page_name or (),
                signing_key=_signing_key(page_signing_key, project, page_tokens),
            ),
        )
        ends: list[tuple[LineSummary, Supervisor]] = []
        with ExitStack() as opened:
            stop = opened.enter_context(_stop_on_signal())
            progress = opened.enter_context(out.progress())
            counts = {"pass": 0, "fail": 0, "unknown": 0}

            def on_verdict(verdict: str) -> None:
                counts[verdict] += 1
                done = sum(counts.values())
                note = "  ".join(f"{name} {count}" for name, count in counts.items())
                progress("run", done, max_frames or done, note)

            def on_end(summary: LineSummary, supervisor: Supervisor) -> None:
                # Also when the line ends with an error: what was decided is reported.
                ends.append((summary, supervisor))

            try:
                run_package(
                    request,
                    stop=stop,
                    on_message=out.say,
                    on_verdict=on_verdict,
                    on_end=on_end,
                    is_device_process=True,
                )
            finally:
                for summary, supervisor in ends:
                    document = {**summary.to_dict(), "supervision": supervisor.to_dict()}
                    lines = [*summary_lines(summary), *supervision_lines(supervisor)]
                    out.result(document, lines, as_json=as_json)
                    out.say(f"decisions: {request.output / 'decisions.jsonl'}")
        for _, supervisor in ends:
            if supervisor.halted is not None:
                out.say(f"halted: {supervisor.halted}; look at the parts, then start again")
                raise typer.Exit(EXIT_HALTED)


def _bytes(option_gb: float | None, setting_gb: float) -> int | None:
    """GB of an option, or else of the project's setting; None where that is 0."""
    size = setting_gb if option_gb is None else option_gb
    return int(size * 1e9) if size else None


def _signing_key(named: Path | None, project: RunSettings, tokens: Path | None) -> Path | None:
    """The page's; the project's only where somebody may apply anything."""
    if named is None and project.page_signing_key and tokens is not None:
        return Path(project.page_signing_key)
    return named


def _share(text: str | None, option: str) -> float | None:
    return None if text is None else parse_share(text, option)


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
