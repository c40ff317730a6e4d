"""Our numbers beside the published ones, aggregated as they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from ssn_edge.model.backbone import GPU_DEFAULT
from ssn_edge.model.variant import Variant
from ssn_edge.reproduction.figures import Figures, Values, figures_of, mean_of
from ssn_edge.reproduction.protocols import BATCH_SIZE, EPOCHS, RUNS, Part
from ssn_edge.reproduction.published import COLUMNS, MEAN, ROUNDING, published_figures
from ssn_edge.reproduction.request import ReproductionRequest
from ssn_edge.reproduction.result import RunFigures


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One line of the table.

    Args:
        name: Category or product, or what the mean is over.
        runs: Seeds that ours is the mean of.
        ours: None while no seed is whole.
        published: None where nothing was published.
    """

    name: str
    runs: int
    ours: Figures | None
    published: Figures | None

    @property
    def differences(self) -> Values:
        """Our mean less the published one, in points."""
        return tuple(
            None if ours is None or published is None else ours - published
            for ours, published in self._means()
        )

    @property
    def deviations(self) -> Values:
        """The differences in deviations: pooled of both, or the published one for a single run."""
        return tuple(
            None if difference is None or scale is None else difference / scale
            for difference, scale in zip(self.differences, self._scales(), strict=True)
        )

    def to_dict(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {
            "name": self.name,
            "runs": self.runs,
            "ours": _by_column(self.ours),
            "published": _by_column(self.published),
            "difference": dict(zip(COLUMNS, self.differences, strict=True)),
            "difference_in_deviations": dict(zip(COLUMNS, self.deviations, strict=True)),
        }

    def _means(self) -> list[tuple[float | None, float | None]]:
        return list(zip(_mean(self.ours), _mean(self.published), strict=True))

    def _scales(self) -> Values:
        ours, published = _std(self.ours), _std(self.published)
        return tuple(_pooled(a, b) for a, b in zip(ours, published, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table with what must be known to read it.

    Args:
        title: What was trained on what, with which labels.
        departures: How it is not the published protocol; empty if it is.
        failures: Runs that failed, and why.
        rows: The groups, and their mean last where there is more than one.
        notes: How the numbers were made.
    """

    title: str
    departures: tuple[str, ...]
    failures: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """All of it, ready for JSON."""
        return {
            "title": self.title,
            "is_published_protocol": not self.departures,
            "departures": list(self.departures),
            "failures": list(self.failures),
            "rows": [row.to_dict() for row in self.rows],
            "notes": list(self.notes),
        }


def compare(
    request: ReproductionRequest, results: Sequence[RunFigures], failures: Sequence[str] = ()
) -> Comparison:
    """Aggregate runs as the published numbers were, and put them side by side.

    A seed counts for a group when all its parts (the folds of a product) are there, and for the
    mean when all groups that have any are; so the deviation is always that of per-run means.

    Args:
        request: What was asked for.
        results: The runs that are finished.
        failures: Lines on those that failed.

    Source:
        supersimplenet.md section 5.1, aggregation.
    """
    published = published_figures(request.dataset, request.masks, request.variant)
    by_group = _groups(request.parts, results)
    rows = [
        ComparedRow(
            group, len(seeds), figures_of(list(seeds.values())) if seeds else None,
            published.get(group),
        )
        for group, seeds in by_group.items()
    ]  # fmt: skip
    if len(request.protocol.groups) > 1:
        rows.append(_mean_row(request, by_group, published))
    return Comparison(
        title=f"SuperSimpleNet ({request.variant.value} variant) on {request.protocol.title}, "
        f"{request.describe_labels()}",
        departures=tuple(_departures(request, results, by_group)),
        failures=tuple(failures),
        rows=tuple(rows),
        notes=tuple(_notes(request, results, bool(published))),
    )


def _groups(parts: Sequence[Part], results: Sequence[RunFigures]) -> dict[str, dict[int, Values]]:
    """For each group its whole seeds, each with the mean of the group's parts."""
    members: dict[str, list[str]] = defaultdict(list)
    for part in parts:
        members[part.group].append(part.name)
    values = {(result.part, result.seed): result.values for result in results}
    seeds = list(dict.fromkeys(result.seed for result in results))
    return {
        group: {
            seed: mean_of([values[name, seed] for name in names])
            for seed in seeds
            if all((name, seed) in values for name in names)
        }
        for group, names in members.items()
    }


def _mean_row(
    request: ReproductionRequest,
    by_group: Mapping[str, Mapping[int, Values]],
    published: Mapping[str, Figures],
) -> ComparedRow:
    present = {group: seeds for group, seeds in by_group.items() if seeds}
    count, whole = len(present), len(request.protocol.groups)
    shared = set.intersection(*(set(seeds) for seeds in present.values())) if present else set()
    runs = [mean_of([seeds[seed] for seeds in present.values()]) for seed in sorted(shared)]
    theirs = published.get(MEAN)
    if theirs is not None and count < whole:
        # The mean of fewer groups follows from the rows; its deviation over runs does not.
        rows = [published[group].mean for group in present]
        theirs = Figures(mean_of(rows), (None,) * len(COLUMNS)) if rows else None
    return ComparedRow(
        MEAN if count == whole else f"{MEAN} of {count} of {whole}",
        len(runs),
        figures_of(runs) if runs else None,
        theirs,
    )


def _departures(
    request: ReproductionRequest,
    results: Sequence[RunFigures],
    by_group: Mapping[str, Mapping[int, Values]],
) -> list[str]:
    """How this is not the published protocol, in words."""
    protocol = request.protocol
    found = []
    if request.epochs != EPOCHS:
        found.append(f"epochs: {request.epochs} instead of {EPOCHS}")
    if request.backbone != GPU_DEFAULT:
        found.append(f"backbone: {request.backbone} instead of {GPU_DEFAULT}")
    sizes = {part.input_size_hw for part in request.parts}
    if request.input_size_hw is not None and sizes != {request.input_size_hw}:
        wanted = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        height, width = request.input_size_hw
        found.append(f"network input: {height}x{width} instead of {wanted}")
    if request.batch_size != BATCH_SIZE:
        found.append(f"batch size: {request.batch_size} instead of {BATCH_SIZE}")
    if request.learning_rate_scale != 1.0:
        found.append(f"learning rates x {request.learning_rate_scale:g}")
    if len(by_group) < len(protocol.groups):
        found.append(f"{len(by_group)} of {len(protocol.groups)} {protocol.kind}")
    if len(request.seeds) < RUNS:
        found.append(f"seeds: {len(request.seeds)} instead of {RUNS}")
    asked = len(request.parts) * len(request.seeds)
    if len(results) < asked:
        found.append(f"{len(results)} of {asked} runs finished")
    others = sorted({result.regime for result in results} - {request.regime.value})
    if others:
        found.append(f"the labels made it {' and '.join(others)} in some runs")
    return found


def _notes(
    request: ReproductionRequest, results: Sequence[RunFigures], is_published: bool
) -> list[str]:
    notes = [
        "Per cent, mean and sample deviation over seeds "
        f"{', '.join(map(str, request.seeds))}; at network resolution, after the last epoch, "
        "trained on the whole training part; the test part chose nothing.",
        "Difference: points, and in brackets deviations (pooled of both; the published one alone "
        f"for a single run; at least {ROUNDING}, since 0.00 is rounded).",
        "Published: five runs of the authors. Their seeds are not known and our random numbers "
        "are not theirs: means should agree within the deviations, single runs need not. Their "
        "AUPRO re-samples one curve a region, ours is exact.",
    ]
    if not is_published:
        notes.append("Nothing was published for this variant with these labels.")
    if request.masks is None and request.protocol.note:
        notes.append(request.protocol.note)
    if request.variant is Variant.CONFERENCE and request.masks == 0:
        notes.append("The conference version had no weak regime: it dropped unmasked defects.")
    for name, kinds in (
        ("Measured on", sorted({result.device for result in results})),
        ("Backbone weights from", sorted({result.backbone_weights for result in results})),
        ("Versions", sorted({_versions(result) for result in results})),
    ):
        if kinds:
            notes.append(f"{name}: {'; '.join(kinds)}.")
    return notes


def _versions(result: RunFigures) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.tools.items())


def _mean(figures: Figures | None) -> Values:
    return (None,) * len(COLUMNS) if figures is None else figures.mean


def _std(figures: Figures | None) -> Values:
    return (None,) * len(COLUMNS) if figures is None else figures.std


def _pooled(ours: float | None, published: float | None) -> float | None:
    if published is None:
        return None
    known = published if ours is None else sqrt((ours**2 + published**2) / 2)
    return max(known, ROUNDING)


def _by_column(figures: Figures | None) -> dict[str, dict[str, float | None]] | None:
    if figures is None:
        return None
    return {
        name: {"mean": mean, "std": std}
        for name, mean, std in zip(COLUMNS, figures.mean, figures.std, strict=True)
    }
