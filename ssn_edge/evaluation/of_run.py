"""Evaluate a run's test part: its checkpoint in PyTorch, or a package through the runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ssn_edge
from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.samples import high_pass_baseline
from ssn_edge.data.split import Split, fingerprint
from ssn_edge.evaluation.certificate_summary import (
    CertificateSummary,
    DataPart,
    DataRecord,
    summarise_certificate,
)
from ssn_edge.evaluation.evaluate import Evaluation, evaluate
from ssn_edge.evaluation.judges import CheckpointJudge, rule_from_normals
from ssn_edge.evaluation.report import Baseline, Report
from ssn_edge.evaluation.settings_summary import SettingsSummary, summarise_settings
from ssn_edge.evaluation.summary import report_of
from ssn_edge.evaluation.training_curves import curves_beside
from ssn_edge.risk_words import promise_lines
from ssn_edge.trained import TrainedRun
from ssn_edge_calibrate.metrics import auroc
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.errors import PackageError
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.trust import Trust

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedRun:
    """An evaluation with its report."""

    evaluation: Evaluation
    report: Report
    thresholds: Thresholds
    scoring_rule: ScoringRule

    def verdicts(self, root: Path) -> list[dict[str, object]]:
        """Each picture's verdict by name, for comparison with what `run` decided."""
        return [
            {
                # A list may name pictures that lie elsewhere.
                "image": Path(os.path.relpath(each.item.image, root)).as_posix(),
                "label": each.item.label,
                "verdict": each.decision.verdict.value,
                "reason": each.decision.reason.value,
                "raw_score": each.decision.raw_score,
            }
            for each in self.evaluation.judged
        ]


def evaluate_checkpoint(
    run: TrainedRun,
    *,
    max_false_reject: float,
    commands: Sequence[str] = (),
    on_progress: Progress = lambda done, count: None,
) -> EvaluatedRun:
    """Evaluate the net in PyTorch, with thresholds by rank of the calibration normals.

    Raises:
        DatasetError: No test pictures, or a picture that cannot be used.
        CalibrationError: No normal calibration picture.
    """
    normals = [item for item in run.split.calibration if not item.is_anomalous]
    rule, thresholds, risk = rule_from_normals(
        run.net,
        run.geometry,
        run.scoring,
        [item.image for item in normals],
        max_false_reject,
    )
    judge = CheckpointJudge(run.net, run.geometry, rule, thresholds)
    evaluation = evaluate(
        judge,
        run.split.test,
        mask_rule=run.mask_rule,
        geometry=run.geometry,
        on_progress=on_progress,
    )
    architecture = run.net.architecture
    facts = {
        **_facts(
            data=run.data_root.resolve().name,
            regime=run.regime,
            variant=architecture.variant.value,
            backbone=architecture.backbone,
            geometry=run.geometry,
            training_data=run.training_data,
        ),
        "judged by": "the checkpoint, in PyTorch on the CPU",
    }
    report = _report(run, evaluation, facts, rule, thresholds, risk, commands, run.geometry)
    return EvaluatedRun(evaluation, report, thresholds, rule)


def evaluate_package(
    run: TrainedRun,
    package: Path,
    *,
    engine: str = "auto",
    settings: Path | None = None,
    recipe: str | None = None,
    trust: Trust | None = None,
    commands: Sequence[str] = (),
    with_baseline: bool = False,
    on_progress: Progress = lambda done, count: None,
) -> EvaluatedRun:
    """Evaluate a package as the line runs it: same reader, same engine, same faults.

    Args:
        run: Whose test part is judged.
        package: Of that run.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`.
        settings: A device's, to judge with; None for the package's own thresholds.
        recipe: Which of their recipes.
        trust: Who must have signed the package; None takes it signed or not.
        commands: That repeat it, for the report.
        with_baseline: Whether to measure a simple method, too.
        on_progress: Called with pictures done and in all.

    Raises:
        PackageError: It was made from other training data: its test part is not this run's, or
            nobody who is trusted signed it.
        ConfigError: The settings are for another package, or hold no such recipe.
        EngineError: They were fitted on another engine.
    """
    with Inspector.open(
        package,
        engine=engine,
        settings=settings,
        recipe=recipe,
        trust=None if trust is None else trust.for_a_trial(),
    ) as inspector:
        manifest = inspector.manifest
        if manifest.training_data != run.training_data:
            raise PackageError(
                f"{package} was trained on other data than {run.checkpoint}; its test part is not "
                "this run's. Name the run that it was exported from: --checkpoint"
            )
        evaluation = evaluate(
            inspector,
            run.split.test,
            mask_rule=run.mask_rule,
            geometry=inspector.geometry,
            on_progress=on_progress,
        )
        thresholds, rule = inspector.thresholds, inspector.scoring_rule
        # What the package says of itself: on the same data, another run may have made it.
        facts = {
            **_facts(
                data=run.data_root.resolve().name,
                regime=manifest.regime,
                variant=manifest.variant,
                backbone=manifest.backbone,
                geometry=inspector.geometry,
                training_data=manifest.training_data,
            ),
            "judged by": f"package {package.name} ({inspector.precision}) on "
            f"{inspector.engine_name}",
            "package id": inspector.package_id[:16],
        }
        in_force = summarise_settings(inspector)
        risk = manifest.precisions[inspector.precision].risk if in_force is None else in_force.risk
        with Package.open(package) as opened:
            entry = manifest.precisions[inspector.precision].certificate
            certificate = summarise_certificate(json.loads(opened.read(entry)))
        geometry = inspector.geometry
    baseline = _baseline(run.split.test) if with_baseline else None
    report = _report(
        run,
        evaluation,
        facts,
        rule,
        thresholds,
        risk,
        commands,
        geometry,
        baseline=baseline,
        certificate=certificate,
        settings=in_force,
    )
    return EvaluatedRun(evaluation, report, thresholds, rule)


def _facts(
    *, data: str, regime: str, variant: str, backbone: str, geometry: Geometry, training_data: str
) -> dict[str, str]:
    height, width = geometry.input_size_hw
    roi = geometry.roi_xywh
    return {
        "data": data,
        "regime": regime,
        "variant": variant,
        "backbone": backbone,
        "network input": f"{height} x {width} pixels",
        "region of interest": "whole frame" if roi is None else ",".join(map(str, roi)),
        "training data": training_data[:16],
        "ssn-edge": ssn_edge.__version__,
    }


def _report(
    run: TrainedRun,
    evaluation: Evaluation,
    facts: Mapping[str, str],
    rule: ScoringRule,
    thresholds: Thresholds,
    risk: Risk | None,
    commands: Sequence[str],
    geometry: Geometry,
    *,
    baseline: Baseline | None = None,
    certificate: CertificateSummary | None = None,
    settings: SettingsSummary | None = None,
) -> Report:
    caught = None if settings is None else settings.caught
    promised = promise_lines(risk, caught)
    notes = [
        f"Pictures: the test part ({len(run.split.test)}), which chose nothing: no weight, "
        "threshold, epoch or setting.",
        "Metrics at the network's resolution, over all test pictures; AUPRO exact, to a "
        "false-positive rate of 0.3.",
        *(f"Promised by the thresholds: {line}." for line in promised),
    ]
    if run.is_imported:
        notes.append(
            "The net was trained elsewhere. Nobody here knows on which pictures: if some of these "
            "were among them, all numbers are too good."
        )
    if risk is not None and not risk.supported:
        notes.append(
            "What was asked for is more than so few pictures can promise: the thresholds lie above "
            "all of their scores. Add normal pictures for a promise that holds."
        )
    if settings is not None and settings.has_region:
        notes.append(
            "The device's settings judge a region of the frame: verdicts and scores are of it, the "
            "pixel-level metrics of the whole map."
        )
    without = sum(e.item.is_anomalous and e.gt_mask is None for e in evaluation.judged)
    if without:
        notes.append(f"{without} defective pictures have no mask: no part in pixel-level metrics.")
    notes.append("Measured on a CPU; nothing here was run on a GPU or a Jetson.")
    return report_of(
        evaluation,
        title=f"Evaluation: {run.data_root.resolve().name}",
        facts=facts,
        root=run.data_root,
        mask_rule=run.mask_rule,
        geometry=geometry,
        rule=rule,
        thresholds=thresholds,
        risk=risk,
        baseline=baseline,
        training=curves_beside(run.checkpoint),
        notes=notes,
        commands=commands,
        data=_data_record(run),
        certificate=certificate,
        settings=settings,
    )


def _data_record(run: TrainedRun) -> DataRecord:
    judged = Dataset(run.data_root, "judged", run.split.test, run.mask_rule)
    return DataRecord(
        training=run.training_data,
        judged=fingerprint(judged, Split((), (), run.split.test)),
        parts=tuple(
            DataPart(
                name,
                sum(not item.is_anomalous for item in items),
                sum(item.is_anomalous for item in items),
                len({item.group for item in items}) if _names_groups(items) else None,
            )
            for name, items in run.split.parts()
        ),
    )


def _names_groups(items: Sequence[Item]) -> bool:
    return bool(items) and all(item.group is not None for item in items)


def _baseline(items: Sequence[Item]) -> Baseline | None:
    labels = [item.label for item in items]
    value = auroc(labels, [high_pass_baseline(read_picture(item.image)) for item in items])
    if value is None:
        return None
    return Baseline("maximum of the high-passed picture", value)
