"""Golden pictures: what a device runs to prove that its engine is the one that was certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssn_edge_export.gate_tolerance import Seen, seen_of
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


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """Who says what is expected of one precision.

    Args:
        engine: Gives the expected scores.
        thresholds: The precision's own.
        others: Run the same precision here: how far they are widens the tolerance.
    """

    engine: Engine
    thresholds: Thresholds
    others: tuple[Engine, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What `golden_entries` gives.

    Args:
        entries: Of the package: pictures as PNG at camera size (``golden/000.png``), masks as grey
            PNG at network size, 0 or 255 (``golden/000.mask.fp32.png``).
        pictures: The manifest's part.
        seen: For each precision, how far other engines here are from its witness.
    """

    entries: dict[str, bytes]
    pictures: tuple[GoldenPicture, ...]
    seen: Mapping[str, Seen]


def golden_entries(
    scored: Sequence[ScoredPicture],
    *,
    witnesses: Mapping[str, Witness],
    thresholds: Thresholds,
    rule: ScoringRule,
    geometry: Geometry,
    on_progress: Progress,
) -> Golden:
    """Choose golden pictures and write down what each precision makes of them.

    Half are those nearest the image threshold, half are spread over the range of scores. A
    picture that no longer fits under the cap is left out; a smaller one after it may still fit.

    Args:
        scored: Pictures with their scores, at least one; none of the test part.
        witnesses: By precision, a name of the manifest's.
        thresholds: Those that the scores are measured from, for the choice.
        rule: The package's scoring rule.
        geometry: The package's.
        on_progress: Called with the stage's name, the steps done and their number.

    Raises:
        PictureError: A picture can no longer be read.
    """
    order = representatives(
        [each.logit(rule) for each in scored], thresholds.image, GOLDEN_PICTURES
    )
    entries: dict[str, bytes] = {}
    golden: list[GoldenPicture] = []
    seen = dict.fromkeys(witnesses, Seen())
    golden_bytes = 0
    for done, index in enumerate(order, start=1):
        path = scored[index].picture.path
        frame = read_picture(path)
        pixels = to_pixels(frame, geometry, path)
        picture_png = encode_png(frame, compression=PNG_COMPRESSION)
        stem = f"golden/{len(golden):03d}"
        expected: dict[str, ExpectedScores] = {}
        masks: dict[str, bytes] = {}
        for precision, witness in witnesses.items():
            threshold = witness.thresholds.pixel
            judgement = witness.engine.infer(pixels, pixel_threshold=threshold)
            name = f"{stem}.mask.{precision}.png"
            mask = np.ascontiguousarray(judgement.defect_mask * np.uint8(255))
            masks[name] = encode_png(mask, compression=PNG_COMPRESSION)
            expected[precision] = ExpectedScores(
                judgement.classification_logit, judgement.map_max_logit, name
            )
            for other in witness.others:
                found = other.infer(pixels, pixel_threshold=threshold)
                seen[precision] |= seen_of(judgement, found)
        on_progress("golden", done, len(order))
        size = len(picture_png) + sum(map(len, masks.values()))
        if golden and golden_bytes + size > MAX_GOLDEN_BYTES:
            continue
        golden_bytes += size
        entries |= {f"{stem}.png": picture_png, **masks}
        golden.append(GoldenPicture(f"{stem}.png", expected))
    return Golden(entries, tuple(golden), seen)
