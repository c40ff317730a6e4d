"""What the local server says: a decision as JSON, and a refusal in the same form."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.loop import LONGEST_DETAIL, Judge
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.record import MAX_DEFECTS
from ssn_edge_runtime.verdict_codes import verdict_code

STAGES = ("receive", "decode", "wait", "preprocess", "infer", "postprocess", "total")
"""Of `timings_ms`: the body's arrival, its decoding, waiting for the engine, the inspector's own
stages, and everything from the request's head until the answer was ready."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body that is no JSON document.

    Args:
        data: All of it.
        media: Its Content-Type.
    """

    data: bytes
    media: str


Answer: TypeAlias = tuple[int, Mapping[str, object] | Content, Sequence[tuple[str, str]]]
"""HTTP status, document and more headers."""


class Refusal(Exception):
    """A request that gets no verdict from the judge: an HTTP status, and `unknown` in the answer.

    Args:
        status: 400 to 599.
        reason: Why the part is unknown.
        detail: One line for a person: what was found, what was wanted.
        headers: More header lines of the answer.
    """

    def __init__(
        self,
        status: int,
        reason: Reason,
        detail: str,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = tuple(headers)


def decision_document(
    decision: Decision,
    judge: Judge | None,
    *,
    part_id: str | None,
    with_mask: bool,
    timings_ms: Mapping[str, float],
) -> dict[str, object]:
    """The answer that a judged frame gets.

    Args:
        decision: The judge's.
        judge: Says with what it decided; None where a line does that elsewhere.
        part_id: As the request gave it.
        with_mask: Whether to add the mask in camera pixels.
        timings_ms: The server's own stages.
    """
    stages = {**decision.timings_ms, **timings_ms}
    document: dict[str, object] = {
        "verdict": decision.verdict.value,
        "verdict_code": int(verdict_code(decision.verdict)),
        "reason": decision.reason.value,
        "detail": " ".join(decision.detail.split())[:LONGEST_DETAIL],
        "part_id": part_id,
        "score": decision.score,
        "raw_score": decision.raw_score,
        "threshold": decision.threshold,
        "zone": decision.zone,
        "defects": [
            {
                "box_xyxy": list(defect.box_xyxy),
                "area_px": defect.area_px,
                "peak": defect.peak,
                "mean": defect.mean,
            }
            for defect in decision.defects[:MAX_DEFECTS]
        ],
        "defect_count": len(decision.defects),
        "timings_ms": {
            stage: None if (ms := stages.get(stage)) is None else round(ms, 3) for stage in STAGES
        },
        **judge_document(judge),
    }
    if with_mask:
        mask = decision.camera_mask()
        document["mask_png"] = (
            None
            if mask is None
            else base64.b64encode(encode_png(mask * np.uint8(255))).decode("ascii")
        )
    return document


def judge_document(judge: Judge | None) -> dict[str, object]:
    """What decides, as in the decision record; nothing is known without a judge."""
    return {
        "package_id": None if judge is None else judge.package_id,
        "precision": None if judge is None else judge.precision,
        "engine": None if judge is None else judge.engine_name,
        "engine_sha256": None if judge is None else judge.engine_sha256,
    }


def refusal_document(
    refusal: Refusal, judge: Judge | None, *, part_id: str | None
) -> dict[str, object]:
    """The answer that a refused request gets: every field of a decision, and no verdict but one."""
    return decision_document(
        unknown(refusal.reason, refusal.detail),
        judge,
        part_id=part_id,
        with_mask=False,
        timings_ms={},
    )
