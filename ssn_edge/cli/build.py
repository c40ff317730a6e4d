"""`ssn-edge build`: a package's engine, made and certified on the device that will run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import Output, reporting
from ssn_edge.cli.options import (
    AllowOlderOption,
    JsonOption,
    PrecisionOption,
    RequireSignatureOption,
    TrustOption,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge_runtime.engines.tensorrt_cache import EngineBuild
    from ssn_edge_runtime.trust import Trust

_WITHOUT_PLAN = ("onnxruntime-cuda", "openvino", "onnxruntime-cpu")
_UNITS = {
    **{"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30},
}


def build(
    context: typer.Context,
    package: Annotated[
        Path | None, typer.Argument(help="The package; without it the one in this directory.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="auto, tensorrt or tensorrt-rtx; others are only certified.")
    ] = "auto",
    precision: PrecisionOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames judged at once.")] = 1,
    workspace: Annotated[
        str, typer.Option(help="Most scratch memory of one layer, such as 1GiB.")
    ] = "1GiB",
    optimisation_level: Annotated[
        int, typer.Option(min=0, max=5, help="0 builds quickly, 5 tries most.")
    ] = 3,
    force: Annotated[
        bool, typer.Option("--force", help="Build again even if there is an engine.")
    ] = False,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: AllowOlderOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the engine on this device, and certify it with the golden pictures.

    Takes seconds to minutes; the engine is kept until the package, the driver or the library
    changes. Run it in the power mode that will inspect.

    Where signatures are required, only what may run here is built, whatever its engine.

    Example: ssn-edge build part.ssn
    """
    with reporting(context) as out:
        from ssn_edge.project import find_package

        trusted = whom_to_trust(trust, is_required=require_signature, allows_older=allow_older)
        path = find_package(package)
        if engine in _WITHOUT_PLAN:
            _only_certify(out, path, engine, precision or "all", trusted, as_json=as_json)
            return
        from ssn_edge_runtime.engines.tensorrt_build import BuildOptions
        from ssn_edge_runtime.engines.tensorrt_cache import build_engine
        from ssn_edge_runtime.package import Package

        options = BuildOptions(parse_bytes(workspace, "--workspace"), optimisation_level)
        with Package.open(path, trust=trusted) as opened, out.progress() as progress:
            built = build_engine(
                opened,
                engine=engine,
                precision=precision or "auto",
                batch_size=batch_size,
                options=options,
                force=force,
                on_progress=lambda phase, done, count: progress("build", done, count, phase),
                on_message=out.say,
            )
        out.result(_document(built, path), build_lines(built), as_json=as_json)


def parse_bytes(text: str, option: str) -> int:
    """``1GiB``, ``512 MiB`` or ``2000000`` as bytes.

    Raises:
        ConfigError: None of these.
    """
    from ssn_edge_runtime.errors import ConfigError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    unit = _UNITS.get(found[2]) if found else None
    if found is None or unit is None:
        raise ConfigError(f"{option} is {text!r}; give a number of bytes, such as 512MiB or 1GiB")
    return int(float(found[1]) * unit)


def build_lines(built: EngineBuild) -> list[str]:
    """What was built, for a terminal."""
    seconds = built.details.get("build_seconds", "?")
    how = f"built in {seconds} s" if built.was_built else "was there already"
    certificate = built.certificate
    return [
        *(f"not {precision}: {why}" for precision, why in built.fallen_from.items()),
        f"{built.engine} {built.precision} {how}: {built.plan_bytes / 1e6:.1f} MB in "
        f"{built.folder}",
        f"runs {built.layers}",
        f"certified on {certificate.pictures} golden pictures: scores off by at most "
        f"{certificate.score_difference:.2g} (allowed {certificate.score_tolerance:.2g}), masks by "
        f"{100 * certificate.mask_share:.3f} %",
        f"next: ssn-edge run --engine {built.engine} --precision {built.precision}",
    ]


def _document(built: EngineBuild, path: Path) -> dict[str, object]:
    return {
        "package": str(path),
        "package_id": built.certificate.package_id,
        "engine": built.engine,
        "precision": built.precision,
        "was_built": built.was_built,
        "folder": str(built.folder),
        "plan_bytes": built.plan_bytes,
        "details": dict(built.details),
        "fallen_from": dict(built.fallen_from),
        "certificate": built.certificate.to_dict(),
    }


def _only_certify(
    out: Output, path: Path, engine: str, precision: str, trust: Trust | None, *, as_json: bool
) -> None:
    """An engine that compiles the ONNX file when it is loaded has no plan."""
    from ssn_edge.cli.verify import verification_lines
    from ssn_edge.project import refuse_untrusted
    from ssn_edge.verification import VerifyRequest, verify_package

    refuse_untrusted(path, trust)
    out.say(f"{engine} compiles the model when it is loaded, so nothing is built: it is certified")
    with out.progress() as progress:
        request = VerifyRequest(path, engine=engine, precision=precision, trust=trust)
        found = verify_package(request, on_progress=progress)
    out.result(found.to_dict(), verification_lines(path, found), as_json=as_json)
    found.raise_for_result()
