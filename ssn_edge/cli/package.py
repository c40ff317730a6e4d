"""`ssn-edge package`: which package is in force on this device, and which were."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import Output, reporting
from ssn_edge.cli.options import (
    JsonOption,
    PackageOption,
    RequireSignatureOption,
    TrustOption,
    project_settings,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.packages import KeptPackage, PackageStore
    from ssn_edge_runtime.trust import Trust

app = typer.Typer(no_args_is_help=True, help="The package in force here, and those before it.")

SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="The file; without it settings.json, here.")
]
ControlOption = Annotated[
    Path | None, typer.Option(help="Control socket of the line that runs: it swaps first.")
]
NoteOption = Annotated[str, typer.Option(help="Why, for people.")]


@app.command("list")
def list_(
    context: typer.Context,
    package: PackageOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the packages that were in force, oldest first; the last one is.

    Example: ssn-edge package list
    """
    with reporting(context) as out:
        _print(out, list(_store(package, settings).history()), as_json=as_json)


@app.command()
def use(
    context: typer.Context,
    new: Annotated[Path, typer.Argument(help="The package that is to judge.")],
    package: PackageOption = None,
    settings: SettingsOption = None,
    control: ControlOption = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put a package in the place of the one in force; it and its settings are kept.

    With --control the line that runs takes it without a missed part, and the file follows once the
    new engine has proved itself. Settings for it that were kept come back with it.

    Example: ssn-edge package use new.ssn --control decisions/control.sock
    """
    with reporting(context) as out:
        trusted = whom_to_trust(trust, is_required=require_signature)
        store = _store(package, settings)
        entry = store.use(new, note=note, control=control, trust=trusted, on_message=out.say)
        _print(out, [entry], as_json=as_json)


@app.command()
def rollback(
    context: typer.Context,
    to: Annotated[int | None, typer.Option(help="Number; without it the one before.")] = None,
    package: PackageOption = None,
    settings: SettingsOption = None,
    control: ControlOption = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the decisions: who went back, and what was taken."),
    ] = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring an older package back, with the settings that went with it.

    Where signatures are required, this one package is taken although it is older than one since; an
    old one from elsewhere stays refused, and so does one that was revoked. The log says who went
    back to what, and why (--note).

    Example: ssn-edge package rollback --to 1 --note "false rejects since Monday"
    """
    with reporting(context) as out:
        from ssn_edge.package_rollback import RollbackRequest, roll_back

        project = project_settings().run
        folder = output or Path(project.output)
        request = RollbackRequest(
            to,
            note=note,
            control=control,
            trust=_trust_to_go_back(trust, is_required=require_signature, output=folder),
            output=folder,
            key=Path(project.key) if project.key else None,
        )
        entry = roll_back(_store(package, settings), request, on_message=out.say)
        _print(out, [entry], as_json=as_json)


def _trust_to_go_back(keys: Path | None, *, is_required: bool, output: Path) -> Trust | None:
    """Also where only the line requires signatures: it would refuse what is older."""
    from ssn_edge.trust import known_trust, state_path
    from ssn_edge_runtime.errors import ConfigError

    trusted = whom_to_trust(keys, is_required=is_required, output=output)
    project = project_settings().trust
    state = state_path(project, output)
    if trusted is not None or not state.exists():
        return trusted
    trusted = known_trust(project, keys=None, output=output)
    if trusted is None:
        raise ConfigError(
            f"{state}: this device notes which packages it has taken, and refuses older ones; name "
            "the keys that it trusts, --trust FOLDER, or remove that file where nothing need be "
            "signed any more"
        )
    return trusted


def _store(package: Path | None, settings: Path | None) -> PackageStore:
    from ssn_edge.packages import PackageStore
    from ssn_edge.project import find_package

    return PackageStore(find_package(package), settings or Path(project_settings().run.settings))


def _print(out: Output, entries: list[KeptPackage], *, as_json: bool) -> None:
    lines = []
    for number, each in enumerate(entries, start=1):
        version = each.settings_version
        with_what = "its own thresholds" if version is None else f"settings version {version}"
        why = f": {each.note}" if each.note else ""
        lines.append(f"{number:>3}  {each.package_id[:16]}  {each.put_at}  {with_what}{why}")
    out.result(
        {"packages": [asdict(each) for each in entries]},
        lines or ["only the package that is there was ever in force"],
        as_json=as_json,
    )
