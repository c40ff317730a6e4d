"""`ssn-edge data`: a look at the data before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption, parse_columns, project_settings

if TYPE_CHECKING:
    from ssn_edge.data_check import DataReport, Finding

EXIT_UNUSABLE = 3
"""As product.md counts unusable data."""
PAGE_NAME = "data-check.html"
MOST_LINES = 12
"""Findings of one kind and severity that a terminal shows; page and JSON have more."""
MOST_NAMES = 3

app = typer.Typer(
    name="data",
    help="Look at a data set before training.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _data() -> None:
    """Look at a data set before training."""


@app.command()
def check(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="Data set: a folder or a CSV file; default that of ssn-edge.toml."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="CSV column by another name, such as label=defect.")
    ] = None,
    mask_above: Annotated[
        int | None, typer.Option(help="Mask values above this are defects (else found out).")
    ] = None,
    report: Annotated[Path, typer.Option(help="The page of thumbnails that is written.")] = Path(
        PAGE_NAME
    ),
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with a data set, all of it at once.

    Copies in train and test, labels and masks that contradict each other, files that cannot be
    read, odd sizes and exposures. Ends with code 3 if anything must be mended first.

    Example: ssn-edge data check data/tiles
    """
    with reporting(context) as out:
        from ssn_edge.data_check import check_data_at, write_page
        from ssn_edge_runtime.errors import ConfigError

        settings = project_settings()
        if data is None and not settings.data.path:
            raise ConfigError("no data set was named: ssn-edge data check DATA, or path in "
                              "ssn-edge.toml")  # fmt: skip
        above = settings.data.mask_above if mask_above is None else mask_above
        with out.progress() as progress:
            found = check_data_at(
                data or Path(settings.data.path),
                columns=(settings.data.columns if column is None else parse_columns(column))
                or None,
                mask_above=None if above == -1 and mask_above is None else above,
                max_false_reject=settings.export.max_false_reject,
                on_progress=progress.stage("look"),
            )
        write_page(found, report)
        out.result(
            {**found.to_dict(), "report": str(report)},
            [*finding_lines(found), f"report: {report}"],
            as_json=as_json,
        )
        if found.has_errors:
            raise typer.Exit(EXIT_UNUSABLE)


def finding_lines(report: DataReport) -> list[str]:
    """The findings as a table for a terminal, by severity."""
    from ssn_edge.data_check import Severity

    lines = [report.summary]
    for severity in Severity:
        findings = report.of(severity)
        if findings:
            lines += ["", f"{severity.value}s ({len(findings)})"]
        for kind in dict.fromkeys(finding.kind for finding in findings):
            of_kind = [finding for finding in findings if finding.kind is kind]
            lines += [f"  {_line(report, finding)}" for finding in of_kind[:MOST_LINES]]
            if len(of_kind) > MOST_LINES:
                lines.append(f"  ... and {len(of_kind) - MOST_LINES} more of this kind")
    if not report.findings:
        lines.append("nothing was found")
    return [*lines, ""]


def _line(report: DataReport, finding: Finding) -> str:
    names = _names([report.name_of(file) for file in finding.files])
    return f"{names}: {finding.text}" if names else finding.text


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown
