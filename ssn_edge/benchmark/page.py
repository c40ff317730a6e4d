"""A benchmark as one static HTML file: drawings and tables, no script, nothing from outside.

Written without a template engine: a device has none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from ssn_edge.benchmark.drawings import Bar, Part, Spread, bars_svg, spreads_svg
from ssn_edge.benchmark.result import BenchmarkResult, SubjectResult, Throughput
from ssn_edge.benchmark.stages import COPY_IN, COPY_OUT, INFER, READ, STAGES, VERDICT
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
from ssn_edge_runtime.files import write_whole

_TO_VERDICT = tuple(stage for stage in STAGES if stage != READ)
_LONG = 60
"""Characters of a text that takes the whole row."""
_HOST = tuple(stage for stage in _TO_VERDICT if stage not in (COPY_IN, INFER, COPY_OUT))


def write_page(path: Path, result: BenchmarkResult) -> None:
    """Write the page, whole or not at all.

    Raises:
        StorageError: The disk is full or the folder cannot be written to.
    """
    write_whole(path, page_html(result).encode())


def page_html(result: BenchmarkResult) -> str:
    """The page; everything that came from outside of this file is escaped."""
    style = "".join(
        resources.files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (
            ("ssn_edge.evaluation", "report.css"),
            ("ssn_edge.benchmark", "benchmark.css"),
        )
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            "<title>Benchmark</title>",
            f"<style>{style}</style>\n</head>\n<body>\n<main>",
            *_main(result),
            "</main>\n</body>\n</html>\n",
        )
    )


def _main(result: BenchmarkResult) -> Iterator[str]:
    device = result.conditions.device
    yield '<p class="eyebrow">Benchmark</p>'
    yield f"<h1>{escape(device.model or device.processor or device.machine)}</h1>"
    if result.interrupted:
        yield '<p class="remark">Interrupted: this is what there was until then.</p>'
    yield _facts(condition_words(result.conditions), "facts stacked")
    yield "<section><h2>Time of a frame</h2>"
    yield '<div class="charts two">'
    for stages, title, more in (
        (_TO_VERDICT, "From frame to verdict", "medians of the stages, one frame at a time"),
        (_HOST, "All but the engine", "the same without the engine, on its own scale"),
    ):
        bars = _stage_bars(result, stages)
        drawn = [
            stage for stage in stages if any(stage in subject.stages for subject in result.subjects)
        ]
        yield _figure(title, more, bars_svg(bars, unit="ms", title=title), drawn)
    yield _figure(
        "How it spreads",
        "median, thick line to p95, thin line to p99, from frame to verdict",
        spreads_svg(_spreads(result), unit="ms", title="Spread from frame to verdict"),
    )
    if result.ratios:
        yield f'<figure class="card"><figcaption>Against {escape(result.subjects[0].label)}'
        yield "<span>from frame to verdict, round by round</span></figcaption>"
        yield "".join(f"<p>{escape(text)}</p>" for text in ratio_texts(result)) + "</figure>"
    yield "</div></section>"
    yield '<section><h2>Frames a second</h2><div class="charts two">'
    for title, more, of in (
        ("Engine alone", "by batch size", "batch"),
        ("From frame to verdict", "by number of inspections at once", "streams"),
    ):
        rates = list(_rate_bars(result, of))
        yield _figure(title, more, bars_svg(rates, unit="frames/s", title=f"{title}, {more}"))
    yield "</div></section><section><h2>In numbers</h2>"
    for subject in result.subjects:
        yield from _subject(subject, result.conditions.threads)
    yield f'<p class="hint">{NOTHING}: it was not, or cannot be, measured.</p></section>'


def _figure(title: str, more: str, svg: str, stages: Sequence[str] = ()) -> str:
    keys = "".join(
        f'<li><span class="key stage-{stage}"></span>{ROWS[stage]}</li>' for stage in stages
    )
    return (
        f"<figure><figcaption>{escape(title)}<span>{escape(more)}</span></figcaption>"
        f"{f'<ul class=keys>{keys}</ul>' if keys else ''}{svg}</figure>"
    )


def _stage_bars(result: BenchmarkResult, stages: Sequence[str]) -> list[Bar]:
    bars = []
    for subject in result.subjects:
        found = [(stage, subject.stages[stage].p50) for stage in stages if stage in subject.stages]
        bars.append(
            Bar(
                subject.label,
                tuple(
                    Part(f"stage-{stage}", ms, f"{ROWS[stage]} {ms_text(ms)} ms")
                    for stage, ms in found
                ),
                f"{ms_text(sum(ms for _, ms in found))} ms" if found else NOTHING,
            )
        )
    return bars


def _spreads(result: BenchmarkResult) -> list[Spread]:
    spreads = []
    for subject in result.subjects:
        found = subject.stages.get(VERDICT)
        note = NOTHING
        if found is not None:
            note = f"p50 {ms_text(found.p50)}, p99 {ms_text(found.p99)}, max {ms_text(found.max)}"
        spreads.append(Spread(subject.label, found, note))
    return spreads


def _rate_bars(result: BenchmarkResult, of: str) -> Iterator[Bar]:
    for subject in result.subjects:
        found = subject.batches if of == "batch" else subject.streams
        for width, each in found.items():
            rate = None if each is None else each.frames_per_second
            parts = () if rate is None else (Part("rate", rate, rate_text(rate)),)
            yield Bar(f"{subject.label}, {of} {width}", parts, rate_text(rate))


def _subject(subject: SubjectResult, threads: int) -> Iterator[str]:
    yield f'<div class="card subject"><h3>{escape(subject.label)}</h3>'
    yield f"<p>{escape(subject_words(subject, threads))}</p>"
    yield _facts(more_words(subject), "facts")
    yield '<div class="tables"><div class="scroll">'
    yield _table(
        ("ms", "frames", "p50", "p95", "p99", "max"),
        (
            (name, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
            if (found := subject.stages.get(stage)) is None
            else (
                name,
                str(found.count),
                *(ms_text(value) for value in (found.p50, found.p95, found.p99, found.max)),
            )
            for stage, name in ROWS.items()
        ),
    )
    yield '</div><div><div class="scroll">'
    yield _table(
        ("batch, engine alone", "frames/s", "p50 ms", "p99 ms"), _rate_rows(subject.batches)
    )
    yield '</div><div class="scroll">'
    yield _table(
        ("streams, frame to verdict", "frames/s", "p50 ms", "p99 ms"), _rate_rows(subject.streams)
    )
    yield "</div></div></div>"
    yield "".join(f'<p class="remark">{escape(remark)}</p>' for remark in subject.remarks)
    yield (
        f'<p class="hint">package {subject.package_id[:16]}, {escape(subject.backbone)}, graph '
        f"{escape(subject.graph)}, engine file {subject.identity[:16]}</p></div>"
    )


def _rate_rows(found: Mapping[int, Throughput | None]) -> Iterator[tuple[str, ...]]:
    for width, each in found.items():
        if each is None:
            yield (str(width), NOTHING, NOTHING, NOTHING)
        else:
            rate = rate_text(each.frames_per_second)
            yield (str(width), rate, ms_text(each.call_ms.p50), ms_text(each.call_ms.p99))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _facts(pairs: Iterable[tuple[str, str]], kind: str) -> str:
    facts = "".join(
        f"<div{' class=wide' if len(text) > _LONG else ''}>"
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in pairs
    )
    return f'<dl class="{kind}">{facts}</dl>'
