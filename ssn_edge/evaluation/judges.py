"""Who judges in an evaluation: a package through the runtime, or a checkpoint through PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import fit_thresholds
from ssn_edge_export.scoring import to_pixels
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Reason,
    ScoringMethod,
    ScoringRule,
    Thresholds,
    decide,
    unknown,
)
from ssn_edge_runtime.errors import ScoreError
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import FrameError, Geometry, check_frame, preprocess


class FrameJudge(Protocol):
    """Turns a frame into a decision; `ssn_edge_runtime.Inspector` is one."""

    def inspect(self, frame: ByteImage) -> Decision:
        """Judge one frame, (H, W, 3) BGR or (H, W) uint8."""
        ...


class CheckpointJudge:
    """A trained net in PyTorch, deciding by the runtime's own rule.

    Args:
        net: In evaluation mode, on the CPU.
        geometry: From camera to network pixels.
        rule: Makes the image's score of both logits.
        thresholds: Cut-offs; fit both with `rule_from_normals` where there are none.
    """

    def __init__(
        self, net: SuperSimpleNet, geometry: Geometry, rule: ScoringRule, thresholds: Thresholds
    ) -> None:
        self._judge = NetJudge(net)
        self._geometry = geometry
        self._rule = rule
        self._thresholds = thresholds

    def inspect(self, frame: ByteImage) -> Decision:
        """Judge one frame; what cannot be judged is `unknown`."""
        failure = Reason.BAD_FRAME
        try:
            check_frame(frame)
            failure = Reason.FRAME_SIZE
            pixels = preprocess(frame, self._geometry)
            judgement = self._judge(pixels, pixel_threshold=self._thresholds.pixel)
            return decide(
                judgement,
                thresholds=self._thresholds,
                rule=self._rule,
                geometry=self._geometry,
                frame_size_hw=(frame.shape[0], frame.shape[1]),
            )
        except FrameError as error:
            return unknown(failure, str(error))
        except ScoreError as error:
            return unknown(Reason.INVALID_OUTPUT, str(error))


def rule_from_normals(
    net: SuperSimpleNet,
    geometry: Geometry,
    scoring: ScoringMethod,
    pictures: Iterable[Path],
    max_false_reject: float,
) -> tuple[ScoringRule, Thresholds, Risk]:
    """Fit the scoring rule and both thresholds to a net's own logits of held-out normal pictures.

    A package's numbers are fitted on its exported graph; these are for looking at a checkpoint
    that was not exported yet.

    Raises:
        PictureError: A picture is unreadable, or the geometry does not fit it.
        CalibrationError: There are too few pictures.
    """
    judge = NetJudge(net)
    judged = [
        judge(to_pixels(read_picture(path), geometry, path), pixel_threshold=0.0)
        for path in pictures
    ]
    rule = fit_scoring_rule(
        scoring,
        [each.classification_logit for each in judged],
        [each.map_max_logit for each in judged],
    )
    thresholds, risk = fit_thresholds(
        np.array([each.logit(rule) for each in judged]),
        np.array([each.map_max_logit for each in judged]),
        max_false_reject,
    )
    return rule, thresholds, risk
