"""`ssn-edge info`: what is in a package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption


def info(
    context: typer.Context,
    package: Annotated[
        Path | None, typer.Argument(help="The package; without it the one in this directory.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a package and show what is in it.

    Example: ssn-edge info part.ssn
    """
    with reporting(context) as out:
        from ssn_edge.project import find_package
        from ssn_edge_runtime import Package
        from ssn_edge_runtime.manifest_json import manifest_to_dict

        path = find_package(package)
        with Package.open(path) as opened:
            manifest = opened.manifest
            document = {"package_id": opened.package_id, **manifest_to_dict(manifest)}
        height, width = manifest.geometry.input_size_hw
        lines = [
            f"{path}: whole and unchanged, {path.stat().st_size / 1e6:.1f} MB",
            f"  id             {document['package_id']}",
            f"  made           {manifest.created_at}",
            f"  model          {manifest.backbone}, {manifest.variant} variant, {manifest.regime}",
            f"  network input  {height} x {width} pixels",
            f"  region         {manifest.geometry.roi_xywh or 'whole frame'}",
            f"  score          {manifest.scoring_rule.value}",
        ]
        for name, entry in manifest.precisions.items():
            size = manifest.entries[entry.model].size_bytes
            lines.append(
                f"  {name:<14} {size / 1e6:.1f} MB, image threshold {entry.thresholds.image:.4f}, "
                f"pixel threshold {entry.thresholds.pixel:.4f} (logits)"
            )
        lines.append(f"  golden         {len(manifest.golden)} pictures")
        out.result(document, lines, as_json=as_json)
