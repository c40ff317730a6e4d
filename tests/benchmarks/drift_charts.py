"""Control charts beside each other: false alarms by size of the reference and by distribution.

Usage: python tests/benchmarks/drift_charts.py [--streams 400] [--every 2000] [--parts 200]

Every chart states the same rate, one false alarm in `--every` parts, and takes the same reference
parts. The first table has how many streams of `--parts` parts without a change alarmed, over how
many the stated rate allows (1.00 is what is stated; above it the promise is broken). The second has
after how many parts a shift of the normal stream is found, in the median.

plain      CUSUM (k = 0.5) of scores standardised by the reference's mean and deviation, as if true
widened    the same, k widened by two standard errors of the reference's mean
starting   self-starting CUSUM (Hawkins 1987): the deviations of all parts so far, as normal scores
ranks      CUSUM of normal scores of ranks within the reference, which stays as it is
urn        what the line runs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.supervision.drift_chart import DriftChart

Values = npt.NDArray[np.float64]
REFERENCES = (50, 100, 256, 1000)
SHIFTS = (0.75, 1.0, 1.5, 2.2, 3.0)
NORMAL = NormalDist()
ALLOWANCE = 0.5

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Values]] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "t, 3 degrees": lambda random, shape: random.standard_t(3, size=shape) / math.sqrt(3),
    "log-normal": lambda random, shape: (np.exp(random.normal(size=shape)) - 1.649) / 2.161,
    "ties": lambda random, shape: np.round(random.normal(size=shape) * 2) / 2,
    "two levels": lambda random, shape: (random.random(shape) < 0.1).astype(np.float64),
}


def cusum_limit(every: float, allowance: float = ALLOWANCE) -> float:
    """Limit of a two-sided CUSUM of independent N(0, 1) values, by Siegmund's formula."""

    def run_length(limit: float) -> float:
        reach = 2 * allowance * (limit + 1.166)
        return (math.exp(reach) - reach - 1) / (2 * allowance**2)

    low, high = 0.1, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if run_length(middle) < 2 * every else (low, middle)
    return high


def _cusum(scores: Values, limit: float, allowance: Values | float = ALLOWANCE) -> Values:
    """After how many parts each stream alarms; infinite for never. Scores: (streams, parts)."""
    up, down = np.zeros(len(scores)), np.zeros(len(scores))
    first = np.full(len(scores), np.inf)
    for index in range(scores.shape[1]):
        up = np.maximum(0, up + scores[:, index] - allowance)
        down = np.maximum(0, down - scores[:, index] - allowance)
        is_over = (np.maximum(up, down) >= limit) & np.isinf(first)
        first[is_over] = index + 1
    return first


def plain(reference: Values, parts: Values, every: float) -> Values:
    """The reference's mean and deviation, taken for the true ones."""
    return _cusum(_standardised(reference, parts), cusum_limit(every))


def widened(reference: Values, parts: Values, every: float) -> Values:
    """An allowance for the error of the reference's mean."""
    wider = ALLOWANCE + 2 / math.sqrt(reference.shape[1])
    return _cusum(_standardised(reference, parts), cusum_limit(every), wider)


def starting(reference: Values, parts: Values, every: float) -> Values:
    """Each part against all before it."""
    from scipy.stats import norm, t

    count = reference.shape[1]
    total, squares = reference.sum(1), ((reference - reference.mean(1, keepdims=True)) ** 2).sum(1)
    mean = total / count
    scores = np.empty_like(parts)
    for index in range(parts.shape[1]):
        value = parts[:, index]
        deviation = np.sqrt(np.maximum(squares / (count - 1), 1e-12))
        ratio = math.sqrt(count / (count + 1)) * (value - mean) / deviation
        scores[:, index] = np.clip(norm.ppf(t.cdf(ratio, count - 1)), -8, 8)
        count += 1
        before, mean = mean, mean + (value - mean) / count
        squares = squares + (value - before) * (value - mean)
    return _cusum(scores, cusum_limit(every))


def ranks(reference: Values, parts: Values, every: float) -> Values:
    """Ranks within a reference that stays as it is; equal values get the middle of their ranks."""
    count = reference.shape[1]
    scores = np.empty_like(parts)
    table = np.array([NORMAL.inv_cdf((rank + 0.5) / (count + 1)) for rank in range(count + 1)])
    for index, row in enumerate(np.sort(reference)):
        low, high = (np.searchsorted(row, parts[index], side) for side in ("left", "right"))
        scores[index] = table[(low + high) // 2]
    return _cusum(scores, cusum_limit(every))


def urn(reference: Values, parts: Values, every: float) -> Values:
    """The line's own."""
    first = np.full(len(parts), np.inf)
    for index, (learnt, row) in enumerate(zip(reference, parts, strict=True)):
        chart = DriftChart(every, reference_parts=len(learnt), seed=index)
        for value in learnt.tolist():
            chart.add(value, 0)
        for number, value in enumerate(row.tolist(), start=1):
            if chart.add(value, number) is not None:
                first[index] = number
                break
    return first


CHARTS = (plain, widened, starting, ranks, urn)


def _standardised(reference: Values, parts: Values) -> Values:
    deviation = reference.std(1, ddof=1, keepdims=True)
    scores: Values = (parts - reference.mean(1, keepdims=True)) / np.maximum(deviation, 1e-12)
    return scores


def dependent(random: np.random.Generator, likeness: float, count: int) -> Values:
    """Values whose neighbours correlate by `likeness`, each N(0, 1)."""
    steps = random.normal(size=count) * math.sqrt(1 - likeness**2)
    steps[0] = random.normal()
    for index in range(1, count):
        steps[index] += likeness * steps[index - 1]
    return steps


def watched(values: Values, every: float, parts: int, seed: int) -> tuple[int, bool, int]:
    """The line's chart until so many parts after its learning: learnt after, alarmed, stride."""
    chart = DriftChart(every, seed=seed)
    learnt = 0
    for number, value in enumerate(values.tolist()):
        if not chart.is_watching:
            learnt = number + 1
        if number >= learnt + parts or chart.add(value, number) is not None:
            break
    return learnt, chart.found is not None, chart.stride


def neighbours(streams: int, every: float, parts: int) -> None:
    """Print what parts do to the chart that resemble the part before."""
    print(f"\nparts that resemble the one before: {streams} streams, {parts} parts watched")
    print("likeness  alarms over allowed  learnt after (median)  stride (median)")
    for likeness in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98):
        rows = [
            watched(
                dependent(np.random.default_rng(seed), likeness, 4000 + parts), every, parts, seed
            )
            for seed in range(streams)
        ]
        learnt, alarmed, strides = (np.array(each) for each in zip(*rows, strict=True))
        rate = alarmed.sum() / (streams * parts / every)
        print(f"{likeness:<9} {rate:>19.2f} {np.median(learnt):>22.0f} {np.median(strides):>16.0f}")


def slow(streams: int, every: float) -> None:
    """Print how far a slow drift has come when it is found."""
    print(f"\na drift of one deviation in so many parts, one false alarm in {every:g}: deviations")
    print("when it is found (median / slowest), begun with the watch, or 5000 parts later")
    for span in (500, 2000, 10_000, 50_000):
        texts = []
        for later in (0, 5000):
            found = []
            for seed in range(streams):
                count = 256 + later + 4 * span
                ramp = np.maximum(0, np.arange(count) - 256 - later) / span
                values = np.random.default_rng(seed).normal(size=count) + ramp
                chart = DriftChart(every, seed=seed)
                at = math.inf
                for number, value in enumerate(values.tolist()):
                    if chart.add(value, number) is not None:
                        at = ramp[number]
                        break
                found.append(at)
            texts.append(f"{np.median(found):.2f} / {max(found):.2f}")
        print(f"{span:>8}   {texts[0]:>16} {texts[1]:>16}", flush=True)


def later(streams: int, every: float) -> None:
    """Print after how many parts the line's chart finds a shift that came later."""
    print(
        f"\nthe line's chart, {streams} normal streams, one false alarm in {every:g}: parts until"
    )
    print("a shift is found (median / 95 % / slowest / how many later than 200)")
    for before in (500, 1000, 2000):
        for shift in SHIFTS[1:]:
            found = []
            for seed in range(streams):
                values = np.random.default_rng(seed).normal(size=before + 1000)
                values[before:] += shift
                chart = DriftChart(every, seed=seed)
                numbers = range(len(values))
                at = next((n for n in numbers if chart.add(float(values[n]), n)), len(values))
                found.append(at - before + 1)
            share = [f"{np.quantile(found, q):.0f}" for q in (0.5, 0.95, 1.0)]
            late = sum(each > 200 for each in found)
            print(f"{before:>6} {shift:>5}  {' / '.join(share)} / {late}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--every", type=float, default=2000)
    parser.add_argument("--parts", type=int, default=200)
    parser.add_argument("--delay-every", type=float, default=2e7)
    chosen = parser.parse_args()
    allowed = chosen.streams * chosen.parts / chosen.every
    print(
        f"false alarms over {allowed:g} allowed; {chosen.streams} streams of {chosen.parts} parts"
    )
    print("distribution    parts " + "".join(f"{each.__name__:>10}" for each in CHARTS))
    for name, draw in DISTRIBUTIONS.items():
        for size in REFERENCES:
            random = np.random.default_rng(size)
            values = draw(random, (chosen.streams, size + chosen.parts))
            row = [
                np.isfinite(chart(values[:, :size], values[:, size:], chosen.every)).sum() / allowed
                for chart in CHARTS
            ]
            print(f"{name:<14} {size:>6} " + "".join(f"{each:>10.2f}" for each in row), flush=True)
    print(
        f"\nparts until a shift is found (median / slowest of 200), one in {chosen.delay_every:g}"
    )
    for size in REFERENCES:
        for shift in SHIFTS:
            values = np.random.default_rng(size + 1).normal(size=(200, size + 400))
            values[:, size:] += shift
            row_text = ""
            for chart in CHARTS:
                found = chart(values[:, :size], values[:, size:], chosen.delay_every)
                row_text += f"{np.median(found):>10.0f} /{found.max():>4.0f}"
            print(f"{shift:<14} {size:>6} {row_text}", flush=True)
    neighbours(chosen.streams, chosen.every, chosen.parts)
    neighbours(40, 1e5, 25_000)
    later(1000, chosen.delay_every)
    slow(20, chosen.delay_every)


if __name__ == "__main__":
    main()
