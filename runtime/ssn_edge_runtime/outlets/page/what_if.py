"""What the last parts would have been with another threshold: by their scores alone."""

from __future__ import annotations

from collections.abc import Sequence

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.outlets.page.log_watch import Scored

BINS = 48


def what_if(parts: Sequence[Scored], threshold: float) -> dict[str, object]:
    """Count the last parts again, each by its score against a threshold.

    Only what a score decides moves: a part that is unknown stays so, and so does one that failed
    though its score was below its threshold (by the size of a defect). A part that failed by its
    score may have failed by size, too: what this says of passes is at best what comes.

    Args:
        parts: Oldest first.
        threshold: The logit that `raw_score` is held against; at it, a part fails.
    """
    counts = {"pass": 0, "fail": 0, "unknown": 0}
    was = {"pass": 0, "fail": 0, "unknown": 0}
    to_fail = to_pass = 0
    for part in parts:
        before = part.verdict
        after = before if part.raw_score is None else _verdict_at(part, part.raw_score, threshold)
        was[before] = was.get(before, 0) + 1
        counts[after] = counts.get(after, 0) + 1
        to_fail += before == "pass" and after == "fail"
        to_pass += before == "fail" and after == "pass"
    return {
        "threshold": threshold,
        "parts": len(parts),
        "was": was,
        "would_be": counts,
        "pass_to_fail": to_fail,
        "fail_to_pass": to_pass,
    }


def histogram(parts: Sequence[Scored]) -> dict[str, object]:
    """The scores of the last parts in equal bins: lower end, width, and counts by verdict."""
    scored = [(part.raw_score, part.verdict) for part in parts if part.raw_score is not None]
    thresholds = [part.threshold for part in parts if part.threshold is not None]
    ends = [score for score, _ in scored] + thresholds[-1:]
    if not ends:
        return {"low": 0.0, "width": 0.0, "parts": 0, "pass": [], "reject": []}
    margin = 0.05 * (max(ends) - min(ends)) or 0.5
    low, high = min(ends) - margin, max(ends) + margin
    width = (high - low) / BINS
    passes, rejects = [0] * BINS, [0] * BINS
    for score, verdict in scored:
        bins = passes if verdict == Verdict.PASS.value else rejects
        bins[min(BINS - 1, int((score - low) / width))] += 1
    return {"low": low, "width": width, "parts": len(scored), "pass": passes, "reject": rejects}


def _verdict_at(part: Scored, raw_score: float, threshold: float) -> str:
    if part.verdict not in (Verdict.PASS.value, Verdict.FAIL.value):
        return part.verdict
    failed_otherwise = (
        part.verdict == Verdict.FAIL.value
        and part.threshold is not None
        and raw_score < part.threshold
    )
    is_fail = failed_otherwise or raw_score >= threshold
    return Verdict.FAIL.value if is_fail else Verdict.PASS.value
