"""Does an engine give on this device what its package was certified for?"""

from __future__ import annotations

import numpy as np

from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.decision import Judgement, decide
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import EngineError, PackageError, PictureError, ScoreError
from ssn_edge_runtime.manifest import ExpectedScores
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.preprocess import FrameError, preprocess

SCORE_TOLERANCE = 1e-3
"""In logits, plus as much of the logit: another CPU adds in another order."""
MASK_TOLERANCE = 1e-3
"""Share of the mask's pixels: those whose logit lies on the pixel threshold."""


def check_golden(
    package: Package, engine: Engine, precision: str, *, limit: int | None = None
) -> int:
    """Run golden pictures with the package's own thresholds and compare with what is expected.

    A verdict may differ only where the expected score lies within `SCORE_TOLERANCE` of the image
    threshold: thresholds are often the score of a picture, and the last bit is not certified.

    Args:
        package: Where pictures, expected scores and masks are.
        engine: Its model of this precision, loaded.
        precision: A name of the manifest's `precisions`.
        limit: How many pictures, spread evenly; None for all.

    Returns:
        How many were run.

    Raises:
        EngineError: Another score, verdict or mask than certified.
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
        picture, expected = golden[index].picture, golden[index].expected[precision]
        difference = _difference(package, engine, precision, picture, expected)
        if difference:
            raise EngineError(
                f"{engine.name} does not give what {package.manifest.name} ({precision}) was "
                f"certified for: {picture} {difference}; reinstall the engine, or export and "
                "certify the package with this one"
            )
    return count


def _difference(
    package: Package, engine: Engine, precision: str, picture: str, expected: ExpectedScores
) -> str:
    """How one golden picture comes out differently; empty if it does not."""
    manifest = package.manifest
    thresholds = manifest.precisions[precision].thresholds
    try:
        frame = decode_picture(package.read(picture), picture)
        pixels = preprocess(frame, manifest.geometry)
        wanted_mask = _mask(package, expected.mask)
    except (PictureError, FrameError) as error:
        raise PackageError(f"{package.path}: {error}; export the package again") from error

    found = engine.infer(pixels, pixel_threshold=thresholds.pixel)
    wanted = Judgement(
        classification_logit=expected.classification_logit,
        map_max_logit=expected.map_max_logit,
        anomaly_map=found.anomaly_map,
        defect_mask=wanted_mask.view(np.uint8),
    )
    for name, got, want in (
        ("classification logit", found.classification_logit, expected.classification_logit),
        ("map maximum", found.map_max_logit, expected.map_max_logit),
    ):
        if not abs(got - want) <= _tolerance(want):  # false for NaN, too
            return f"has {name} {got:.6g}, {want:.6g} is certified"
    if found.defect_mask.shape == wanted_mask.shape:  # else there is no verdict below
        differing = float(np.mean(found.defect_mask.astype(np.bool_) != wanted_mask))
        if differing >= MASK_TOLERANCE:
            return f"has a mask of which {100 * differing:.2f} % differ from the certified one"
    try:
        verdicts = [
            decide(
                judgement,
                thresholds=thresholds,
                rule=manifest.scoring_rule,
                geometry=manifest.geometry,
                frame_size_hw=(frame.shape[0], frame.shape[1]),
            ).verdict
            for judgement in (found, wanted)
        ]
    except ScoreError as error:
        return f"has no verdict: {error}"
    want = wanted.logit(manifest.scoring_rule)
    if verdicts[0] is not verdicts[1] and abs(want - thresholds.image) > _tolerance(want):
        return f"has verdict {verdicts[0]}, {verdicts[1]} is certified"
    return ""


def _tolerance(logit: float) -> float:
    return SCORE_TOLERANCE + SCORE_TOLERANCE * abs(logit)


def _mask(package: Package, name: str) -> BoolMask:
    """A golden mask, (h, w) bool."""
    mask = decode_picture(package.read(name), name)
    if mask.shape != package.manifest.geometry.input_size_hw:
        raise PictureError(f"{name}: has shape {mask.shape}, the network's size is needed")
    return np.asarray(mask > 127)
