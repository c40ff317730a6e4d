"""A calibration for a terminal, for JSON, and in one line for the settings."""

from __future__ import annotations

from ssn_edge.calibration.calibrate import Calibration
from ssn_edge_calibrate.operating_point import Bound, Kind, wrong_at
from ssn_edge_calibrate.percents import at_least, at_most
from ssn_edge_calibrate.risk_bounds import share_beyond, wanted_count

_SAID = {
    Kind.FALSE_REJECTS: "at most {wrong} of good parts do not pass",
    Kind.FALSE_FAILS: "at most {wrong} of good parts are rejected without review",
    Kind.MISSES: "at least {right} of defects are caught",
    Kind.UNSURE: "at least {right} of defects are rejected without review",
    Kind.MARKED: "at most {wrong} of good parts have a marked pixel",
}
"""What a bound says. Shares are rounded to the side that promises less."""


def calibration_lines(done: Calibration, store_path: str) -> list[str]:
    """What was found, in a few lines."""
    chosen, held_out = done.chosen, done.held_out
    thresholds, point, sample = chosen.thresholds, chosen.point, chosen.sample
    area = "none" if thresholds.min_area_px is None else f"{thresholds.min_area_px:.4g} px"
    lines = [
        f"image threshold {thresholds.image:.6g}, pixel threshold {thresholds.pixel:.6g}, "
        f"minimum area {area}"
    ]
    if point.review is not None:
        lines.append(f"review from {point.review[0]:.6g} to {point.review[1]:.6g}")
    confidence = f"{100 * done.confidence:.4g} %"
    if point.bounds:
        together = "" if len(point.bounds) == 1 else ", all together"
        lines.append(f"at {confidence} confidence{together} ({chosen.origin}):")
        lines += [f"  {_said(bound)} (here {_seen(bound, sample.unit)})" for bound in point.bounds]
    else:
        lines.append(f"no bound: {chosen.origin}")
    if sample.defects.size and all(bound.kind.is_of_good_parts for bound in point.bounds):
        count, missed = wrong_at(sample, Kind.MISSES, thresholds.image)
        lines.append(
            f"  {count - missed} of {count} defects here are caught; that promises nothing"
        )
    counted = ", each by itself"
    if held_out.grouping is not None:
        counted = f", by {held_out.grouping}; a group counts by its worst picture"
    lines.append(
        f"from {sample.good.size} {sample.unit} of good parts and {sample.defects.size} of "
        f"defects{counted}, judged by {done.precision} on {done.engine}"
    )
    lines += [f"  tighter: {text}" for text in map(_tighter, point.bounds) if text]
    lines.append(
        "It holds for parts that come like these and independently of one another"
        + (
            "; if some show the same part, name groups: --group."
            if held_out.grouping is None
            else "."
        )
        + " Faults of camera and line come on top."
    )
    lines += done.notes
    if done.settings is None:
        lines.append("nothing was written (--dry-run)")
    else:
        lines.append(
            f"written: {store_path}, version {done.settings.version}"
            + ("" if done.recipe is None else f", recipe {done.recipe}")
        )
    return lines


def calibration_document(done: Calibration, store_path: str) -> dict[str, object]:
    """The same for JSON."""
    chosen = done.chosen
    thresholds, sample, settings = chosen.thresholds, chosen.sample, done.settings
    return {
        "thresholds": {
            "image": thresholds.image,
            "pixel": thresholds.pixel,
            "min_area_px": thresholds.min_area_px,
            "review": None if chosen.point.review is None else list(chosen.point.review),
        },
        "confidence": done.confidence,
        "bounds_from": chosen.origin,
        "bounds": [_bound_document(bound) for bound in chosen.point.bounds],
        "counted": sample.unit,
        "good": sample.good.size,
        "defects": sample.defects.size,
        "pictures": len(done.held_out.items),
        "grouped_by": done.held_out.grouping,
        "notes": list(done.notes),
        "package_id": done.package_id,
        "precision": done.precision,
        "engine": done.engine,
        "engine_sha256": done.engine_sha256,
        "recipe": done.recipe,
        "settings": None
        if settings is None
        else {
            "path": store_path,
            "version": settings.version,
            "settings_id": settings.settings_id,
        },
    }


def note_of(done: Calibration) -> str:
    """One line for the settings: what holds, at what confidence, from how many."""
    sample = done.chosen.sample
    said = "; ".join(_said(bound) for bound in done.chosen.point.bounds) or "nothing is promised"
    return (
        f"calibrated: {said}; {100 * done.confidence:.4g} % confidence, {sample.good.size} good "
        f"and {sample.defects.size} defective {sample.unit}"
    )


def _bound_document(bound: Bound) -> dict[str, object]:
    return {
        "of": bound.kind.value,
        "at_most": bound.share,
        "promised": bound.is_promised,
        "count": bound.count,
        "seen": bound.wrong,
        "confidence": float(1 - bound.error),
        "smallest_for_this_count": share_beyond(0, bound.count, bound.error),
        "count_for_half": _wanted_for_half(bound),
    }


def _said(bound: Bound) -> str:
    return _SAID[bound.kind].format(wrong=at_most(bound.share), right=at_least(1 - bound.share))


def _seen(bound: Bound, unit: str) -> str:
    right = bound.count - bound.wrong
    if bound.kind in (Kind.MISSES, Kind.UNSURE):
        return f"{right} of {bound.count} {unit}"
    return f"{bound.wrong} of {bound.count} {unit}"


def _tighter(bound: Bound) -> str:
    """What half of the share would need."""
    wanted = _wanted_for_half(bound)
    if not bound.is_promised or wanted is None:
        return ""
    half = Bound(bound.kind, bound.share / 2, bound.count, 0, bound.error)
    kind = "good parts" if bound.kind.is_of_good_parts else "defects"
    return f"{_said(half)}, from {wanted} {kind} if all of them are judged right"


def _wanted_for_half(bound: Bound) -> int | None:
    return wanted_count(bound.share / 2, bound.error) if 0 < bound.share < 1 else None
