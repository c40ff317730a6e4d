"""`ssn-edge service`: the line as a systemd unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption, PackageOption, project_settings

if TYPE_CHECKING:
    from ssn_edge.service_unit import ServiceOptions
    from ssn_edge.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The line as a systemd unit, started with the device.")

DeviceOption = Annotated[str | None, typer.Option(help="As ssn-edge run takes it.")]
OutputOption = Annotated[Path | None, typer.Option(help="Folder of the decisions.")]
SettingsOption = Annotated[Path | None, typer.Option(help="This device's settings.")]
UserOption = Annotated[str, typer.Option(help="Whom it runs as.")]
NameOption = Annotated[str, typer.Option(help="Of the unit.")]
GpuOption = Annotated[str, typer.Option(help="none, nvidia or jetson; auto looks.")]
NetworkOption = Annotated[
    bool, typer.Option("--network", help="May speak to network cameras, MQTT, OPC UA, Modbus.")
]
RealtimeOption = Annotated[int | None, typer.Option(help="Real-time priority, 1 to 99.")]
WatchdogOption = Annotated[
    float, typer.Option(help="Seconds of silence after which it is killed and restarted.")
]
HardwareOption = Annotated[
    bool, typer.Option("--hardware-watchdog", help="Keep /dev/watchdog alive: resets on a hang.")
]
ExecutableOption = Annotated[Path | None, typer.Option(help="The ssn-edge command.")]
FolderOption = Annotated[Path | None, typer.Option(help="Of the unit; default systemd's.")]
ArgumentsArgument = Annotated[
    list[str] | None, typer.Argument(help="After --: more options of ssn-edge run.")
]


@app.command("print")
def print_(
    context: typer.Context,
    arguments: ArgumentsArgument = None,
    device: DeviceOption = None,
    package: PackageOption = None,
    output: OutputOption = None,
    settings: SettingsOption = None,
    user: UserOption = "ssn-edge",
    name: NameOption = "ssn-edge",
    gpu: GpuOption = "auto",
    network: NetworkOption = False,
    realtime: RealtimeOption = None,
    watchdog: WatchdogOption = 30.0,
    hardware_watchdog: HardwareOption = False,
    executable: ExecutableOption = None,
) -> None:
    """Print the unit that install would write; needs no rights.

    Example: ssn-edge service print --device /dev/video0
    """
    with reporting(context):
        from ssn_edge.service_unit import unit_text

        options = _options(arguments, device, package, output, settings, user, name, gpu, network,
                           realtime, watchdog, hardware_watchdog, executable)  # fmt: skip
        typer.echo(unit_text(options), nl=False)


@app.command()
def install(
    context: typer.Context,
    arguments: ArgumentsArgument = None,
    device: DeviceOption = None,
    package: PackageOption = None,
    output: OutputOption = None,
    settings: SettingsOption = None,
    user: UserOption = "ssn-edge",
    name: NameOption = "ssn-edge",
    gpu: GpuOption = "auto",
    network: NetworkOption = False,
    realtime: RealtimeOption = None,
    watchdog: WatchdogOption = 30.0,
    hardware_watchdog: HardwareOption = False,
    executable: ExecutableOption = None,
    folder: FolderOption = None,
) -> None:
    """Write the unit and say what to run next. Nothing is started.

    Example: ssn-edge service install --device /dev/video0 --output /var/lib/ssn-edge
    """
    with reporting(context) as out:
        from ssn_edge.service import UNIT_FOLDER, install_unit, next_steps

        options = _options(arguments, device, package, output, settings, user, name, gpu, network,
                           realtime, watchdog, hardware_watchdog, executable)  # fmt: skip
        path = install_unit(options, folder=folder or UNIT_FOLDER)
        out.say(f"wrote {path}; now run, as root:")
        for step in next_steps(options):
            typer.echo(f"  {step}")


@app.command()
def uninstall(
    context: typer.Context, name: NameOption = "ssn-edge", folder: FolderOption = None
) -> None:
    """Take the unit away. Stop it before: systemctl disable --now ssn-edge.

    Example: ssn-edge service uninstall
    """
    with reporting(context) as out:
        from ssn_edge.service import UNIT_FOLDER, uninstall_unit

        out.say(f"removed {uninstall_unit(name, folder=folder or UNIT_FOLDER)}; now run, as root:")
        typer.echo("  systemctl daemon-reload")


@app.command()
def status(
    context: typer.Context, name: NameOption = "ssn-edge", as_json: JsonOption = False
) -> None:
    """Ask systemd how the unit is.

    Example: ssn-edge service status
    """
    with reporting(context) as out:
        from ssn_edge.service import unit_status

        found = unit_status(name)
        lines = [f"{key}: {value}" for key, value in found.items() if value]
        out.result(found, lines, as_json=as_json)


def _options(
    arguments: list[str] | None,
    device: str | None,
    package: Path | None,
    output: Path | None,
    settings: Path | None,
    user: str,
    name: str,
    gpu: str,
    network: bool,
    realtime: int | None,
    watchdog: float,
    hardware_watchdog: bool,
    executable: Path | None,
) -> ServiceOptions:
    from ssn_edge.project import find_package, find_settings
    from ssn_edge.service import found_executable, found_gpu
    from ssn_edge.service_unit import ServiceOptions

    whole_project = project_settings()
    project = whole_project.run
    device = device or project.device
    found = find_settings(settings, default=Path(project.settings))
    return ServiceOptions(
        executable=found_executable() if executable is None else executable.absolute(),
        package=find_package(package).absolute(),
        # A recording is named from here; the unit runs elsewhere.
        device=str(Path(device).absolute()) if Path(device).exists() else device,
        output=(output or Path(project.output)).absolute(),
        settings=None if found is None else found.absolute(),
        user=user,
        name=name,
        gpu=found_gpu() if gpu == "auto" else gpu,
        needs_network=network,
        realtime=realtime,
        watchdog_s=watchdog,
        hardware_watchdog=hardware_watchdog,
        arguments=(*_of_project(whole_project, arguments or ()), *(arguments or ())),
    )


def _of_project(whole: Settings, arguments: Sequence[str]) -> list[str]:
    """What the project file says: the unit runs in another folder, without it."""
    project, trust = whole.run, whole.trust
    usual = type(project)()
    words = []
    for name in ("engine", "precision", "keep"):
        if getattr(project, name) != getattr(usual, name):
            words += [f"--{name}", getattr(project, name)]
    if trust.require_signature:
        words += ["--require-signature", "--trust", str(Path(trust.keys).absolute())]
        if trust.minimum_serial:
            words += ["--minimum-serial", str(trust.minimum_serial)]
    named = {each.split("=")[0] for each in arguments}
    is_open = {"--page", "--page-tokens"} <= named and "--page-signing-key" not in named
    if project.page_signing_key and is_open:
        words += ["--page-signing-key", str(Path(project.page_signing_key).absolute())]
    return words
