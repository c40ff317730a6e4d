"""A benchmark as text for a terminal of 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssn_edge.benchmark.result import BenchmarkResult, SubjectResult, Throughput
from ssn_edge.benchmark.words import (
    NOTHING,
    ROWS,
    condition_words,
    more_words,
    ms_text,
    rate_text,
    ratio_texts,
    subject_words,
)

WIDTH = 80


def table_lines(result: BenchmarkResult, *, width: int = WIDTH) -> list[str]:
    """The whole benchmark, line by line, without colours."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        if result.interrupted:
            console.print("INTERRUPTED: this is what there was until then.\n", markup=False)
        console.print(_pairs(condition_words(result.conditions)))
        for subject in result.subjects:
            console.print(f"\n{subject.label}", markup=False)
            words = subject_words(subject, result.conditions.threads)
            console.print(f"{words}\n", markup=False)
            console.print(_stages(subject), "")
            console.print(_throughputs("batch, engine alone", subject.batches), "")
            console.print(_throughputs("streams, frame to verdict", subject.streams), "")
            console.print(_pairs(more_words(subject)))
            for remark in subject.remarks:
                console.print(f"note: {remark}", markup=False)
        if result.ratios:
            console.print(f"\nagainst {result.subjects[0].label}, frame to verdict:", markup=False)
            for text in ratio_texts(result):
                console.print(f"  {text}", markup=False)
    return [line.rstrip() for line in captured.get().rstrip().splitlines()]


def _pairs(pairs: Iterator[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in pairs:
        table.add_row(_plain(name), _plain(text))
    return table


def _stages(subject: SubjectResult) -> Table:
    table = _table("ms", "frames", "p50", "p95", "p99", "max")
    for stage, name in ROWS.items():
        found = subject.stages.get(stage)
        if found is None:
            table.add_row(name, *[NOTHING] * 5)
        else:
            values = (found.p50, found.p95, found.p99, found.max)
            table.add_row(name, str(found.count), *map(ms_text, values))
    return table


def _throughputs(title: str, found: Mapping[int, Throughput | None]) -> Table:
    table = _table(title, "frames/s", "p50", "p95", "p99", "max ms")
    for width, each in found.items():
        if each is None:
            table.add_row(str(width), *[NOTHING] * 5)
        else:
            ms = each.call_ms
            values = (ms.p50, ms.p95, ms.p99, ms.max)
            table.add_row(str(width), rate_text(each.frames_per_second), *map(ms_text, values))
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, min_width=70)
    table.add_column(first, min_width=26, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _plain(text: str) -> str:
    """Brackets are part of a file's name, not a style."""
    return escape(text)
