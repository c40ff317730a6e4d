"""What a report found, in sentences for who decides and measures nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ssn_edge.evaluation.reliability import Trend
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.report_texts import percent_text, share_text
from ssn_edge_calibrate.intervals import Rate
from ssn_edge_calibrate.percents import at_least, at_most

_FEWEST_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Sentence:
    """One finding.

    Args:
        text: For people.
        is_warning: Whether somebody should do something about it.
    """

    text: str
    is_warning: bool = False


def plain_words(report: Report) -> tuple[Sentence, ...]:
    """The findings, the most important ones first; empty where nothing was measured."""
    measured = report.uncertainty
    if measured is None:
        return ()
    said = [
        *_rate("defective parts", "is found", "are found", measured.found),
        *_rate("good parts", "is rejected", "are rejected", measured.rejected),
        *_promise(report, measured.rejected),
        *_caught(report, measured.found),
        *_hardest(report),
        *_small_defects(report),
    ]
    if report.reliability is not None:
        said.append(_drift(report.reliability.brightness, "brightness", "brighter", "darker"))
        said.append(_drift(report.reliability.order, "time", "later", "earlier"))
    if measured.groups is not None:
        said.append(
            Sentence(
                f"The pictures show {measured.groups} groups of parts that belong together. "
                "Pictures of one group agree with each other, so the ranges here are wider than "
                "for as many single parts."
            )
        )
    return tuple(said)


def _rate(of: str, one: str, many: str, rate: Rate) -> list[Sentence]:
    if rate.share is None:
        return [Sentence(f"Nothing is known of {of}: there was no picture of one.", True)]
    per_hundred = round(100 * rate.share)
    about = "about " if 0 < rate.hits < rate.count else ""
    return [
        Sentence(
            f"Of 100 {of} {about}{per_hundred} {one if per_hundred == 1 else many}; "
            f"these {rate.count} pictures allow {percent_text(rate.interval)}."
        )
    ]


def _promise(report: Report, rejected: Rate) -> list[Sentence]:
    if report.risk is None or rejected.interval is None:
        return []
    promised, sure = report.risk.max_false_reject, report.risk.confidence
    wanted = f"at most {at_most(promised)} of the good parts rejected"
    if sure is not None:
        wanted += f", at {100 * sure:.4g} % confidence"
    if rejected.interval.low > promised:
        return [Sentence(f"The threshold was fitted for {wanted}; these pictures show more.", True)]
    if not report.risk.supported:
        return [
            Sentence(
                f"The threshold was fitted for {wanted}, on too few pictures to promise it.", True
            )
        ]
    if rejected.interval.high <= promised:
        return [Sentence(f"The threshold was fitted for {wanted}; these pictures confirm it.")]
    return [
        Sentence(f"The threshold was fitted for {wanted}; these pictures do not contradict it.")
    ]


def _caught(report: Report, found: Rate) -> list[Sentence]:
    caught = None if report.settings is None else report.settings.caught
    # A defect without a judgement does not pass either, but is none that was found.
    if caught is None or found.interval is None or report.anomalous.unknown:
        return []
    wanted = (
        f"at least {at_least(caught.min_caught)} of the defects caught, at "
        f"{100 * caught.confidence:.4g} % confidence"
    )
    if found.interval.high < caught.min_caught:
        return [Sentence(f"The threshold was fitted for {wanted}; these pictures show less.", True)]
    seen = "confirm it" if found.interval.low >= caught.min_caught else "do not contradict it"
    return [Sentence(f"The threshold was fitted for {wanted}; these pictures {seen}.")]


def _hardest(report: Report) -> list[Sentence]:
    classes = [each for each in report.defect_classes if each.pictures]
    if len(classes) < _FEWEST_CLASSES:
        return []
    worst = min(classes, key=lambda each: (each.found / each.pictures, each.name))
    if worst.found == worst.pictures:
        return [Sentence("Every kind of defect was found on every picture.")]
    found = share_text(worst.found, worst.pictures)
    return [
        Sentence(
            f"The hardest kind of defect is {worst.name}: {worst.found} of {worst.pictures} "
            f"pictures are found ({found}).",
            worst.found < worst.pictures / 2,
        )
    ]


def _small_defects(report: Report) -> list[Sentence]:
    if report.regions is None or len(report.regions.sizes) < _FEWEST_CLASSES:
        return []
    smallest = report.regions.sizes[0]
    found = share_text(smallest.found.hits, smallest.found.count)
    return [
        Sentence(
            f"Of the smallest defects, below {smallest.below_side:g} pixels of the network's "
            f"input, the map finds {smallest.found.hits} of {smallest.found.count} ({found})."
        )
    ]


def _drift(trend: Trend, what: str, more: str, less: str) -> Sentence:
    found = trend.correlation
    if found is None:
        return Sentence(f"Too few or too similar good parts to see a drift with {what}.")
    if not found.is_drift:
        return Sentence(f"The scores of good parts show no drift with {what}.")
    higher = more if found.value > 0 else less
    return Sentence(
        f"The scores of good parts drift with {what}: {higher} ones score higher (rank correlation "
        f"{found.value:+.2f}). Look at the drawing below before you trust the threshold.",
        True,
    )
