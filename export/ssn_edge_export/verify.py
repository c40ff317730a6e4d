"""The proof that the exported graph decides as the trained net does, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch

from ssn_edge_export.reference_graph import InspectionNet
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    ScoringRule,
    Thresholds,
    decide,
)
from ssn_edge_runtime.errors import ExportError, ScoreError
from ssn_edge_runtime.preprocess import Geometry

TOLERANCE = 1e-3
"""Largest difference of a score or map value, relative to the larger of 1 and the net's value."""


class Judge(Protocol):
    """Whatever judges one preprocessed frame; an engine's `infer` is one."""

    def __call__(self, pixels: ByteImage, *, pixel_threshold: float) -> Judgement:
        """Judge (h, w, 3) uint8 BGR pixels."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPicture:
    """A picture as network input, (h, w, 3) uint8 BGR, and the size its frame had."""

    name: str
    pixels: ByteImage
    frame_size_hw: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that the two decide differently, with the raw scores."""

    picture: str
    torch_verdict: str
    onnx_verdict: str
    torch_score: float
    onnx_score: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the exported graph is from the net.

    Args:
        pictures: How many were compared.
        max_score_difference: The largest of both logits, relative as `TOLERANCE` is.
        max_map_difference: The largest of any map value, likewise.
        mask_pixels_differing: Defect mask pixels that differ, of all pictures; recorded only, since
            a map value may lie at the threshold itself.
        worst_score: Name of the picture with the largest score difference.
        worst_map: Name of the picture with the largest map difference.
        flips: Pictures with two verdicts.
        tolerance: What both differences may be.
    """

    pictures: int
    max_score_difference: float
    max_map_difference: float
    mask_pixels_differing: int
    worst_score: str
    worst_map: str
    flips: tuple[Flip, ...]
    tolerance: float = TOLERANCE

    @property
    def is_equal(self) -> bool:
        """Whether both differences are within the tolerance and no verdict differs."""
        return (
            self.max_score_difference <= self.tolerance
            and self.max_map_difference <= self.tolerance
            and not self.flips
        )

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return asdict(self)


class NetJudge:
    """The trained net as a judge, in plain steps and without the export's graph around it.

    So a mistake in that graph (colours, mean, region) shows as a difference, too.

    Args:
        net: In evaluation mode, on the CPU.
    """

    def __init__(self, net: InspectionNet) -> None:
        self._net = net
        self._mean = np.asarray(net.mean, dtype=np.float32)
        self._std = np.asarray(net.std, dtype=np.float32)

    def __call__(self, pixels: ByteImage, *, pixel_threshold: float) -> Judgement:
        """Judge (h, w, 3) uint8 BGR pixels."""
        image = (pixels[:, :, ::-1].astype(np.float32) / 255 - self._mean) / self._std
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            maps, logits = self._net(batch)
        anomaly_map: FloatArray = maps[0].numpy()
        return Judgement(
            classification_logit=float(logits[0]),
            map_max_logit=float(anomaly_map.max()),
            anomaly_map=anomaly_map,
            defect_mask=(anomaly_map >= np.float32(pixel_threshold)).astype(np.uint8),
        )


def compare(
    torch_judge: Judge,
    onnx_judge: Judge,
    pictures: Iterable[PreparedPicture],
    *,
    thresholds: Thresholds,
    rule: ScoringRule,
    geometry: Geometry,
) -> Comparison:
    """Judge each picture twice and note the largest differences and every verdict that turns.

    Args:
        torch_judge: The trained net; what is right.
        onnx_judge: The exported graph, run by an engine.
        pictures: At least one.
        thresholds: The package's.
        rule: The package's scoring rule.
        geometry: The package's; the pictures were prepared with it.

    Raises:
        ExportError: There is no picture, or one of the two gave NaN or a wrong shape.
    """
    scores: list[tuple[float, str]] = []
    maps: list[tuple[float, str]] = []
    flips: list[Flip] = []
    mask_pixels = 0
    for picture in pictures:
        decisions: list[Decision] = []
        judgements: list[Judgement] = []
        for side, judge in (("net", torch_judge), ("exported graph", onnx_judge)):
            judgement = judge(picture.pixels, pixel_threshold=thresholds.pixel)
            try:
                decision = decide(
                    judgement,
                    thresholds=thresholds,
                    rule=rule,
                    geometry=geometry,
                    frame_size_hw=picture.frame_size_hw,
                )
            except ScoreError as error:
                raise ExportError(f"{picture.name}: asked the {side}, but {error}") from error
            decisions.append(decision)
            judgements.append(judgement)
        wanted, found = judgements
        scores.append((_score_difference(wanted, found), picture.name))
        maps.append((_difference(wanted.anomaly_map, found.anomaly_map), picture.name))
        mask_pixels += int(np.count_nonzero(wanted.defect_mask != found.defect_mask))
        if decisions[0].verdict is not decisions[1].verdict:
            flips.append(
                Flip(
                    picture=picture.name,
                    torch_verdict=decisions[0].verdict.value,
                    onnx_verdict=decisions[1].verdict.value,
                    torch_score=wanted.logit(rule),
                    onnx_score=found.logit(rule),
                )
            )
    if not scores:
        raise ExportError("no picture to compare the exported graph with the net on; add pictures")
    max_score, worst_score = max(scores)
    max_map, worst_map = max(maps)
    return Comparison(
        pictures=len(scores),
        max_score_difference=max_score,
        max_map_difference=max_map,
        mask_pixels_differing=mask_pixels,
        worst_score=worst_score,
        worst_map=worst_map,
        flips=tuple(flips),
    )


def require_equal(comparison: Comparison) -> None:
    """Refuse an export that is not the net.

    Raises:
        ExportError: A difference beyond the tolerance, or a verdict that differs.
    """
    if comparison.is_equal:
        return
    findings = [
        f"its {what} by {difference:.3g} on {worst}, {comparison.tolerance:g} is allowed"
        for what, difference, worst in (
            ("score differs", comparison.max_score_difference, comparison.worst_score),
            ("map differs", comparison.max_map_difference, comparison.worst_map),
        )
        if difference > comparison.tolerance
    ]
    if comparison.flips:
        first = comparison.flips[0]
        findings.append(
            f"{len(comparison.flips)} of {comparison.pictures} verdicts differ, none may; first "
            f"{first.picture}: {first.torch_verdict} ({first.torch_score:.6g}) became "
            f"{first.onnx_verdict} ({first.onnx_score:.6g})"
        )
    remedy = (
        "Export again with the torch, onnx and onnxruntime that ssn-edge was tested with"
        if comparison.max_score_difference > comparison.tolerance
        or comparison.max_map_difference > comparison.tolerance
        else "Scores lie too close to the threshold: add calibration pictures, or change the "
        "share of good parts that may be rejected"
    )
    raise ExportError(
        f"the exported graph is not the trained net: {'; '.join(findings)}. "
        f"No package was written. {remedy}"
    )


def _score_difference(wanted: Judgement, found: Judgement) -> float:
    return max(
        _difference(np.float32(each), np.float32(other))
        for each, other in (
            (wanted.classification_logit, found.classification_logit),
            (wanted.map_max_logit, found.map_max_logit),
        )
    )


def _difference(wanted: FloatArray | np.float32, found: FloatArray | np.float32) -> float:
    difference = np.abs(np.subtract(wanted, found, dtype=np.float64))
    return float(np.max(difference / np.maximum(1.0, np.abs(wanted))))
