"""`ssn-edge sign`: a signature on a package or on a device's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption


def sign(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="Package (.ssn) or settings (.json); is signed in its place."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The signer's private key (PEM, mode 0600).")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(help="Make a key here, and FILE.pub beside it for the devices' trust."),
    ] = None,
    serial: Annotated[
        int | None,
        typer.Option(help="Of a package, above all before it; default: the second of signing."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a package or settings, so that a device can tell whose they are.

    The package id stays as it is, and so do signatures of other keys. Keep the private key off the
    devices; copy FILE.pub into their trust folder.

    Example: ssn-edge sign part.ssn --key release.key
    """
    with reporting(context) as out:
        from ssn_edge.signing import public_file, sign_file
        from ssn_edge_runtime.errors import ConfigError
        from ssn_edge_runtime.sinks.device_key import DeviceKey

        if new_key is not None:
            if file is not None or key is not None or serial is not None:
                raise ConfigError("--new-key makes a key and signs nothing; sign with it then")
            made = DeviceKey.make(new_key)
            public = public_file(new_key)
            out.result(
                {"key": str(new_key), "public_key": str(public), "key_id": made.key_id},
                [
                    f"{new_key}: private key, keep it secret and off the devices",
                    f"{public}: public key {made.key_id}, for the devices' trust folder",
                ],
                as_json=as_json,
            )
            return
        if file is None or key is None:
            raise ConfigError(
                "a file and a key are wanted: ssn-edge sign part.ssn --key release.key; make a key "
                "with ssn-edge sign --new-key release.key"
            )
        signed = sign_file(file, DeviceKey.read(key), serial=serial)
        out.result(signed.to_dict(), signed.lines(), as_json=as_json)
