"""How often what `ssn-edge calibrate` promises holds on parts that it did not see.

    python tests/benchmarks/promises.py part DATA/split.csv --output WORK \\
        --columns label=defect group=tile_group --share 0.22
    (ssn-edge train WORK/train.csv ..., ssn-edge export --int8)
    python tests/benchmarks/promises.py judge part.ssn --data WORK/scored.csv --checkpoint RUN \\
        --precisions fp32 int8 [--count groups pictures] [--splits 200] [--json FILE]

`part` draws groups for training; nothing of them is in the other list. `judge` has the package
judge the other list, once for each precision, and parts it at random into halves of the groups.
Each promise is fitted on one half by the functions that `ssn-edge calibrate` uses, and looked at
on the other. Columns:

refused     in how many of the splits, with the parts that the half had, and what was asked for
made        in how many
within      of those made, in how many the other half shows no more than what is promised
expected    what `within` should be at least, on average, if parts are exchangeable (exact, from
            the sizes of the halves and the rank); for promises about one kind of parts only
rejected    of those made, in how many an exact test on the other half (binomial, 5 % for all
            bounds of a promise together) says that the promise is broken

A promise is about the true share, and is kept in at least 95 of 100 data sets. The other half is
finite and may show more although the true share is within. All splits are of one data set: they
overlap, so they are not so many independent trials.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ssn_edge.calibration.choice import BestBound, Choice, choose
from ssn_edge.calibration.held_out import Wanted, held_out_pictures
from ssn_edge.calibration.judged import Judge, Judged
from ssn_edge.data.layouts import read_dataset
from ssn_edge.device_settings import settings_to_change
from ssn_edge_calibrate.best_threshold import Costs
from ssn_edge_calibrate.operating_point import Bound, Sample, Wish, wrong_at
from ssn_edge_calibrate.risk_bounds import error_of, tail
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import CalibrationError

CONFIDENCE = 0.95
COSTS = Costs(miss=100, false_reject=1, defect_rate=0.02)
FALSE_REJECTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
CAUGHT = (0.95, 0.9, 0.8, 0.5)
PROMISES: dict[str, Choice] = {
    **{
        f"at most {100 * x:g} % false rejects": Choice(wish=Wish(max_false_reject=x))
        for x in FALSE_REJECTS
    },
    **{f"at least {100 * y:g} % caught": Choice(wish=Wish(min_caught=y)) for y in CAUGHT},
    "5 % and 80 % together": Choice(wish=Wish(max_false_reject=0.05, min_caught=0.8)),
    "50 % and 50 % together": Choice(wish=Wish(max_false_reject=0.5, min_caught=0.5)),
    **{
        f"{name}, bound by {bound.value}": replace(choice, best_bound=bound)
        for name, choice in (
            ("best F1", Choice(best_f1=True)),
            ("least cost", Choice(costs=COSTS)),
        )
        for bound in (BestBound.BAND, BestBound.HALF)
    },
}
ASKED = re.compile(r"(\d+) (?:are wanted|good parts with no more)")


@dataclass(frozen=True)
class Scored:
    """One package and precision, all pictures judged; what `choose` needs beside them."""

    judged: Judged
    pixel: float
    min_area_px: float | None
    scoring: ScoringMethod


@dataclass
class Row:
    """What came of one promise over the splits."""

    promise: str
    asked: list[int] = field(default_factory=list)
    had: list[tuple[int, int]] = field(default_factory=list)
    other_refusals: list[str] = field(default_factory=list)
    made: int = 0
    within: int = 0
    rejected: int = 0
    shares: dict[str, list[float]] = field(default_factory=dict)
    expected: list[float] = field(default_factory=list)

    def add(self, choice: Choice, fitted: Judged, other: Judged, scored: Scored) -> None:
        """Fit on one half, look at the other."""
        area = scored.min_area_px
        try:
            chosen = choose(
                choice, fitted, pixel=scored.pixel, min_area_px=area, scoring=scored.scoring
            )
        except CalibrationError as error:
            asked = ASKED.search(str(error))
            if asked is None:
                self.other_refusals.append(str(error))
            else:
                self.asked.append(int(asked[1]))
                sample = fitted.sample(area)
                self.had.append((sample.good.size, sample.defects.size))
            return
        if not chosen.point.bounds:
            self.other_refusals.append("no part to find a bound on")
            return
        self.made += 1
        sample = other.sample(chosen.thresholds.min_area_px)
        seen = [
            (bound, *wrong_at(sample, bound.kind, chosen.point.image))
            for bound in chosen.point.bounds
        ]
        self.within += all(_is_within(wrong, count, bound.share) for bound, count, wrong in seen)
        limit = error_of(CONFIDENCE, len(seen))
        self.rejected += any(
            is_broken(bound.share, count, wrong, limit) for bound, count, wrong in seen
        )
        for bound, count, wrong in seen:
            self.shares.setdefault(bound.kind.value, []).append(wrong / count if count else 0.0)
        if choice.wish is not None and len(seen) == 1:
            bound, count, _ = seen[0]
            self.expected.append(_expected(bound, count))

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "promise": self.promise,
            "refused": len(self.asked) + len(self.other_refusals),
            "asked_for": sorted(set(self.asked)),
            "refused_had_good": _range([good for good, _ in self.had]),
            "refused_had_defects": _range([defects for _, defects in self.had]),
            "refused_otherwise": sorted(set(self.other_refusals))[:1],
            "made": self.made,
            "within": self.within,
            "expected_within": float(np.mean(self.expected)) if self.expected else None,
            "rejected": self.rejected,
            "mean_share_on_other_half": {
                name: float(np.mean(shares)) for name, shares in self.shares.items()
            },
        }

    def line(self) -> str:
        """A row of the table."""
        refused = len(self.asked) + len(self.other_refusals)
        why = []
        if self.asked:
            about_defects = "caught" in self.promise and "together" not in self.promise
            had = _range([each[1 if about_defects else 0] for each in self.had])
            wanted = ", ".join(str(each) for each in sorted(set(self.asked)))
            kind = "" if "together" not in self.promise else " good parts"
            why.append(f"had {had}{kind}, asked for {wanted}")
        if self.other_refusals:
            why.append(f"{len(self.other_refusals)} times none, for other reasons")
        cells = [
            self.promise,
            f"{refused}" + (f" ({'; '.join(why)})" if why else ""),
            str(self.made),
            _percent(self.within, self.made),
            f"{100 * np.mean(self.expected):.1f} %" if self.expected else "",
            _percent(self.rejected, self.made),
            ", ".join(f"{100 * np.mean(each):.1f} %" for each in self.shares.values()),
        ]
        return "| " + " | ".join(cells) + " |"


HEADER = (
    "| promise | refused | made | within | expected | rejected | mean share wrong there |\n"
    + "|---" * 7
    + "|"
)


def _is_within(wrong: int, count: int, share: float) -> bool:
    return wrong <= math.floor(Fraction(repr(share)) * count)


def is_broken(share: float, count: int, wrong: int, limit: Fraction) -> bool:
    """Whether so many wrong ones are too unlikely for a true share of at most `share`."""
    return wrong > 0 and 1 - tail(wrong - 1, count, share) <= limit


def _expected(bound: Bound, other: int) -> float:
    """The chance that another sample shows no more than `share` beyond a rank of this one.

    All orders of the parts of both samples are as likely, whatever their law. A threshold stands
    with the first part that is judged right, or nearer to the next, so there it is a little more.
    """
    own, above = bound.count, bound.wrong
    most = math.floor(Fraction(repr(bound.share)) * other)
    ways = sum(
        math.comb(above + k, k) * math.comb(own + other - above - 1 - k, other - k)
        for k in range(min(most, other) + 1)
    )
    return ways / math.comb(own + other, other)


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def part_list(options: argparse.Namespace) -> None:
    """Write the list that is trained on, and the list of all others, by group."""
    columns = dict(each.split("=", 1) for each in options.columns)
    dataset = read_dataset(options.list, columns=columns or None)
    named = [item.group or str(item.image) for item in dataset.items]
    groups = sorted(
        set(named), key=lambda name: hashlib.sha256(f"promises {name}".encode()).digest()
    )
    trained = set(groups[: round(options.share * len(groups))])
    options.output.mkdir(parents=True, exist_ok=True)
    for name, is_trained in (("train", True), ("scored", False)):
        counts = [0, 0]
        with (options.output / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mask", "label", "group", "split"])
            for item, group in zip(dataset.items, named, strict=True):
                if (group in trained) == is_trained:
                    counts[item.label] += 1
                    mask = item.mask.resolve() if item.label and item.mask else ""
                    writer.writerow([item.image.resolve(), mask, item.label, group, "train"])
        print(f"{options.output / name}.csv: {counts[0]} good, {counts[1]} defective")


def score(options: argparse.Namespace, precision: str) -> Scored:
    """Judge all pictures by the package with its own thresholds for areas."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Inspector.open(options.package, engine=options.engine, precision=precision) as inspector,
    ):
        settings = settings_to_change(None, inspector, Path(folder) / "settings.json", is_new=True)
        judge = Judge(inspector, settings, None, Path(folder))
        wanted = Wanted(data=options.data, checkpoint=options.checkpoint)
        held_out = held_out_pictures(wanted, inspector.manifest.training_data)
        for note in held_out.notes:
            print(note, file=sys.stderr)
        pixel, area = judge.thresholds.pixel, judge.thresholds.min_area_px
        judged = judge.judged(
            held_out, pixel=pixel, min_area_px=area, on_progress=lambda done, count: None
        )
        print(
            f"{precision} on {inspector.engine_name}: {len(judged.parts)} judged", file=sys.stderr
        )
        return Scored(judged, pixel, area, inspector.scoring_rule.method)


def each_by_itself(judged: Judged) -> Judged:
    """The same pictures as if they had no groups, as `ssn-edge calibrate --group none` counts."""
    names = tuple(str(place) for place in range(len(judged.parts)))
    return replace(judged, groups=names, unit="pictures")


def halves(groups: Sequence[str], random: np.random.Generator) -> frozenset[str]:
    """Half of the groups by lot, of an odd number one more or less by turns of luck."""
    names = sorted(set(groups))
    count = len(names) // 2 + int(random.integers(0, 1 + len(names) % 2))
    return frozenset(random.permutation(names)[:count].tolist())


def over_splits(
    scored: Scored, splits: int, seed: int, counted: Callable[[Judged], Judged]
) -> list[Row]:
    """Fit and look, for all promises and splits."""
    rows = [Row(name) for name in PROMISES]
    random = np.random.default_rng(seed)
    for _ in range(splits):
        half = halves(scored.judged.groups, random)
        fitted = counted(scored.judged.among(half))
        other = counted(scored.judged.among(set(scored.judged.groups) - half))
        for row, choice in zip(rows, PROMISES.values(), strict=True):
            row.add(choice, fitted, other, scored)
    return rows


def judge_package(options: argparse.Namespace) -> None:
    """Print a table for each precision and way of counting."""
    documents = []
    ways: Mapping[str, Callable[[Judged], Judged]] = {
        "groups": lambda judged: judged,
        "pictures": each_by_itself,
    }
    for precision in options.precisions:
        scored = score(options, precision)
        sample: Sample = scored.judged.sample(scored.min_area_px)
        for unit in options.count:
            rows = over_splits(scored, options.splits, options.seed, ways[unit])
            print(
                f"\n{precision}, {len(scored.judged.parts)} pictures "
                f"({scored.judged.labels.count(0)} good, {scored.judged.labels.count(1)} "
                f"defective) in {len(set(scored.judged.groups))} groups ({sample.good.size} with "
                f"good ones, {sample.defects.size} with defects), {options.splits} splits by "
                f"group, counted by {unit}\n\n{HEADER}"
            )
            for row in rows:
                print(row.line())
            documents.append(
                {
                    "package": str(options.package),
                    "precision": precision,
                    "counted": unit,
                    "splits": options.splits,
                    "seed": options.seed,
                    "confidence": CONFIDENCE,
                    "promises": [row.document() for row in rows],
                }
            )
    text = json.dumps(documents, indent=1)
    if options.json is None:
        print(f"\n{text}")
    else:
        options.json.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Write lists, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    part = verbs.add_parser("part", help="lists of what is trained on, and of what is not")
    part.add_argument("list", type=Path, help="CSV list")
    part.add_argument("--columns", nargs="*", default=[], help="as label=defect group=item")
    part.add_argument("--share", type=float, default=0.25, help="of the groups, to train on")
    part.add_argument("--output", type=Path, required=True, help="folder for both lists")
    part.set_defaults(perform=part_list)
    judge = verbs.add_parser("judge", help="promises on halves of what was not trained on")
    judge.add_argument("package", type=Path)
    judge.add_argument("--data", type=Path, required=True, help="the list scored.csv")
    judge.add_argument("--checkpoint", type=Path, required=True, help="the run, to prove it")
    judge.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    judge.add_argument("--engine", default="auto")
    judge.add_argument("--splits", type=int, default=200)
    judge.add_argument("--seed", type=int, default=0)
    judge.add_argument("--count", nargs="+", choices=["groups", "pictures"], default=["groups"])
    judge.add_argument("--json", type=Path, help="file; without it, after the tables")
    judge.set_defaults(perform=judge_package)
    options = parser.parse_args()
    options.perform(options)


if __name__ == "__main__":
    main()
