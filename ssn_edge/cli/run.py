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
    RequireSignatureOption,
    TrustOption,
    parse_share,
    project_settings,
)

if TYPE_CHECKING:
    from ssn_edge.settings import RunSettings
    from ssn_edge_runtime.summary import LineSummary
    from ssn_edge_runtime.supervision import Supervisor

EXIT_HALTED = 4
"""The line halted itself: a gate that refused."""


def run(
    context: typer.Context,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Camera (/dev/video0, v4l2:..., rtsp://..., gst:..., genicam:...), watch:FOLDER, "
            "test:, video file, folder of pictures or one picture; see runtime/README.md. Several "
            "cameras: NAME=CAMERA for each."
        ),
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
    key: Annotated[
        Path | None,
        typer.Option(help="Device key that signs the log's heads; made if it is not there."),
    ] = None,
    sqlite: Annotated[
        Path | None, typer.Option(help="Database that follows the log, beside the line.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="CSV file that follows the log, beside the line.")
    ] = None,
    evidence: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Keep the frames of rejects, of near misses and of a few others, in so many GB.",
        ),
    ] = None,
    write_budget: Annotated[
        float | None,
        typer.Option(min=0.0001, help="GB a day that may be written before evidence is left out."),
    ] = None,
    keep_log: Annotated[
        float | None,
        typer.Option(min=0.01, help="Delete segments of the log after so many days; needs --key."),
    ] = None,
    log_quota: Annotated[
        float | None,
        typer.Option(min=0.0001, help="Delete the oldest above so many GB of log; needs --key."),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(help="End after so many frames.")] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="This device's settings; without it settings.json, if it is here."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the settings.")] = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: Annotated[
        bool,
        typer.Option("--allow-older", help="Go back to an older signed package or settings, now."),
    ] = False,
    minimum_serial: Annotated[
        int | None, typer.Option(min=0, help="Refuse packages that were signed with a lower one.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Judge and record, but drive nothing.")
    ] = False,
    alarm_after: Annotated[
        int | None, typer.Option(help="Alarm after so many fails or unknowns in a row.")
    ] = None,
    halt_after: Annotated[
        int | None, typer.Option(help="Halt after so many fails or unknowns in a row.")
    ] = None,
    alarm_reject_rate: Annotated[
        str | None, typer.Option(help="Alarm at such a share of rejects in ten minutes, as 5%.")
    ] = None,
    halt_reject_rate: Annotated[
        str | None, typer.Option(help="Halt at such a share of rejects in ten minutes, as 20%.")
    ] = None,
    alarm_drift: Annotated[
        int | None,
        typer.Option(
            help="Alarm if scores or brightness drift, one false alarm in so many parts at most; "
            "0 for no alarm; default the settings', or 10000000."
        ),
    ] = None,
    max_temperature: Annotated[
        float | None, typer.Option(help="Above it, in degrees C, every part is unknown.")
    ] = None,
    realtime: Annotated[
        int | None, typer.Option(help="Real-time priority to ask for, 1 to 99.")
    ] = None,
    lock_memory: Annotated[
        bool, typer.Option("--lock-memory", help="Ask that memory is never swapped out.")
    ] = False,
    wait_for_engine: Annotated[
        bool,
        typer.Option(
            "--wait-for-engine", help="Without a built, certified engine, wait for ssn-edge build."
        ),
    ] = False,
    hardware_watchdog: Annotated[
        Path | None, typer.Option(help="The board's watchdog, as /dev/watchdog: resets on a hang.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="Answer local programs: unix:/run/ssn-edge.sock or 127.0.0.1:8090. With --device "
            "they give triggers and see the state, without it they send frames."
        ),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(help="Tell a broker: mqtt:// or mqtts://HOST[:PORT]/PREFIX; needs ...[mqtt]."),
    ] = None,
    mqtt_login: Annotated[
        Path | None,
        typer.Option(help="File of user:password; else SSN_EDGE_MQTT_USER and _PASSWORD."),
    ] = None,
    mqtt_ca: Annotated[
        Path | None, typer.Option(help="Certificates that an mqtts:// broker is checked against.")
    ] = None,
    opcua: Annotated[
        str | None,
        typer.Option(help="Be an OPC UA server: opc.tcp://127.0.0.1:4840; needs ...[opcua]."),
    ] = None,
    opcua_users: Annotated[
        Path | None,
        typer.Option(help="Its users; see python -m ssn_edge_runtime.outlets.opcua_users."),
    ] = None,
    opcua_open: Annotated[
        bool, typer.Option("--opcua-open", help="Let everyone on the network read there.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(help="POST rejects and events there: https://HOST/PATH.")
    ] = None,
    webhook_key: Annotated[
        Path | None, typer.Option(help="Key that signs them; made if it is not there.")
    ] = None,
    webhook_ca: Annotated[
        Path | None, typer.Option(help="Certificates that an https:// server is checked against.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(help="Live page: 8080 on loopback; 0.0.0.0:8080 needs tokens, TLS."),
    ] = None,
    page_tokens: Annotated[
        Path | None, typer.Option(help="Who may change what; see ssn-edge page token.")
    ] = None,
    page_certificate: Annotated[
        Path | None, typer.Option(help="PEM certificate of the page.")
    ] = None,
    page_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    page_signing_key: Annotated[
        Path | None,
        typer.Option(help="Private key that signs what an engineer applies; needs ...[sign]."),
    ] = None,
    page_proxy: Annotated[
        str | None, typer.Option(help="Public name of a proxy that speaks TLS for the page.")
    ] = None,
    page_name: Annotated[
        list[str] | None, typer.Option(help="One more name that the page is asked by.")
    ] = None,
    trigger: Annotated[
        str, typer.Option(help="What makes a part: free, software, stdin, camera or rate:HZ.")
    ] = "free",
    policy: Annotated[
        str, typer.Option(help="Free-running, frames beyond the engine: latest, every or block.")
    ] = "latest",
    deadline_ms: Annotated[
        float | None,
        typer.Option(help="Trigger or exposure to verdict; default the settings', or 500."),
    ] = None,
    min_interval_ms: Annotated[
        float, typer.Option(help="A trigger sooner than this after the last is a bounce.")
    ] = 0.0,
    exposure_delay_ms: Annotated[
        float, typer.Option(help="From the trigger to the earliest exposure of its part.")
    ] = 0.0,
    exposure_window_ms: Annotated[
        float | None, typer.Option(help="From that to the latest; default: until the deadline.")
    ] = None,
    ejector_delay_ms: Annotated[
        float | None, typer.Option(help="From the exposure to the pass signal; default: at once.")
    ] = None,
    ejector_window_ms: Annotated[
        float | None, typer.Option(help="How long the signal is valid then; default 50.")
    ] = None,
    ejector_delay_counts: Annotated[
        int | None,
        typer.Option(help="The delay in counts of an encoder, told as lines: encoder COUNT."),
    ] = None,
    ejector_window_counts: Annotated[
        int | None, typer.Option(help="So many counts beyond that the part can be caught.")
    ] = None,
    encoder_silent_ms: Annotated[
        float, typer.Option(help="Without a reading of the encoder for longer, no pass is given.")
    ] = 200.0,
    control: Annotated[
        Path | None,
        typer.Option(
            help="Unix socket for triggers: lines of trigger ID [PART] [@CAMERA] [%RECIPE]."
        ),
    ] = None,
    modbus: Annotated[
        str | None,
        typer.Option(help="Answer a PLC over Modbus TCP on this interface: 192.168.10.5:502."),
    ] = None,
    modbus_allow: Annotated[
        list[str] | None,
        typer.Option(help="The PLC's address or network, as 192.168.10.0/24; may be repeated."),
    ] = None,
    gpio: Annotated[
        str | None,
        typer.Option(help="Pulse on a wire for each pass, 20 ms or as given: gpiochip0:105,20."),
    ] = None,
    gpio_reject: Annotated[
        bool,
        typer.Option(
            "--gpio-not-fail-safe-reject-pulse",
            help="Pulse for each part that did not pass: a dead device lets all parts through.",
        ),
    ] = False,
    single_process: Annotated[
        bool,
        typer.Option("--single-process", help="A camera without deadline, triggers or workers."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Camera to verdicts, one record for each frame; or frames of other programs to answers.

    Ctrl-C ends after the parts in hand. A limit on rejects that is reached raises an alarm, or
    halts the line (exit code 4); it never changes how parts are judged.

    Example: ssn-edge run --device /dev/video0 --trigger stdin --deadline-ms 200

    A PLC: ssn-edge run --device /dev/video0 --trigger software --modbus 127.0.0.1:5020

    With a page in the browser: ssn-edge run --device /dev/video0 --page 8080

    One whose thresholds are signed: ssn-edge run --device /dev/video0 --trust keys --page 8080
    --page-tokens page-tokens.json --page-signing-key page.key
    """
    with reporting(context) as out:
        from ssn_edge.trust import find_trust

        whole_project = project_settings()
        trusted = find_trust(
            whole_project.trust,
            keys=trust,
            is_required=require_signature,
            output=output or Path(whole_project.run.output),
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
        from ssn_edge.project import find_package, find_settings
        from ssn_edge_runtime.outlets.page.options import page_options
        from ssn_edge_runtime.supervision import Overrides

        project = whole_project.run
        in_force = find_settings(settings, default=Path(project.settings))
        request = LineRequest(
            device=tuple(device) if device else project.device,
            package=find_package(package),
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
                opcua=opcua,
                opcua_users=opcua_users,
                opcua_open=opcua_open,
                webhook=webhook,
                webhook_key=webhook_key,
                webhook_ca=webhook_ca,
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


def supervision_lines(supervisor: Supervisor) -> list[str]:
    """Shifts, alarms and the device's health for a terminal."""
    lines = []
    for row in supervisor.counters.to_list():
        verdicts = row["verdicts"]
        recipe = "" if row["recipe"] is None else f" {row['recipe']}"
        if isinstance(verdicts, dict):
            counts = ", ".join(f"{count} {name}" for name, count in verdicts.items())
            lines.append(f"  shift {row['shift']}{recipe}: {counts}")
    lines += [f"  alarm: {alarm}" for alarm in supervisor.alarms]
    if supervisor.drift is not None:
        lines.append(f"  drift: {supervisor.drift}")
    health = supervisor.health
    if health is not None and health.is_throttled:
        lines.append(f"  the device is throttled {', '.join(health.slowed)}".rstrip())
    if health is not None and health.hottest is not None:
        lines.append("  hottest: {} {:.1f} degrees C".format(*health.hottest))
    return lines


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
