"""The options of `ssn-edge run`, under the headings of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.headings import (
    ALARMS,
    DEVICE,
    JUDGED,
    LOG,
    PAGE,
    PLC,
    PROGRAMS,
    TIMES,
    TRUST,
)

DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Camera (/dev/video0, v4l2:..., rtsp://..., gst:..., genicam:...), watch:FOLDER, "
        "test:, video file, folder of pictures or one picture; see runtime/README.md. Several "
        "cameras: NAME=CAMERA for each.",
        rich_help_panel=JUDGED,
    ),
]
MaxFramesOption = Annotated[
    int | None, typer.Option(help="End after so many frames.", rich_help_panel=JUDGED)
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        help="This device's settings; without it settings.json, if it is here.",
        rich_help_panel=JUDGED,
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option(help="Recipe of the settings.", rich_help_panel=JUDGED)
]
ShadowOption = Annotated[
    bool,
    typer.Option("--shadow", help="Judge and record, but drive nothing.", rich_help_panel=JUDGED),
]
WaitForEngineOption = Annotated[
    bool,
    typer.Option(
        "--wait-for-engine",
        help="Without a built, certified engine, wait for ssn-edge build.",
        rich_help_panel=JUDGED,
    ),
]
SingleProcessOption = Annotated[
    bool,
    typer.Option(
        "--single-process",
        help="A camera without deadline, triggers or workers.",
        rich_help_panel=JUDGED,
    ),
]

GoBackOption = Annotated[
    bool,
    typer.Option(
        "--allow-older",
        help="Go back to an older signed package or settings, now.",
        rich_help_panel=TRUST,
    ),
]
MinimumSerialOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="Refuse packages that were signed with a lower one.", rich_help_panel=TRUST
    ),
]

TriggerOption = Annotated[
    str,
    typer.Option(
        help="What makes a part: free, software, stdin, camera or rate:HZ.", rich_help_panel=TIMES
    ),
]
PolicyOption = Annotated[
    str,
    typer.Option(
        help="Free-running, frames beyond the engine: latest, every or block.",
        rich_help_panel=TIMES,
    ),
]
DeadlineMsOption = Annotated[
    float | None,
    typer.Option(
        help="Trigger or exposure to verdict; default the settings', or 500.", rich_help_panel=TIMES
    ),
]
MinIntervalMsOption = Annotated[
    float,
    typer.Option(
        help="A trigger sooner than this after the last is a bounce.", rich_help_panel=TIMES
    ),
]
ExposureDelayMsOption = Annotated[
    float,
    typer.Option(
        help="From the trigger to the earliest exposure of its part.", rich_help_panel=TIMES
    ),
]
ExposureWindowMsOption = Annotated[
    float | None,
    typer.Option(
        help="From that to the latest; default: until the deadline. Needed where a camera does "
        "not number its frames.",
        rich_help_panel=TIMES,
    ),
]
EjectorDelayMsOption = Annotated[
    float | None,
    typer.Option(
        help="From the exposure to the pass signal; default: at once.", rich_help_panel=TIMES
    ),
]
EjectorWindowMsOption = Annotated[
    float | None,
    typer.Option(help="How long the signal is valid then; default 50.", rich_help_panel=TIMES),
]
EjectorDelayCountsOption = Annotated[
    int | None,
    typer.Option(
        help="The delay in counts of an encoder, told as lines: encoder COUNT.",
        rich_help_panel=TIMES,
    ),
]
EjectorWindowCountsOption = Annotated[
    int | None,
    typer.Option(help="So many counts beyond that the part can be caught.", rich_help_panel=TIMES),
]
EncoderSilentMsOption = Annotated[
    float,
    typer.Option(
        help="Without a reading of the encoder for longer, no pass is given.", rich_help_panel=TIMES
    ),
]

OutputOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the decisions; default decisions/.", rich_help_panel=LOG),
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        help="Whose mask and overlay are kept: all, rejects or none.", rich_help_panel=LOG
    ),
]
DurableOption = Annotated[
    bool,
    typer.Option(
        "--durable", help="Sync each record to disk before the next part.", rich_help_panel=LOG
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        help="Device key that signs the log's heads; made if it is not there.", rich_help_panel=LOG
    ),
]
SqliteOption = Annotated[
    Path | None,
    typer.Option(help="Database that follows the log, beside the line.", rich_help_panel=LOG),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(help="CSV file that follows the log, beside the line.", rich_help_panel=LOG),
]
EvidenceOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Keep the frames of rejects, of near misses and of a few others, in so many GB.",
        rich_help_panel=LOG,
    ),
]
WriteBudgetOption = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        help="GB a day that may be written before evidence is left out.",
        rich_help_panel=LOG,
    ),
]
KeepLogOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        help="Delete segments of the log after so many days; needs --key.",
        rich_help_panel=LOG,
    ),
]
LogQuotaOption = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        help="Delete the oldest above so many GB of log; needs --key.",
        rich_help_panel=LOG,
    ),
]

AlarmAfterOption = Annotated[
    int | None,
    typer.Option(help="Alarm after so many fails or unknowns in a row.", rich_help_panel=ALARMS),
]
HaltAfterOption = Annotated[
    int | None,
    typer.Option(help="Halt after so many fails or unknowns in a row.", rich_help_panel=ALARMS),
]
AlarmRejectRateOption = Annotated[
    str | None,
    typer.Option(
        help="Alarm at such a share of rejects in ten minutes, as 5%.", rich_help_panel=ALARMS
    ),
]
HaltRejectRateOption = Annotated[
    str | None,
    typer.Option(
        help="Halt at such a share of rejects in ten minutes, as 20%.", rich_help_panel=ALARMS
    ),
]
AlarmDriftOption = Annotated[
    int | None,
    typer.Option(
        help="Alarm if scores or brightness drift, one false alarm in so many parts at most; "
        "0 for no alarm; default the settings', or 10000000.",
        rich_help_panel=ALARMS,
    ),
]
MaxTemperatureOption = Annotated[
    float | None,
    typer.Option(help="Above it, in degrees C, every part is unknown.", rich_help_panel=ALARMS),
]

ModbusOption = Annotated[
    str | None,
    typer.Option(
        help="Answer a PLC over Modbus TCP on this interface: 192.168.10.5:502, with "
        "?heartbeat_ms=500 behind it where it is lost sooner or later than after 1000.",
        rich_help_panel=PLC,
    ),
]
ModbusAllowOption = Annotated[
    list[str] | None,
    typer.Option(
        help="The PLC's address or network, as 192.168.10.0/24; may be repeated.",
        rich_help_panel=PLC,
    ),
]
GpioOption = Annotated[
    str | None,
    typer.Option(
        help="Pulse on a wire for each pass, 20 ms or as given: gpiochip0:105,20.",
        rich_help_panel=PLC,
    ),
]
GpioRejectOption = Annotated[
    bool,
    typer.Option(
        "--gpio-not-fail-safe-reject-pulse",
        help="Pulse for each part that did not pass: a dead device lets all parts through.",
        rich_help_panel=PLC,
    ),
]

ListenOption = Annotated[
    str | None,
    typer.Option(
        help="Answer local programs: unix:/run/ssn-edge.sock or 127.0.0.1:8090. With --device "
        "they give triggers and see the state, without it they send frames.",
        rich_help_panel=PROGRAMS,
    ),
]
MqttOption = Annotated[
    str | None,
    typer.Option(
        help="Tell a broker: mqtt:// or mqtts://HOST[:PORT]/PREFIX; needs ...[mqtt].",
        rich_help_panel=PROGRAMS,
    ),
]
MqttLoginOption = Annotated[
    Path | None,
    typer.Option(
        help="File of user:password; else SSN_EDGE_MQTT_USER and _PASSWORD.",
        rich_help_panel=PROGRAMS,
    ),
]
MqttCaOption = Annotated[
    Path | None,
    typer.Option(
        help="Certificates that an mqtts:// broker is checked against.", rich_help_panel=PROGRAMS
    ),
]
MqttCertOption = Annotated[
    Path | None,
    typer.Option(
        help="Certificate and key (one PEM, mode 0600) that an mqtts:// broker asks.",
        rich_help_panel=PROGRAMS,
    ),
]
OpcuaOption = Annotated[
    str | None,
    typer.Option(
        help="Be an OPC UA server: opc.tcp://127.0.0.1:4840; needs ...[opcua].",
        rich_help_panel=PROGRAMS,
    ),
]
OpcuaUsersOption = Annotated[
    Path | None,
    typer.Option(
        help="Its users; see python -m ssn_edge_runtime.outlets.opcua_users.",
        rich_help_panel=PROGRAMS,
    ),
]
OpcuaOpenOption = Annotated[
    bool,
    typer.Option(
        "--opcua-open", help="Let everyone on the network read there.", rich_help_panel=PROGRAMS
    ),
]
WebhookOption = Annotated[
    str | None,
    typer.Option(
        help="POST rejects and events there: https://HOST/PATH.", rich_help_panel=PROGRAMS
    ),
]
WebhookKeyOption = Annotated[
    Path | None,
    typer.Option(help="Key that signs them; made if it is not there.", rich_help_panel=PROGRAMS),
]
WebhookCaOption = Annotated[
    Path | None,
    typer.Option(
        help="Certificates that an https:// server is checked against.", rich_help_panel=PROGRAMS
    ),
]
WebhookCertOption = Annotated[
    Path | None,
    typer.Option(
        help="Certificate and key (one PEM, mode 0600) that an https:// server asks.",
        rich_help_panel=PROGRAMS,
    ),
]
ControlOption = Annotated[
    Path | None,
    typer.Option(
        help="Unix socket for triggers: lines of trigger ID [PART] [@CAMERA] [%RECIPE].",
        rich_help_panel=PROGRAMS,
    ),
]

PageOption = Annotated[
    str | None,
    typer.Option(
        help="Live page: 8080 on loopback; 0.0.0.0:8080 needs tokens, TLS.", rich_help_panel=PAGE
    ),
]
PageTokensOption = Annotated[
    Path | None,
    typer.Option(help="Who may change what; see ssn-edge page token.", rich_help_panel=PAGE),
]
PageCertificateOption = Annotated[
    Path | None, typer.Option(help="PEM certificate of the page.", rich_help_panel=PAGE)
]
PageKeyOption = Annotated[Path | None, typer.Option(help="Its private key.", rich_help_panel=PAGE)]
PageSigningKeyOption = Annotated[
    Path | None,
    typer.Option(
        help="Private key that signs what an engineer applies; needs ...[sign].",
        rich_help_panel=PAGE,
    ),
]
PageProxyOption = Annotated[
    str | None,
    typer.Option(help="Public name of a proxy that speaks TLS for the page.", rich_help_panel=PAGE),
]
PageNameOption = Annotated[
    list[str] | None,
    typer.Option(help="One more name that the page is asked by.", rich_help_panel=PAGE),
]

RealtimeOption = Annotated[
    int | None, typer.Option(help="Real-time priority to ask for, 1 to 99.", rich_help_panel=DEVICE)
]
LockMemoryOption = Annotated[
    bool,
    typer.Option(
        "--lock-memory", help="Ask that memory is never swapped out.", rich_help_panel=DEVICE
    ),
]
HardwareWatchdogOption = Annotated[
    Path | None,
    typer.Option(
        help="The board's watchdog, as /dev/watchdog: resets on a hang.", rich_help_panel=DEVICE
    ),
]
