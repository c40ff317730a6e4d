"""The page of a data check: for each finding its pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule, read_mask
from ssn_edge.data_check.findings import TITLES, DataReport, Finding, Severity
from ssn_edge.evaluation.overlays import TRUTH_RGB, data_uri, outline_panel, picture_panel
from ssn_edge.evaluation.page import read_resource, render_page
from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.pictures import read_picture

MOST_FINDINGS = 24
"""Of a kind and severity; the page grows by some 0.02 MB with each picture."""
MOST_PICTURES = 4
"""Of a finding."""

_WORDS = {
    Severity.ERROR: "mend these first: training refuses them, or its metrics would be wrong",
    Severity.WARNING: "look at these",
    Severity.NOTE: "good to know",
}


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of a finding; `uri` is None if it cannot be read."""

    name: str
    words: str
    uri: str | None
    has_mask: bool


@dataclass(frozen=True, slots=True)
class _Shown:
    """A finding with as many of its pictures as are shown."""

    text: str
    pictures: tuple[_Picture, ...]
    more: int


@dataclass(frozen=True, slots=True)
class _Section:
    """All findings of one kind and severity."""

    title: str
    anchor: str
    severity: str
    count: int
    pictures: int
    shown: tuple[_Shown, ...]

    @property
    def is_narrow(self) -> bool:
        """Whether several findings fit beside each other."""
        return all(len(each.pictures) == 1 for each in self.shown)


def write_page(report: DataReport, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    write_whole(path, render(report).encode())


def render(report: DataReport) -> str:
    """The page as HTML text; pictures are read again for what is shown."""
    grouped = groupby(report.findings, key=lambda each: (each.severity, each.kind))
    sections = [_section(report, list(findings)) for _, findings in grouped]
    return render_page(
        read_resource("ssn_edge.data_check", "page.html.jinja"),
        style=read_resource("ssn_edge.data_check", "page.css"),
        filters={},
        context={
            "title": report.root.resolve().name,
            "summary": report.summary,
            "totals": [
                (severity.value, len(report.of(severity)), _WORDS[severity])
                for severity in Severity
            ],
            "sections": sections,
        },
    )


def _section(report: DataReport, findings: Sequence[Finding]) -> _Section:
    kind, severity = findings[0].kind, findings[0].severity
    return _Section(
        title=TITLES[kind],
        anchor=f"{severity.value}-{kind.value}",
        severity=severity.value,
        count=len(findings),
        pictures=len({file for finding in findings for file in finding.files}),
        shown=tuple(_shown(report, each) for each in findings[:MOST_FINDINGS]),
    )


def _shown(report: DataReport, finding: Finding) -> _Shown:
    pictures = tuple(
        _picture(report, file, with_mask=finding.shows_masks)
        for file in finding.files[:MOST_PICTURES]
    )
    return _Shown(finding.text, pictures, len(finding.files) - len(pictures))


def _picture(report: DataReport, file: Path, *, with_mask: bool) -> _Picture:
    """A thumbnail, with the outline of its mask where that helps and can be drawn."""
    item = report.items.get(file)
    words = "" if item is None else _words(item)
    name = report.name_of(file)
    try:
        picture = read_picture(file)
    except PictureError:
        return _Picture(name, words, None, False)
    panel = picture_panel(picture)
    has_mask = False
    if with_mask and item is not None and item.mask is not None:
        try:
            size_hw = (picture.shape[0], picture.shape[1])
            mask = read_mask(item.mask, MaskRule(report.mask_above, "of the report"), size_hw)
            panel = outline_panel(panel, mask, TRUTH_RGB)
            has_mask = bool(mask.any())
        except PictureError:
            pass  # a finding of its own says so; the picture alone is shown
    return _Picture(name, words, data_uri(panel), has_mask)


def _words(item: Item) -> str:
    """Part, label and group of a picture."""
    label = (item.defect_class or "anomalous") if item.is_anomalous else "normal"
    words = [word for word in (item.split, label) if word]
    return ", ".join([*words, f"group {item.group}"] if item.group else words)
