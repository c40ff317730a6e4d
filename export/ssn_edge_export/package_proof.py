"""Write a package beside its place, use it as the line does, and only then put it there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ssn_edge_export.engines_here import CPU
from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.engines import choose_engine
from ssn_edge_runtime.errors import EngineError, ExportError, PackageError, StorageError
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import read_picture


def write_proven(
    output: Path, manifest: Manifest, entries: Mapping[str, bytes], normal: Path
) -> str:
    """Write a package that was opened and has judged golden pictures in each of its precisions.

    Args:
        output: The package file; its folder is made. What is there stays until the very end.
        manifest: What the package says of itself.
        entries: Content by name.
        normal: A normal training picture, which must get a verdict.

    Returns:
        The package id.

    Raises:
        ExportError: The package would be refused, does not read back or does not run.
        StorageError: It cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            written = Path(folder) / output.name
            package_id = write_package(written, manifest, entries)
            for precision in manifest.precisions:
                _prove(written, package_id, precision, normal)
            written.replace(output)
    except OSError as error:
        raise StorageError(f"{output} cannot be written ({error.strerror})") from error
    except StorageError as error:  # of a name that nobody knows
        reason = str(error).rpartition("(")[2].removesuffix(")")
        raise StorageError(f"{output} cannot be written ({reason})") from error
    return package_id


def _prove(written: Path, package_id: str, precision: str, normal: Path) -> None:
    """Open a package as the line does; all golden pictures and a normal one must come out."""
    try:
        with _opened(written, precision) as inspector:
            inspector.self_test()
            decision = inspector.inspect(read_picture(normal))
            found_id = inspector.package_id
    except (EngineError, PackageError) as error:
        raise ExportError(
            f"the package was written but does not run in {precision} ({error}); nothing was kept. "
            "Check the disk and export again"
        ) from error
    if found_id != package_id or decision.verdict is Verdict.UNKNOWN:
        raise ExportError(
            f"the package was written, but {normal} comes out of it as {decision.verdict.value} "
            f"({decision.detail or decision.reason.value}); nothing was kept. A normal training "
            "picture must get a verdict"
        )


def _opened(written: Path, precision: str) -> Inspector:
    """As the line opens it, but before any device has certified it."""
    package = Package.open(written)
    try:
        choice = choose_engine(package, engine=CPU, precision=precision, certified=False)
        return Inspector(
            choice.open(),
            package.manifest,
            precision=precision,
            package_id=package.package_id,
            package=package,
        )
    except BaseException:
        package.close()
        raise
