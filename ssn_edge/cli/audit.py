"""`ssn-edge audit`: is a decision log whole and unaltered?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption

if TYPE_CHECKING:
    from ssn_edge_runtime.sinks.audit import AuditReport


def audit(
    context: typer.Context,
    log: Annotated[Path, typer.Argument(help="Folder of the decisions.")] = Path("decisions"),
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="A published head that must be in the log: a file of statements, or the hash of a "
            "line. May be given several times."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The device's public key (PEM), from elsewhere.")
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Also compare each kept frame with the hash that the log has of it: reads them "
            "all.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find each line of a decision log that was cut, changed, missing, doubled or moved.

    Says where (file and line), and what it cannot prove. Ends with 0 if the log is whole, with 4 if
    it is not, with 3 if it is no log.

    Example: ssn-edge audit decisions/ --head noted/decisions.head.json
    """
    with reporting(context) as out:
        from ssn_edge_runtime.sinks.audit import audit_log, heads_from
        from ssn_edge_runtime.sinks.device_key import PublicKey

        heads = [each for text in head or () for each in heads_from(text)]
        public = None if key is None else PublicKey.read(key)
        report = audit_log(log, heads=heads, key=public, with_evidence=evidence)
        out.result(report.to_dict(), audit_lines(report), as_json=as_json)
        report.raise_for_problems()


def audit_lines(report: AuditReport) -> list[str]:
    """The findings for a terminal."""
    counts = ", ".join(f"{count} {name}" for name, count in report.verdicts.items())
    lines = [
        f"{report.folder}: {report.lines} lines in {report.files} files"
        + ("" if report.first_line is None else f" ({report.first_line} to {report.last_line})"),
        f"  decisions: {counts}",
        f"  head: {report.head}",
    ]
    if report.evidence is not None:
        lines.append(f"  kept frames that are what the log says: {report.evidence}")
    if report.open_triggers:
        lines.append(f"  triggers without a decision yet: {report.open_triggers}")
    lines += [f"  {each.file}:{each.line}: {each.detail}" for each in report.problems]
    lines += [f"  not proven: {each}" for each in report.unproven]
    lines.append("not whole" if report.problems else "whole")
    return lines
