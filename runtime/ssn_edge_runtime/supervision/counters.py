"""Counters: parts by verdict and reason, for each shift and recipe; and the rate of rejects."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.supervision.shifts import Shift, ShiftCalendar

SHIFTS_KEPT = 12
_BUCKETS = 60


@dataclass(slots=True)
class Counts:
    """What came of the parts of one shift and recipe.

    Args:
        verdicts: Parts by verdict.
        reasons: Parts that did not pass, by reason.
    """

    verdicts: Counter[str] = field(default_factory=lambda: Counter({v.value: 0 for v in Verdict}))
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def parts(self) -> int:
        """All of them."""
        return sum(self.verdicts.values())

    @property
    def reject_rate(self) -> float | None:
        """Share that did not pass; None without any part."""
        parts = self.parts
        return (parts - self.verdicts[Verdict.PASS.value]) / parts if parts else None

    def add(self, verdict: str, reason: str) -> None:
        """Count a part."""
        self.verdicts[verdict] += 1
        if verdict != Verdict.PASS.value:
            self.reasons[reason] += 1

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "parts": self.parts,
            "verdicts": dict(self.verdicts),
            "reasons": dict(sorted(self.reasons.items())),
            "reject_rate": self.reject_rate,
        }


class ShiftCounters:
    """Counts for each shift and recipe; the newest `SHIFTS_KEPT` shifts are kept.

    A part belongs to the shift of its `decided_at`. Not for use by several threads.

    Args:
        calendar: When shifts begin.
    """

    def __init__(self, calendar: ShiftCalendar) -> None:
        self._calendar = calendar
        self._counts: dict[Shift, dict[str, Counts]] = {}
        self._shift: Shift | None = None

    def add(self, decided_at: datetime, verdict: str, reason: str, recipe: str | None) -> Shift:
        """Count a part; returns its shift."""
        shift = self._shift
        if shift is None or not shift.begins_at <= decided_at < shift.ends_at:
            shift = self._shift = self._calendar.shift_of(decided_at)
            self._counts.setdefault(shift, {})
            while len(self._counts) > SHIFTS_KEPT:
                del self._counts[min(each for each in self._counts if each != shift)]
        self._counts[shift].setdefault(recipe or "", Counts()).add(verdict, reason)
        return shift

    def rebuild(self, documents: Iterable[Mapping[str, object]]) -> int:
        """Count the verdict lines of a journal, in any order; other lines are passed over.

        Args:
            documents: Lines as JSON objects.

        Returns:
            How many were counted.
        """
        count = 0
        for document in documents:
            part = _part(document)
            if part is not None:
                self.add(*part)
                count += 1
        return count

    def of(self, shift: Shift) -> Mapping[str, Counts]:
        """Counts of a shift by recipe; the empty name is no recipe."""
        return self._counts.get(shift, {})

    def to_list(self) -> list[dict[str, object]]:
        """For JSON: one object for each shift and recipe, oldest first."""
        return [
            {"shift": shift.name, "recipe": recipe or None, **counts.to_dict()}
            for shift in sorted(self._counts)
            for recipe, counts in sorted(self._counts[shift].items())
        ]


def _part(document: Mapping[str, object]) -> tuple[datetime, str, str, str | None] | None:
    """When, verdict, reason and recipe of a verdict line; None for any other line."""
    if document.get("kind") != "verdict":
        return None
    decided_at, verdict, reason = (document.get(key) for key in ("decided_at", "verdict", "reason"))
    recipe = document.get("recipe")
    if not isinstance(decided_at, str) or not isinstance(verdict, str):
        return None
    try:
        moment = datetime.fromisoformat(decided_at.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment, verdict, str(reason), recipe if isinstance(recipe, str) else None


class RejectRate:
    """Share of rejects over the last stretch of time, in memory that does not grow.

    Parts are gathered in sixtieths of the window, so that what is counted reaches back by at least
    the window less a sixtieth, and at most the window.

    Args:
        window_s: How far it looks back, in seconds.
    """

    def __init__(self, window_s: float) -> None:
        if not window_s > 0:
            raise ConfigError(f"a window of {window_s} s; a time above 0 is wanted")
        self._bucket_s = window_s / _BUCKETS
        self._buckets: deque[list[int]] = deque()  # number of the bucket, parts, rejects
        self._parts = self._rejects = 0

    def add(self, is_reject: bool, at_s: float) -> None:
        """Count a part.

        Args:
            is_reject: Whether it did not pass.
            at_s: A monotonic clock, in seconds.
        """
        number = self._forget(at_s)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += is_reject
        self._parts += 1
        self._rejects += is_reject

    def parts(self, now_s: float) -> int:
        """Parts within the window."""
        self._forget(now_s)
        return self._parts

    def rate(self, now_s: float) -> float | None:
        """Share of rejects within the window; None without any part."""
        self._forget(now_s)
        return self._rejects / self._parts if self._parts else None

    def _forget(self, now_s: float) -> int:
        number = int(now_s // self._bucket_s)
        if self._buckets:
            number = max(number, self._buckets[-1][0])
        while self._buckets and self._buckets[0][0] <= number - _BUCKETS:
            _, parts, rejects = self._buckets.popleft()
            self._parts -= parts
            self._rejects -= rejects
        return number
