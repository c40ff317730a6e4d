"""Zones between the engine's worker and the authority: what each answer is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.judged_zones import JudgedZone
from ssn_edge_runtime.line.messages import Message, MessageError


@dataclass(frozen=True, slots=True)
class ZoneLimits:
    """Image threshold and minimum area of each zone.

    Args:
        thresholds: By zone.
        min_areas_px: By zone; None for none.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_areas_px: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, message: Message) -> ZoneLimits:
        """Read them from the worker's word; a worker without zones need not name any.

        Raises:
            MessageError: They are none.
        """
        told = message.raw("zones")
        if told is None:
            return cls()
        if not isinstance(told, dict):
            raise MessageError("zones is no object")
        zones = Message(told)
        thresholds: dict[str, float] = {}
        areas: dict[str, float | None] = {}
        for name in told:
            zone = zones.inner(name)
            threshold = zone.number("threshold")
            if threshold is None:
                raise MessageError(f"zone {name!r} has no threshold")
            thresholds[name], areas[name] = threshold, zone.number("min_area_px")
        return cls(thresholds, areas)

    def complaint(
        self, decision: Decision, threshold: float | None, min_area_px: float | None
    ) -> str | None:
        """Why an answer is not one by the thresholds in force; None where it is.

        Which zones a defect touches cannot be seen from here: that it is held to a minimum area in
        force is, and that a pass lies below it.

        Args:
            decision: The engine's; it holds together.
            threshold: The general image threshold; None where none is known.
            min_area_px: The general minimum area; None for none.
        """
        if decision.zone is not None:
            if decision.zone not in self.thresholds:
                return "the engine judged by a zone that is not in force"
            threshold = self.thresholds[decision.zone]
        if None not in (threshold, decision.threshold) and threshold != decision.threshold:
            return "the engine used another threshold than the one in force"
        areas = {min_area_px, *self.min_areas_px.values()} if self.thresholds else {None}
        if any(defect.min_area_px not in areas for defect in decision.defects):
            return "the engine used another minimum area than those in force"
        if decision.verdict is not Verdict.PASS:
            return None
        for defect in decision.defects:
            least = defect.min_area_px if self.thresholds else min_area_px
            if least is not None and defect.area_px >= least:
                return "the engine passed a defect above the minimum area"
        return None


def zones_told(zones: Mapping[str, JudgedZone]) -> dict[str, object]:
    """Zones for a message."""
    return {
        name: {"threshold": zone.image, "min_area_px": zone.min_area_px}
        for name, zone in zones.items()
    }
