"""Golden pictures: what a device runs to prove that its engine is the one that was certified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssn_edge_export.scoring import Progress, ScoredPicture, to_pixels
from ssn_edge_export.selection import representatives
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.manifest import ExpectedScores, GoldenPicture
from ssn_edge_runtime.pictures import encode_png, read_picture
from ssn_edge_runtime.preprocess import Geometry

GOLDEN_PICTURES = 64
"""As many as the data allow, up to this."""
MAX_GOLDEN_BYTES = 48 * 1024 * 1024
"""All entries under ``golden/`` together; the first picture is kept whatever its size."""
PNG_COMPRESSION = 6
"""Camera-size pictures travel with every package; the time is spent once."""


def golden_entries(
    scored: Sequence[ScoredPicture],
    *,
    engine: Engine,
    thresholds: Thresholds,
    rule: ScoringRule,
    geometry: Geometry,
    precision: str,
    on_progress: Progress,
) -> tuple[dict[str, bytes], tuple[GoldenPicture, ...]]:
    """Choose golden pictures and write down what the engine makes of them.

    Half are those nearest the image threshold, half are spread over the range of scores. A
    picture that no longer fits under the cap is left out; a smaller one after it may still fit.

    Args:
        scored: Pictures with their scores, at least one; none of the test part.
        engine: What was certified.
        thresholds: The package's.
        rule: The package's scoring rule.
        geometry: The package's.
        precision: The model's name in the manifest.
        on_progress: Called with the stage's name, the steps done and their number.

    Returns:
        Entries of the package: pictures as PNG at camera size (``golden/000.png``), masks as grey
        PNG at network size, 0 or 255 (``golden/000.mask.fp32.png``). And the manifest's part.

    Raises:
        PictureError: A picture can no longer be read.
    """
    order = representatives(
        [each.logit(rule) for each in scored], thresholds.image, GOLDEN_PICTURES
    )
    entries: dict[str, bytes] = {}
    golden: list[GoldenPicture] = []
    golden_bytes = 0
    for done, index in enumerate(order, start=1):
        path = scored[index].picture.path
        frame = read_picture(path)
        pixels = to_pixels(frame, geometry, path)
        judgement = engine.infer(pixels, pixel_threshold=thresholds.pixel)
        mask = np.ascontiguousarray(judgement.defect_mask * np.uint8(255))
        picture_png = encode_png(frame, compression=PNG_COMPRESSION)
        mask_png = encode_png(mask, compression=PNG_COMPRESSION)
        on_progress("golden", done, len(order))
        size = len(picture_png) + len(mask_png)
        if golden and golden_bytes + size > MAX_GOLDEN_BYTES:
            continue
        golden_bytes += size
        stem = f"golden/{len(golden):03d}"
        mask_name = f"{stem}.mask.{precision}.png"
        entries[f"{stem}.png"] = picture_png
        entries[mask_name] = mask_png
        expected = ExpectedScores(
            judgement.classification_logit, judgement.map_max_logit, mask_name
        )
        golden.append(GoldenPicture(f"{stem}.png", {precision: expected}))
    return entries, tuple(golden)
