"""Which models go into a package: thresholds of their own, then the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import carried_threshold, fit_thresholds
from ssn_edge_export.engines_here import CPU, open_here
from ssn_edge_export.export_request import ExportRequest, GateReport, Refusal
from ssn_edge_export.gate import Certified, Contender, Gate
from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_limits import spread_of
from ssn_edge_export.gate_pictures import candidates, choose_pictures, load_pictures
from ssn_edge_export.parse_gate import require_tensorrt_form
from ssn_edge_export.precision_models import PrecisionModel
from ssn_edge_export.reference_graph import InspectionNet
from ssn_edge_export.scoring import LabelledPicture, Progress, ScoredPicture, score_pictures
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.engines import ENGINES
from ssn_edge_runtime.errors import EngineError, ExportError, ScoreError
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME, INT8_OPENVINO, Risk

_SHOWN = 3
"""Findings in a message; the page has all."""


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """A precision that the gate let pass.

    Args:
        model: With how it was made.
        contender: With its thresholds.
        certified: What was measured.
        risk: What the thresholds were fitted for.
    """

    model: PrecisionModel
    contender: Contender
    certified: Certified
    risk: Risk


class Admission:
    """Lets precisions into one package, or refuses them.

    Scoring rule and thresholds of FP32 are fitted when it is made: they are the net's, too, since
    FP32 is refused unless it is the net to a thousandth.

    Args:
        net: In evaluation mode, on the CPU.
        request: What is wanted.
        fp32: The FP32 model.
        on_progress: Called with a stage's name, the steps done and their number.

    Raises:
        ScoreError: The net gives no scores.
        CalibrationError: No threshold lies above the scores.
        PictureError: A picture is unusable.
    """

    def __init__(
        self,
        net: InspectionNet,
        request: ExportRequest,
        fp32: PrecisionModel,
        on_progress: Progress,
    ) -> None:
        self._request = request
        self._progress = on_progress
        self._skipped: list[tuple[str, str]] = []
        self._refusals: list[Refusal] = []
        self._notes: list[str] = []
        size_hw = request.geometry.input_size_hw
        normals = [LabelledPicture(path, 0) for path in request.training_normals]
        with open_here(CPU, fp32.faithful, size_hw, precision="fp32") as engine:
            self.scored = tuple(
                score_pictures(engine, request.calibration, request.geometry, on_progress)
            )
            of_test = score_pictures(
                engine, candidates(request.test), request.geometry, on_progress
            )
        good = [each for each in self.scored if each.picture.label == 0]
        self.rule: ScoringRule = fit_scoring_rule(
            request.scoring,
            [each.classification_logit for each in good],
            [each.map_max_logit for each in good],
        )
        self.thresholds, self._risk = self._fitted(self.scored)
        chosen = choose_pictures(
            self.scored,
            of_test,
            normals,
            rule=self.rule,
            threshold=self.thresholds.image,
            most=request.limits.max_pictures,
            input_size_hw=size_hw,
        )
        pictures = load_pictures(chosen, request.geometry, request.read_truth, on_progress)
        self.pictures: Mapping[str, int] = Counter(
            f"{each.part.value} {'anomalous' if each.label else 'normal'}" for each in pictures
        )
        self.spread = spread_of([each.logit(self.rule) for each in good])
        self._gate = Gate(
            NetJudge(net),
            pictures,
            thresholds=self.thresholds,
            rule=self.rule,
            geometry=request.geometry,
            limits=request.limits,
            spread=self.spread,
            held_out=(*self.scored, *of_test),
            on_progress=on_progress,
        )

    def admit(self, model: PrecisionModel) -> Admitted:
        """Fit a model's thresholds on its own scores and hold it against the net.

        Raises:
            ExportError: TensorRT would not take it, it gives no scores, or decides otherwise beyond
                the limits.
            CalibrationError: No threshold lies above its scores.
        """
        self._notes += model.notes
        if model.precision in ENGINES["tensorrt"].precisions:
            looked_at = require_tensorrt_form(model.model, model.precision)
            model = replace(model, details={**model.details, "tensorrt": looked_at})
        thresholds, risk = self._thresholds_of(model)
        contender = _contender(model, thresholds)
        try:
            certified = self._gate.certify(contender)
        except EngineError as error:
            raise ExportError(
                f"{model.precision} does not run in onnxruntime ({error}); export without "
                f"--{model.precision}"
            ) from error
        self._skipped += certified.skipped
        if certified.findings:
            raise ExportError(self._refusal(model.precision, certified))
        return Admitted(model, contender, certified, risk)

    def compare(self, model: PrecisionModel) -> tuple[ColumnReport, ...]:
        """Measure a graph that does not go into the package, with FP32's thresholds."""
        contender = _contender(model, self.thresholds, is_packed=False)
        return self._gate.certify(contender).columns

    def screens(self, model: PrecisionModel) -> bool:
        """Whether a candidate is within stricter limits on the calibration part."""
        contender = self._candidate(model)
        return contender is not None and self._gate.screens(contender)

    def accepts(self, model: PrecisionModel) -> bool:
        """Whether a candidate is within these, and within the limits on all pictures."""
        contender = self._candidate(model)
        return contender is not None and self._gate.accepts(contender)

    def _candidate(self, model: PrecisionModel) -> Contender | None:
        """With thresholds of its own; None if it gives no scores."""
        try:
            thresholds, _ = self._thresholds_of(model)
        except ExportError:
            return None
        return _contender(model, thresholds)

    def refuse(self, precision: str, why: str) -> None:
        """Remember for the report that a precision does not go into the package."""
        self._refusals.append(Refusal(precision, why))

    def report(self) -> GateReport:
        """What was measured so far, with the worst pictures judged once more."""
        return GateReport(
            name=self._request.name,
            columns=self._gate.reports,
            skipped=tuple(self._skipped),
            refusals=tuple(self._refusals),
            worst=self._gate.worst(),
            limits=self._request.limits,
            pictures=self.pictures,
            pixel_threshold=self.thresholds.pixel,
            notes=tuple(self._notes),
        )

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Precisions that do not go into the package."""
        return tuple(self._refusals)

    def _thresholds_of(self, model: PrecisionModel) -> tuple[Thresholds, Risk]:
        if model.precision == "fp32":
            return self.thresholds, self._risk
        request = self._request
        try:
            with open_here(
                CPU, model.faithful, request.geometry.input_size_hw, precision=model.precision
            ) as engine:
                scored = score_pictures(
                    engine,
                    [each for each in request.calibration if each.label == 0],
                    request.geometry,
                    self._progress,
                    f"the net does not stand {model.precision}",
                )
        except ScoreError as error:
            raise ExportError(
                f"{model.precision} gives no score: {error}. Export without --{model.precision}"
            ) from error
        thresholds, risk = self._fitted(scored)
        before = [each for each in self.scored if each.picture.label == 0]
        carried = carried_threshold(
            [each.logit(self.rule) for each in scored],
            [each.logit(self.rule) for each in before],
            self.thresholds.image,
            request.max_false_reject,
            request.confidence,
        )
        return replace(thresholds, image=carried.value), risk

    def _fitted(
        self, scored: tuple[ScoredPicture, ...] | list[ScoredPicture]
    ) -> tuple[Thresholds, Risk]:
        good = [each for each in scored if each.picture.label == 0]
        return fit_thresholds(
            [each.logit(self.rule) for each in good],
            [each.map_max_logit for each in good],
            self._request.max_false_reject,
            self._request.confidence,
        )

    def _refusal(self, precision: str, certified: Certified) -> str:
        findings = certified.findings
        more = len(findings) - _SHOWN
        listed = "; ".join(findings[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        return f"{_CLAIM[precision]}: {listed}. {self._remedy(precision, certified)}"

    def _remedy(self, precision: str, certified: Certified) -> str:
        if precision != "fp32":
            return (
                f"Export without --{precision}, or add calibration pictures: thresholds that lie "
                "in few scores turn verdicts first"
            )
        exact = self._request.limits.exact
        if any(max(each.logits, each.map_relative) > exact for each in certified.columns):
            return "Export again with the torch, onnx and onnxruntime that ssn-edge was tested with"
        return (
            "Scores lie too close to the threshold: add calibration pictures, or change the share "
            "of good parts that may be rejected"
        )


_CLAIM = {
    "fp32": "the exported graph is not the trained net",
    "fp16": "FP16 does not decide as the trained net does",
    "int8": "INT8 does not decide as the trained net does",
    INT8_OPENVINO: "INT8 of OpenVINO does not decide as the trained net does",
    INT8_ONNXRUNTIME: "INT8 of ONNX Runtime does not decide as the trained net does",
}


def _contender(
    model: PrecisionModel, thresholds: Thresholds, *, is_packed: bool = True
) -> Contender:
    return Contender(
        precision=model.precision,
        graph=model.graph,
        model=model.model,
        faithful=model.faithful,
        thresholds=thresholds,
        is_packed=is_packed,
    )
