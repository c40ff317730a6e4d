"""What a look at a data set finds: findings by severity, and the report that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ssn_edge.data.items import Item

SCHEMA = 1
"""Of the JSON document; rises when a name in it changes its meaning."""


class Severity(Enum):
    """How much a finding matters, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Kind(Enum):
    """What is wrong, in the order in which it should be mended."""

    LISTING = "listing"
    UNREADABLE = "unreadable"
    LEAK = "leak"
    TORN_GROUP = "torn_group"
    LOOK_ALIKE = "look_alike"
    LABEL = "label"
    NORMAL_WITH_MASK = "normal_with_mask"
    MASK_SIZE = "mask_size"
    SHARED_MASK = "shared_mask"
    LARGE_MASK = "large_mask"
    MASK_VALUES = "mask_values"
    EMPTY_MASK = "empty_mask"
    COPY = "copy"
    SIZE = "size"
    COLOUR = "colour"
    EXPOSURE = "exposure"
    TOO_FEW = "too_few"


TITLES: Mapping[Kind, str] = {
    Kind.LISTING: "The data set cannot be read as a whole",
    Kind.UNREADABLE: "Files that cannot be read",
    Kind.LEAK: "Copies in train and test",
    Kind.TORN_GROUP: "Groups in train and test",
    Kind.LOOK_ALIKE: "Look-alikes in train and test",
    Kind.LABEL: "One picture, two labels",
    Kind.NORMAL_WITH_MASK: "Normal pictures with a marked defect",
    Kind.MASK_SIZE: "Masks of another size than their picture",
    Kind.SHARED_MASK: "One mask for several pictures",
    Kind.LARGE_MASK: "Masks over most of the picture",
    Kind.MASK_VALUES: "Masks that can be read in two ways",
    Kind.EMPTY_MASK: "Defective pictures with an empty mask",
    Kind.COPY: "Copies within a part",
    Kind.SIZE: "Odd sizes",
    Kind.COLOUR: "Grey and colour mixed",
    Kind.EXPOSURE: "Odd exposure, contrast or sharpness",
    Kind.TOO_FEW: "Too few pictures",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know, or mend.

    Args:
        kind: What it is.
        severity: How much it matters.
        text: What was found and what to do, without the names of the files.
        files: The pictures concerned, the foremost first; none for the data set as a whole.
        shows_masks: Whether a look at the masks helps.
    """

    kind: Kind
    severity: Severity
    text: str
    files: tuple[Path, ...] = ()
    shows_masks: bool = False


@dataclass(frozen=True, slots=True)
class DataReport:
    """All that was found.

    Args:
        root: Folder that names are relative to.
        summary: One line: layout and counts.
        findings: Sorted: the worst first, then by kind and name.
        items: Every listed picture by its file; empty if the data set could not be listed.
        mask_above: Mask values above this one count as defects.
    """

    root: Path
    summary: str
    findings: tuple[Finding, ...]
    items: Mapping[Path, Item] = field(default_factory=dict)
    mask_above: int = 0

    @property
    def has_errors(self) -> bool:
        """Whether anything must be mended before training."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def count(self, kind: Kind) -> int:
        """How many findings there are of a kind."""
        return sum(finding.kind is kind for finding in self.findings)

    def name_of(self, file: Path) -> str:
        """A file's name relative to the root, with forward slashes."""
        return (
            file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name
        )

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        counts = Counter(finding.severity for finding in self.findings)
        return {
            "schema": SCHEMA,
            "data": str(self.root),
            "summary": self.summary,
            "counts": {severity.value: counts[severity] for severity in Severity},
            "findings": [
                {
                    "severity": finding.severity.value,
                    "kind": finding.kind.value,
                    "text": finding.text,
                    "pictures": [self.name_of(file) for file in finding.files],
                }
                for finding in self.findings
            ],
        }


def size_text(size_hw: tuple[int, int]) -> str:
    """A size as people say it: width first."""
    return f"{size_hw[1]} x {size_hw[0]}"


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by kind, then in the order in which they were found."""
    severities, kinds = list(Severity), list(Kind)
    return tuple(
        sorted(findings, key=lambda each: (severities.index(each.severity), kinds.index(each.kind)))
    )
