"""`ssn-edge backup` and `ssn-edge restore`: a device in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption, PackageOption, TrustOption


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The backup that is made.")],
    package: PackageOption = None,
    settings: Annotated[
        Path | None, typer.Option(help="This device's settings; default the project's.")
    ] = None,
    trust: TrustOption = None,
    key: Annotated[Path | None, typer.Option(help="This device's own key.")] = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="The private key, too: keep the backup secret.")
    ] = False,
    unit: Annotated[str, typer.Option(help="Name of the systemd unit.")] = "ssn-edge",
    as_json: JsonOption = False,
) -> None:
    """Keep what makes this device decide as it does: package, settings with their history, keys.

    Project file, systemd unit and trusted keys go in; engines, decisions and private keys do not.

    Example: ssn-edge backup line-3.backup
    """
    with reporting(context) as out:
        from ssn_edge.backup.make import BackupRequest, make_backup

        request = BackupRequest(
            file,
            package=package,
            settings=settings,
            trust=trust,
            key=key,
            with_keys=with_keys,
            unit=unit,
        )
        made = make_backup(request)
        size_mb = file.stat().st_size / 1e6
        lines = [f"  {each.role:<9} {each.path}" for each in made.files]
        lines.append(f"{file}: {len(made.files)} files, {size_mb:.1f} MB, read back and compared")
        names = [each.entry for each in made.files]
        out.result({"made_at": made.made_at, "files": names}, lines, as_json=as_json)


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A backup.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also over files that are newer than the backup.")
    ] = False,
    with_unit: Annotated[
        bool, typer.Option("--with-unit", help="Put the systemd unit in place, too; as root.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a device back from its backup, into this directory: all of it, or nothing.

    Stop the line before. Engines are built again: ssn-edge build, or ssn-edge verify.

    Example: ssn-edge restore line-3.backup
    """
    with reporting(context) as out:
        from ssn_edge.backup.restore import RestoreRequest, restore_backup

        written = restore_backup(RestoreRequest(file, is_forced=force, with_unit=with_unit))
        lines = [f"  {each}" for each in written]
        lines.append(f"{file}: {len(written)} files restored, the others were as they should be")
        out.result({"restored": [str(each) for each in written]}, lines, as_json=as_json)
