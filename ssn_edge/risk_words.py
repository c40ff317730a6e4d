"""What thresholds promise, in words: the same ones in a terminal, a report and a package."""

from __future__ import annotations

from ssn_edge_calibrate.percents import at_least, at_most
from ssn_edge_calibrate.thresholds import smallest_share
from ssn_edge_runtime.manifest import Caught, Risk


def risk_words(risk: Risk) -> str:
    """What is promised of good parts, how surely, and from how many."""
    share, good = at_most(risk.max_false_reject), f"{risk.normals} held-out good parts"
    if risk.supported:
        return f"at most {share} of good parts do not pass, {_sure(risk.confidence)}, from {good}"
    can = at_most(smallest_share(risk.normals, risk.confidence)) if risk.normals else "nothing"
    return (
        f"no promise: {good} are too few for at most {share} of good parts that do not pass, "
        f"{_sure(risk.confidence)}; so many carry {can}"
    )


def caught_words(caught: Caught) -> str:
    """The same of defects."""
    return (
        f"at least {at_least(caught.min_caught)} of defects do not pass, "
        f"{_sure(caught.confidence)}, from {caught.defects} held-out defects"
    )


def promise_lines(risk: Risk | None, caught: Caught | None) -> tuple[str, ...]:
    """Both sides, a line each; one that says so where nothing is promised."""
    said = [
        *([] if risk is None else [risk_words(risk)]),
        *([] if caught is None else [caught_words(caught)]),
    ]
    return tuple(said) or ("nothing: set by hand",)


def _sure(confidence: float | None) -> str:
    """How surely; without a confidence a promise holds on average over such calibrations."""
    if confidence is None:
        return "on average over such calibrations"
    return f"at {100 * confidence:.4g} % confidence"
