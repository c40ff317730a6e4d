"""Pictures that cannot be read, or differ from the rest in size or colour."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssn_edge.data_check.exposure import FEWEST_FOR_OUTLIERS, OUTLIER_FROM
from ssn_edge.data_check.findings import Finding, Kind, Severity, size_text
from ssn_edge.data_check.measure import Looked

ASPECT_FACTOR = 1.1
"""Least factor between a picture's aspect ratio and the usual one to be told."""


def unreadable_findings(looked: Sequence[Looked]) -> list[Finding]:
    """Every picture and mask that cannot be used, with the reader's words."""
    found = []
    for each in looked:
        for fault, whose in ((each.picture_fault, ""), (each.mask_fault, "its mask ")):
            if fault:
                found.append(unreadable(each.item.image, f"{whose}{fault}"))
    return found


def unreadable(file: Path, fault: str) -> Finding:
    """A file that cannot be used."""
    return Finding(Kind.UNREADABLE, Severity.ERROR, fault, (file,))


def size_findings(looked: Sequence[Looked]) -> list[Finding]:
    """Sizes other than that of most; where most have none, odd aspect ratios alone."""
    files: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for each in looked:
        if each.picture is not None:
            files[each.picture.size_hw].append(each.item.image)
    if len(files) < 2:
        return []
    count = sum(len(each) for each in files.values())
    usual, of_usual = max(files.items(), key=lambda each: len(each[1]))
    if 2 * len(of_usual) > count:
        usual_text = f"most ({len(of_usual)} of {count}) have {size_text(usual)}"
        return [
            Finding(
                Kind.SIZE,
                Severity.WARNING if _factor(size, _aspect(usual)) > ASPECT_FACTOR
                else Severity.NOTE,
                f"{size_text(size)} pixels, {usual_text}; the network sees all at one size",
                tuple(files[size]),
            )
            for size in sorted(files)
            if size != usual
        ]  # fmt: skip
    median = math.exp(float(np.median([math.log(_aspect(s)) for s in files for _ in files[s]])))
    odd = _odd_aspects(files)
    found = [
        Finding(
            Kind.SIZE,
            Severity.WARNING,
            f"{size_text(size)} pixels: width to height {_aspect(size):.2f}, the median is "
            f"{median:.2f}; the network sees all at one size",
            tuple(files[size]),
        )
        for size in odd
    ]
    heights, widths = zip(*files, strict=True)
    text = (
        f"{count} pictures of {len(files)} sizes, {_range(widths)} pixels wide and "
        f"{_range(heights)} high: each is stretched to the network's input by another factor"
    )
    smallest, largest = min(files, key=math.prod), max(files, key=math.prod)
    note = Finding(Kind.SIZE, Severity.NOTE, text, (files[smallest][0], files[largest][0]))
    return [*found, note]


def colour_findings(looked: Sequence[Looked]) -> list[Finding]:
    """Grey pictures among colour ones, or the other way round: whichever are fewer."""
    files: dict[bool, list[Path]] = {True: [], False: []}
    for each in looked:
        if each.picture is not None:
            files[each.picture.is_colour].append(each.item.image)
    if not all(files.values()):
        return []
    fewer = len(files[True]) <= len(files[False])
    here, others = ("colour", "grey") if fewer else ("grey", "colour")
    text = (
        f"{len(files[fewer])} in {here} among {len(files[not fewer])} in {others}; what the "
        "network learns of one does not hold for the other"
    )
    return [Finding(Kind.COLOUR, Severity.WARNING, text, tuple(files[fewer]))]


def _odd_aspects(files: dict[tuple[int, int], list[Path]]) -> list[tuple[int, int]]:
    """Sizes whose aspect ratio is far from that of the rest."""
    counts = Counter({size: len(each) for size, each in files.items()})
    if counts.total() < FEWEST_FOR_OUTLIERS:
        return []
    aspects = np.log([_aspect(size) for size in counts.elements()])
    median = float(np.median(aspects))
    gap = OUTLIER_FROM * 1.4826 * float(np.median(np.abs(aspects - median)))
    least = max(gap, math.log(ASPECT_FACTOR))
    return [size for size in sorted(files) if abs(math.log(_aspect(size)) - median) > least]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _aspect(size_hw: tuple[int, int]) -> float:
    return size_hw[1] / size_hw[0]


def _factor(size_hw: tuple[int, int], aspect: float) -> float:
    return math.exp(abs(math.log(_aspect(size_hw) / aspect)))
