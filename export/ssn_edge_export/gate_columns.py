"""One exported model in one engine against the trained net: differences, flips and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_export.gate_judged import Judged
from ssn_edge_export.gate_limits import GateLimits
from ssn_edge_export.gate_metrics import MetricChange, image_changes, pixel_changes
from ssn_edge_export.gate_pictures import GatePicture
from ssn_edge_runtime.decision import ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import ExportError

EXACT_PRECISIONS = ("fp32",)
"""Held to `GateLimits.exact`, and to no flip at all."""


@dataclass(frozen=True, slots=True)
class Column:
    """What was compared with the trained net.

    Args:
        precision: Of the model.
        graph: Which graph it is, such as ``deploy-1``.
        engine: What ran it here.
        is_packed: Whether the model goes into the package; the other is shown for comparison.
    """

    precision: str
    graph: str
    engine: str
    is_packed: bool = True

    @property
    def title(self) -> str:
        """For people, such as ``fp16 deploy-1 on openvino``."""
        return f"{self.precision} {self.graph} on {self.engine}"


@dataclass(frozen=True, slots=True)
class Differences:
    """Largest, 99.9 % quantile and mean of absolute differences, in logits."""

    largest: float
    quantile: float
    mean: float


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that the net and the model decide differently.

    Args:
        picture: Its name.
        label: 0 normal, 1 anomalous.
        net_verdict: Of the trained net.
        model_verdict: Of the exported model.
        net_distance: The net's score less its threshold.
        model_distance: The model's score less its own threshold.
        is_outside: Whether the net's score lies beyond the margin.
    """

    picture: str
    label: int
    net_verdict: str
    model_verdict: str
    net_distance: float
    model_distance: float
    is_outside: bool

    def __str__(self) -> str:
        """For a message."""
        return (
            f"{self.picture}: {self.net_verdict} ({self.net_distance:+.4g} from the threshold) "
            f"became {self.model_verdict} ({self.model_distance:+.4g})"
        )


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """How far one column is from the trained net, on the same pictures.

    Args:
        column: What was compared.
        thresholds: Of the model's precision.
        pictures: How many were compared.
        unjudged: Pictures that got no verdict, with the reason.
        shift: Of the model's image threshold from the net's: what all scores have in common.
        logits: Largest relative difference of both logits; to the larger of 1 and the net's.
        map_relative: Largest relative difference of a map value, likewise.
        score: Differences of the scores' distances from their thresholds.
        maps: Differences of all map values.
        mask_share: Share of all mask pixels that differ, each mask by its own threshold.
        margin: Within so much of the threshold a verdict may turn.
        flips: Pictures with two verdicts.
        metrics: Changes of the metrics; none where a label is missing.
        noise: Deviation of the score differences of normal pictures, as a share of `spread`.
        spread: Deviation of normal pictures' scores.
        worst_score: Picture with the largest score difference.
        worst_map: Picture with the largest map difference.
    """

    column: Column
    thresholds: Thresholds
    pictures: int
    unjudged: tuple[tuple[str, str], ...]
    shift: float
    logits: float
    map_relative: float
    score: Differences
    maps: Differences
    mask_share: float
    margin: float
    flips: tuple[Flip, ...]
    metrics: tuple[MetricChange, ...]
    noise: float
    spread: float
    worst_score: str
    worst_map: str

    def findings(self, limits: GateLimits) -> tuple[str, ...]:
        """What is beyond the limits, a phrase each with what was found and what is allowed."""
        found = []
        if self.unjudged:
            name, reason = self.unjudged[0]
            found.append(
                f"{len(self.unjudged)} of {self.pictures} pictures get no verdict, first {name}: "
                f"{reason}"
            )
        is_exact = self.column.precision in EXACT_PRECISIONS
        if is_exact:
            found += [
                f"its {what} by {difference:.3g} on {worst}, {limits.exact:g} is allowed"
                for what, difference, worst in (
                    ("score differs", self.logits, self.worst_score),
                    ("map differs", self.map_relative, self.worst_map),
                )
                if difference > limits.exact
            ]
        refused = [flip for flip in self.flips if is_exact or flip.is_outside]
        if refused:
            allowed = (
                "none may"
                if is_exact or not self.margin
                else f"none may beyond {self.margin:.3g} from the threshold"
            )
            found.append(
                f"{len(refused)} of {self.pictures} verdicts differ, {allowed}; first "
                + "; ".join(str(flip) for flip in refused[:2])
            )
        if not is_exact:
            found += self._falls(limits)
        return tuple(found)

    def _falls(self, limits: GateLimits) -> list[str]:
        found = []
        for metric in self.metrics:
            if metric.is_beyond(limits.metric_points) and metric.interval is not None:
                low, high = metric.interval
                found.append(
                    f"{metric.name} falls by {-metric.change_points:.2f} points (95 % interval "
                    f"{100 * low:+.2f} to {100 * high:+.2f}), {limits.metric_points:g} are allowed"
                )
        if self.noise > limits.max_noise:
            found.append(
                f"the scores of normal pictures change by {self.noise:.0%} of their own deviation, "
                f"{limits.max_noise:.0%} is allowed"
            )
        return found

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {
            **asdict(self),
            "metrics": [metric.to_dict() for metric in self.metrics],
            "unjudged": [{"picture": name, "why": why} for name, why in self.unjudged],
        }


def compare(
    column: Column,
    net: Judged,
    model: Judged,
    pictures: Sequence[GatePicture],
    *,
    rule: ScoringRule,
    limits: GateLimits,
    spread: float,
) -> ColumnReport:
    """Hold a model's judgements against the net's.

    Each side decides by the thresholds that are fitted for it, and what is compared is a score's
    distance from its own threshold. So a shift that all scores have in common is no difference
    and turns no verdict, whereas a model whose scores change their order, or that runs with the
    thresholds of another one, shows both. The net's own thresholds are those of the FP32 file,
    which has been proven to be the net to a thousandth.

    A flip lies outside the margin where the *net's* score is farther than the margin from its
    threshold: then the model moved a picture that was decided.

    Args:
        column: What gave `model`.
        net: Of the trained net.
        model: Of the exported model, with its precision's thresholds.
        pictures: That both judged, at least one.
        rule: The package's scoring rule.
        limits: For the margin.
        spread: Of normal pictures' scores; see `spread_of`.

    Raises:
        ExportError: There is no picture, or the net itself gives no verdict on one.
    """
    if not pictures:
        raise ExportError("no picture to compare the exported graph with the net on; add pictures")
    for index, fault in net.faults.items():
        raise ExportError(f"{pictures[index].name}: asked the net, but {fault}")
    judged = np.array([index not in model.faults for index in range(len(pictures))])
    labels = np.array([picture.label for picture in pictures], dtype=np.int64)
    distances = net.distances(rule), model.distances(rule)
    moved = np.where(judged, distances[1] - distances[0], 0.0)
    margin = limits.flip_margin(moved[judged], spread)
    logits = np.where(judged, _relative(net.logits, model.logits).max(axis=1), 0.0)
    map_change = np.abs(net.maps[judged] - model.maps[judged])
    map_relative = np.zeros(len(pictures))
    map_relative[judged] = _largest(map_change / np.maximum(1.0, np.abs(net.maps[judged])))
    normal = moved[judged & (labels == 0)]
    return ColumnReport(
        column=column,
        thresholds=model.thresholds,
        pictures=len(pictures),
        unjudged=tuple((pictures[index].name, why) for index, why in model.faults.items()),
        shift=model.thresholds.image - net.thresholds.image,
        logits=float(logits.max()),
        map_relative=float(map_relative.max()),
        score=_differences(np.abs(moved[judged])),
        maps=_differences(map_change),
        mask_share=float(np.mean(net.masks[judged] != model.masks[judged])) if any(judged) else 0.0,
        margin=margin,
        flips=_flips(net, model, pictures, distances, margin),
        metrics=(
            *image_changes(labels[judged], net.scores(rule)[judged], model.scores(rule)[judged]),
            *_pixel_changes(net, model, pictures, judged),
        )
        if np.any(judged)
        else (),
        noise=float(np.std(normal)) / spread if spread and normal.size else 0.0,
        spread=spread,
        worst_score=pictures[int(np.argmax(np.maximum(logits, np.abs(moved))))].name,
        worst_map=pictures[int(np.argmax(map_relative))].name,
    )


def _flips(
    net: Judged,
    model: Judged,
    pictures: Sequence[GatePicture],
    distances: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    margin: float,
) -> tuple[Flip, ...]:
    """Farthest from the net's threshold first."""
    flips = [
        Flip(
            picture=picture.name,
            label=picture.label,
            net_verdict=net.verdicts[index].value,
            model_verdict=model.verdicts[index].value,
            net_distance=float(distances[0][index]),
            model_distance=float(distances[1][index]),
            is_outside=bool(abs(distances[0][index]) > margin),
        )
        for index, picture in enumerate(pictures)
        if model.verdicts[index] not in (net.verdicts[index], Verdict.UNKNOWN)
    ]
    return tuple(sorted(flips, key=lambda flip: -abs(flip.net_distance)))


def _pixel_changes(
    net: Judged, model: Judged, pictures: Sequence[GatePicture], judged: npt.NDArray[np.bool_]
) -> tuple[MetricChange, ...]:
    known = [
        int(index) for index in np.flatnonzero(judged) if pictures[int(index)].truth is not None
    ]
    return pixel_changes(
        [truth for index in known if (truth := pictures[index].truth) is not None],
        [net.maps[index] for index in known],
        [model.maps[index] for index in known],
    )


def _relative(
    wanted: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    change: npt.NDArray[np.float64] = np.abs(wanted - found) / np.maximum(1.0, np.abs(wanted))
    return change


def _largest(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Of each picture, (n, h, w) to (n,)."""
    largest: npt.NDArray[np.floating] = values.max(axis=(1, 2))
    return largest


def _differences(values: npt.NDArray[np.floating]) -> Differences:
    if not values.size:
        return Differences(0.0, 0.0, 0.0)
    return Differences(
        float(values.max()), float(np.quantile(values, 0.999)), float(np.mean(values))
    )
