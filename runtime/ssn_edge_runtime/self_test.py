"""Does an engine give on this device what its package was certified for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import Judgement, ScoringRule, Verdict, decide
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import CertificateError, PackageError, PictureError, ScoreError
from ssn_edge_runtime.manifest import ExpectedScores, Manifest, Tolerance
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.preprocess import FrameError, preprocess


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """What an engine gave on one golden picture, beside what is certified.

    Args:
        picture: The entry's name.
        score_difference: The larger one of both logits' differences.
        mask_share: Share of the mask's pixels that differ; 1 for a mask of another shape.
        verdict: The engine's; None where it gives none.
        expected: The certified one; None where logits and mask contradict each other.
        problem: What lies outside of the package's tolerance; empty if nothing does.
    """

    picture: str
    score_difference: float
    mask_share: float
    verdict: Verdict | None
    expected: Verdict | None
    problem: str


def golden_outcomes(
    package: Package, engine: Engine, precision: str, *, limit: int | None = None
) -> Iterator[GoldenOutcome]:
    """Run golden pictures with the package's own thresholds, one by one.

    How far scores and masks may differ is the manifest's `tolerance` of the precision. A verdict
    may differ only where the expected score lies within it of the image threshold: thresholds are
    often the score of a picture, and the last bit is not certified.

    Args:
        package: Where pictures, expected scores and masks are.
        engine: Its model of this precision, loaded; all places of a batch are filled and compared.
        precision: A name of the manifest's `precisions`.
        limit: How many pictures, spread evenly; None for all.

    Raises:
        EngineError: The engine failed.
        PackageError: The package holds no golden pictures, or they do not fit it.
    """
    golden = package.manifest.golden
    if not golden:
        raise PackageError(
            f"{package.path}: holds no golden pictures, so nothing shows that its model works "
            "here; export the package again"
        )
    count = len(golden) if limit is None else max(1, min(limit, len(golden)))
    for index in np.linspace(0, len(golden) - 1, count).astype(int):
        each = golden[index]
        yield _outcome(package, engine, precision, each.picture, each.expected[precision])


def check_golden(
    package: Package,
    engine: Engine,
    precision: str,
    *,
    limit: int | None = None,
    on_picture: Callable[[GoldenOutcome], None] = lambda outcome: None,
) -> int:
    """Run golden pictures and refuse the engine at the first that comes out differently.

    Args:
        package: Where pictures, expected scores and masks are.
        engine: Its model of this precision, loaded.
        precision: A name of the manifest's `precisions`.
        limit: How many pictures, spread evenly; None for all.
        on_picture: Told each outcome, the bad one included.

    Returns:
        How many were run.

    Raises:
        CertificateError: Another score, verdict or mask than certified.
        EngineError: The engine failed.
        PackageError: The package holds no golden pictures, or they do not fit it.
    """
    count = 0
    for outcome in golden_outcomes(package, engine, precision, limit=limit):
        on_picture(outcome)
        count += 1
        if outcome.problem:
            raise CertificateError(
                f"{engine.name} does not give what {package.manifest.name} ({precision}) was "
                f"certified for: {outcome.picture} {outcome.problem}; reinstall or rebuild the "
                "engine, or choose another one (ssn-edge verify shows which decide right)"
            )
    return count


def judge(engine: Engine, pixels: ByteImage, pixel_threshold: float) -> tuple[Judgement, ...]:
    """One picture in every place of the engine's batch."""
    if engine.batch_size == 1:
        return (engine.infer(pixels, pixel_threshold=pixel_threshold),)
    batch = np.ascontiguousarray(np.broadcast_to(pixels, (engine.batch_size, *pixels.shape)))
    return engine.infer_batch(batch, pixel_threshold=pixel_threshold)


def score_margin(
    rule: ScoringRule, tolerance: Tolerance, classification_logit: float, map_max_logit: float
) -> float:
    """How far the raw score may move when both logits move by what the tolerance allows."""
    margins = [
        weight * tolerance.of_logit(logit)
        for weight, logit in (
            (rule.classification, classification_logit),
            (rule.map_max, map_max_logit),
        )
    ]
    return sum(margins)


def _outcome(
    package: Package, engine: Engine, precision: str, picture: str, expected: ExpectedScores
) -> GoldenOutcome:
    manifest = package.manifest
    thresholds = manifest.precisions[precision].thresholds
    try:
        frame = decode_picture(package.read(picture), picture)
        pixels = preprocess(frame, manifest.geometry)
        wanted_mask = _mask(package, expected.mask)
    except (PictureError, FrameError) as error:
        raise PackageError(f"{package.path}: {error}; export the package again") from error
    frame_size_hw = (frame.shape[0], frame.shape[1])
    certified = Judgement(
        expected.classification_logit,
        expected.map_max_logit,
        _map_of(expected.map_max_logit, wanted_mask, thresholds.pixel),
        wanted_mask.view(np.uint8),
    )
    wanted, _ = _verdict(certified, manifest, precision, frame_size_hw)
    outcomes = [
        _compared(found, picture, expected, wanted_mask, wanted, manifest, precision, frame_size_hw)
        for found in judge(engine, pixels, thresholds.pixel)
    ]
    return max(outcomes, key=lambda each: (each.problem != "", each.score_difference))


def _compared(
    found: Judgement,
    picture: str,
    expected: ExpectedScores,
    wanted_mask: BoolMask,
    wanted: Verdict | None,
    manifest: Manifest,
    precision: str,
    frame_size_hw: tuple[int, int],
) -> GoldenOutcome:
    entry = manifest.precisions[precision]
    problems = []
    differences = []
    for name, got, want in (
        ("classification logit", found.classification_logit, expected.classification_logit),
        ("map maximum", found.map_max_logit, expected.map_max_logit),
    ):
        differences.append(abs(got - want))
        if not abs(got - want) <= entry.tolerance.of_logit(want):  # false for NaN, too
            problems.append(f"has {name} {got:.6g}, {want:.6g} is certified")
    mask_share = 1.0
    if found.defect_mask.shape == wanted_mask.shape:  # else there is no verdict below
        mask_share = float(np.mean(found.defect_mask.astype(np.bool_) != wanted_mask))
        if mask_share > entry.tolerance.mask_share:
            problems.append(
                f"has a mask of which {100 * mask_share:.2f} % differ from the certified one"
            )
    verdict, fault = _verdict(found, manifest, precision, frame_size_hw)
    if verdict is None:
        problems.append(f"has no verdict: {fault}")
    if wanted is None:
        problems.append("was certified with logits and a mask that contradict each other")
    logits = (expected.classification_logit, expected.map_max_logit)
    distance = abs(manifest.scoring_rule.score(*logits) - entry.thresholds.image)
    if verdict is not wanted and distance > score_margin(
        manifest.scoring_rule, entry.tolerance, *logits
    ):
        problems.append(f"has verdict {verdict}, {wanted} is certified")
    return GoldenOutcome(
        picture=picture,
        score_difference=float(np.max(differences)),  # NaN stays NaN
        mask_share=mask_share,
        verdict=verdict,
        expected=wanted,
        problem=problems[0] if problems else "",
    )


def _verdict(
    judgement: Judgement, manifest: Manifest, precision: str, frame_size_hw: tuple[int, int]
) -> tuple[Verdict | None, str]:
    """The verdict with the package's own thresholds; or None, and why there is none."""
    try:
        decision = decide(
            judgement,
            thresholds=manifest.precisions[precision].thresholds,
            rule=manifest.scoring_rule,
            geometry=manifest.geometry,
            frame_size_hw=frame_size_hw,
        )
    except ScoreError as error:
        return None, str(error)
    return decision.verdict, ""


def _map_of(map_max: float, mask: BoolMask, pixel_threshold: float) -> FloatArray:
    """A map with this maximum and this mask: the package keeps no map, `decide` wants one."""
    anomaly_map = np.full(mask.shape, min(map_max, pixel_threshold - 1), dtype=np.float32)
    anomaly_map[mask] = pixel_threshold
    anomaly_map.flat[int(mask.argmax())] = map_max
    return anomaly_map


def _mask(package: Package, name: str) -> BoolMask:
    """A golden mask, (h, w) bool."""
    mask = decode_picture(package.read(name), name)
    if mask.shape != package.manifest.geometry.input_size_hw:
        raise PictureError(f"{name}: has shape {mask.shape}, the network's size is needed")
    return np.asarray(mask > 127)
