"""What the doctor says: a finding for each thing that was looked at, with the fix."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from enum import Enum

from ssn_edge_runtime.doctor.facts import Facts

REPORT_SCHEMA = 1


class Level(str, Enum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, or not known here."""
    WARNING = "warning"
    """The line runs, but slower, for less long, or with something that will fail one day."""
    PROBLEM = "problem"
    """The line cannot run, or cannot run as it was asked to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        area: What was looked at, such as ``TensorRT``.
        level: How bad it is.
        found: What was found.
        wanted: What is wanted in its place; empty where nothing else is.
        fix: Commands to enter, or else a sentence, in order; empty where nothing is to be done.
    """

    area: str
    level: Level
    found: str
    wanted: str = ""
    fix: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "level": self.level.value, "fix": list(self.fix)}

    def lines(self) -> list[str]:
        """For a terminal."""
        wanted = f"; wanted: {self.wanted}" if self.wanted else ""
        lines = [f"{self.level.value:<8} {self.area:<17} {self.found}{wanted}"]
        return lines + [f"{'':<8} {'':<17}   {each}" for each in self.fix]


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, and what they were made of."""

    findings: tuple[Finding, ...]
    facts: Facts

    @property
    def can_run(self) -> bool:
        """Whether nothing was found that makes running impossible."""
        return all(each.level is not Level.PROBLEM for each in self.findings)

    def to_dict(self) -> dict[str, object]:
        """For JSON: the findings, and the facts beside them."""
        return {
            "schema": REPORT_SCHEMA,
            "can_run": self.can_run,
            "findings": [each.to_dict() for each in self.findings],
            "facts": self.facts.to_dict(),
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        counts = Counter(each.level for each in self.findings)
        told = ", ".join(f"{counts[level]} {level.value}" for level in Level)
        end = "the line can run here" if self.can_run else "the line cannot run here as it is"
        return [line for each in self.findings for line in each.lines()] + ["", f"{told}: {end}"]
