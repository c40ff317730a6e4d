"""A comparison as text: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ssn_edge.reproduction.comparison import ComparedRow, Comparison
from ssn_edge.reproduction.figures import Figures
from ssn_edge.reproduction.published import METRICS

NOTHING = "-"
LARGEST_STEPS = 99
"""More deviations than that are not worth their digits."""


def table_lines(comparison: Comparison) -> list[str]:
    """The comparison for a terminal."""
    lines = [comparison.title, *_warnings(comparison), ""]
    rows: list[tuple[str, ...]] = [("", *METRICS)]
    for row in comparison.rows:
        rows.append((_name(row), *("" for _ in METRICS)))
        rows += [(f"  {name}", *cells) for name, cells in _cells(row)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(METRICS) + 1)]
    for first, *cells in rows:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join((first.ljust(widths[0]), *padded)).rstrip())
    return [*lines, "", *comparison.notes]


def markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown page."""
    lines = [f"# {comparison.title}", ""]
    lines += [line for warning in _warnings(comparison) for line in (f"**{warning}**", "")]
    lines += [
        f"| | | {' | '.join(METRICS)} |",
        f"|---|---|{'---:|' * len(METRICS)}",
    ]
    for row in comparison.rows:
        name = _name(row)
        for kind, cells in _cells(row):
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} |")
            name = ""
    return "\n".join([*lines, "", *(f"- {note}" for note in comparison.notes), ""])


def _warnings(comparison: Comparison) -> list[str]:
    """What must be read before the numbers."""
    if comparison.departures:
        lines = [f"NOT THE PUBLISHED PROTOCOL: {'; '.join(comparison.departures)}."]
    else:
        lines = ["By the published protocol."]
    return lines + [f"FAILED: {failure}" for failure in comparison.failures]


def _name(row: ComparedRow) -> str:
    return f"{row.name} ({row.runs} {'run' if row.runs == 1 else 'runs'})"


def _cells(row: ComparedRow) -> Iterator[tuple[str, list[str]]]:
    yield "ours", _figures(row.ours)
    yield "published", _figures(row.published)
    yield (
        "difference",
        [
            NOTHING if points is None else f"{points:+.2f}{_steps(steps)}"
            for points, steps in zip(row.differences, row.deviations, strict=True)
        ],
    )


def _steps(steps: float | None) -> str:
    if steps is None:
        return ""
    if abs(steps) >= LARGEST_STEPS:
        return f" ({'over +' if steps > 0 else 'under -'}{LARGEST_STEPS})"
    return f" ({steps:+.1f})"


def _figures(figures: Figures | None) -> list[str]:
    if figures is None:
        return [NOTHING] * len(METRICS)
    return [
        NOTHING if mean is None else f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
        for mean, std in zip(figures.mean, figures.std, strict=True)
    ]
