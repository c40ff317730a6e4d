"""`ssn-edge verify`: is a package whole, and does it decide right on this device?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    AllowOlderOption,
    JsonOption,
    RequireSignatureOption,
    TrustOption,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.verification import EngineResult, Verification


def verify(
    context: typer.Context,
    package: Annotated[
        Path | None, typer.Argument(help="The package; without it the one in this directory.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="One engine, auto, or all that can run here.")
    ] = "all",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, int8, or all that the package holds.")
    ] = "all",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of your own pictures to compare decisions on, labels not needed."
        ),
    ] = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: AllowOlderOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a package, and each engine here with its golden pictures.

    An engine that gives what the package was certified for gets a device certificate; run needs
    one for every engine but onnxruntime-cpu.

    With trusted keys, it must be signed by one of them, and not be older than one that has run.

    Example: ssn-edge verify part.ssn
    """
    with reporting(context) as out:
        from ssn_edge.project import find_package
        from ssn_edge.verification import VerifyRequest, verify_package

        trusted = whom_to_trust(trust, is_required=require_signature, allows_older=allow_older)
        path = find_package(package)
        request = VerifyRequest(path, engine=engine, precision=precision, data=data, trust=trusted)
        with out.progress() as progress:
            found = verify_package(request, on_progress=progress)
        out.result(found.to_dict(), verification_lines(path, found), as_json=as_json)
        found.raise_for_result()


def verification_lines(path: Path, found: Verification) -> list[str]:
    """The findings as a table for a terminal."""
    signed = "signed, not checked (--trust FOLDER)" if found.is_signed else "not signed"
    if found.signed_by is not None:
        signed = f"signed by {found.signed_by}"
    lines = [
        f"{path}: whole and unchanged, {signed}",
        f"  {'engine':<17} {'precision':<16} {'result':<10} {'golden':>6} "
        f"{'score off by':>13} {'allowed':>16} {'mask':>8} {'seconds':>8}",
    ]
    for each in found.results:
        lines.append(_row(each))
        if each.detail:
            lines.append(f"    {each.detail}")
        if each.data is not None:
            lines.append(
                f"    data: {each.data.pictures} pictures, {len(each.data.flips)} decided "
                f"differently ({len(each.data.outside)} outside of the margin), scores off by at "
                f"most {each.data.score_difference:.3g}"
            )
            if each.data.unreadable:
                lines.append(f"    data: {each.data.unreadable} files cannot be read")
    lines += [f"  {name}: {why}" for name, why in found.skipped]
    return lines


def _row(each: EngineResult) -> str:
    if not each.pictures:
        return f"  {each.engine:<17} {each.precision:<16} {each.result:<10}"
    # Absolute plus relative to the logit.
    allowed = f"{each.score_tolerance:.1e} + {each.score_tolerance:.1%}"
    return (
        f"  {each.engine:<17} {each.precision:<16} {each.result:<10} {each.pictures:>6} "
        f"{each.score_difference:>13.2e} {allowed:>16} "
        f"{100 * each.mask_share:>7.3f}% {each.seconds:>8.1f}"
    )
