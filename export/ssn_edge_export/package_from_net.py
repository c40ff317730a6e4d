"""A trained net to one model package: traced, calibrated, proven, written, opened again."""

from __future__ import annotations

import copy
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import fit_thresholds
from ssn_edge_export.certificate import certificate_json
from ssn_edge_export.golden import GOLDEN_PICTURES, golden_entries
from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.package_writer import write_package
from ssn_edge_export.reference_graph import InspectionNet, ReferenceGraph
from ssn_edge_export.scoring import (
    LabelledPicture,
    Progress,
    ScoredPicture,
    score_pictures,
    to_pixels,
)
from ssn_edge_export.selection import representatives
from ssn_edge_export.verify import (
    Comparison,
    NetJudge,
    PreparedPicture,
    compare,
    require_equal,
)
from ssn_edge_runtime.decision import ScoringMethod, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.errors import (
    ConfigError,
    DatasetError,
    EngineError,
    ExportError,
    PackageError,
)
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.manifest import InputStatistics, Manifest, PrecisionEntry, Risk
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry

MAX_COMPARED = 200
"""Calibration pictures that net and exported graph are compared on, at most."""
MIN_COMPARED = 8
"""And at least, with normal training pictures where the calibration part has fewer."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A package that was written, and what was found on the way."""

    package_path: Path
    package_id: str
    thresholds: Thresholds
    risk: Risk
    comparison: Comparison
    golden_pictures: int
    model_bytes: int
    seconds: float


def export_package(
    net: InspectionNet,
    *,
    output: Path,
    name: str,
    geometry: Geometry,
    scoring: ScoringMethod,
    variant: str,
    regime: str,
    backbone: str,
    training_data: str,
    training_normals: Iterable[Path],
    calibration: Sequence[LabelledPicture],
    max_false_reject: float = 0.01,
    tools: Mapping[str, str] | None = None,
    report_html: bytes | None = None,
    precision: str = "fp32",
    on_progress: Progress | None = None,
) -> ExportResult:
    """Write a net as one model package, or nothing.

    Both thresholds are fitted on the scores that the exported graph gives in ONNX Runtime. The
    package takes its place only after it was opened and judged a golden picture; whatever fails
    before leaves an earlier package at `output` as it was.

    Args:
        net: The trained net, on any device and in any mode; a copy on the CPU is exported.
        output: The package file, ``.ssn`` by custom. Its folder is made.
        name: The model's name, for people.
        geometry: Camera pixels to network pixels, as in training.
        scoring: How both logits become the image's score.
        variant: Published variant of the architecture, for the record.
        regime: Supervision regime, for the record.
        backbone: Name of the backbone, for the record.
        training_data: Fingerprint of the training data.
        training_normals: Normal pictures of the training part, for the input statistics.
        calibration: Pictures held out of fitting, some normal; never the test part.
        max_false_reject: Share of good parts that may be rejected, for both thresholds.
        tools: Versions of what trained the net, by name; those of the export are added.
        report_html: A page for people, or None.
        precision: Only ``fp32`` so far.
        on_progress: Called with a stage's name, the steps done and their number.

    Raises:
        ConfigError: A precision that comes later, or an output that cannot be a file.
        DatasetError: No normal picture to train or calibrate on, or a picture is unusable.
        CalibrationError: No threshold lies above the scores.
        EngineError: ONNX Runtime is not installed as it must be.
        ScoreError: The exported graph gives NaN.
        ExportError: The net cannot be traced, the graph decides otherwise, or the package cannot
            be written or does not read back.
    """
    started = time.monotonic()
    progress = on_progress or _silent
    normals = [LabelledPicture(path, 0) for path in training_normals]
    _check_request(output, precision, normals, calibration)
    net = _frozen_copy(net)
    statistics = _input_statistics(normals, geometry, progress)
    progress("trace", 0, 1)
    model = onnx_from_graph(ReferenceGraph(net).eval(), input_size_hw=geometry.input_size_hw)
    progress("trace", 1, 1)
    with OnnxRuntimeEngine(model, input_size_hw=geometry.input_size_hw) as engine:
        scored = score_pictures(engine, calibration, geometry, progress)
        good = [each for each in scored if each.picture.label == 0]
        scoring_rule = fit_scoring_rule(
            scoring,
            [each.classification_logit for each in good],
            [each.map_max_logit for each in good],
        )
        thresholds, risk = fit_thresholds(
            [each.logit(scoring_rule) for each in good],
            [each.map_max_logit for each in good],
            max_false_reject,
        )
        compared = _to_compare(scored, normals, scoring_rule, thresholds)
        comparison = compare(
            NetJudge(net),
            engine.infer,
            _prepared(compared, geometry, progress),
            thresholds=thresholds,
            rule=scoring_rule,
            geometry=geometry,
        )
        require_equal(comparison)
        # Where the calibration part is small, training normals fill up: the self-test asks
        # whether an engine gives the same, not whether it is right.
        more = _spread(normals, GOLDEN_PICTURES - len(scored))
        entries, golden = golden_entries(
            [*scored, *score_pictures(engine, more, geometry, progress)],
            engine=engine,
            thresholds=thresholds,
            rule=scoring_rule,
            geometry=geometry,
            precision=precision,
            on_progress=progress,
        )
        engine_name = engine.name
    versions = {**(tools or {}), **_versions()}
    entry = PrecisionEntry(
        f"models/{precision}.onnx", f"certificates/{precision}.json", thresholds, risk
    )
    entries[entry.model] = model
    entries[entry.certificate] = certificate_json(
        comparison,
        compared=compared,
        model=model,
        precision=precision,
        engine_name=engine_name,
        thresholds=thresholds,
        risk=risk,
        rule=scoring_rule,
        versions=versions,
    )
    if report_html is not None:
        entries["report.html"] = report_html
    manifest = Manifest(
        name=name,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        geometry=geometry,
        scoring_rule=scoring_rule,
        precisions={precision: entry},
        variant=variant,
        regime=regime,
        backbone=backbone,
        training_data=training_data,
        input_statistics=statistics,
        golden=golden,
        tools=versions,
    )
    progress("write", 0, 1)
    package_id = _write_proven(output, manifest, entries, normals[0].path)
    progress("write", 1, 1)
    return ExportResult(
        package_path=output,
        package_id=package_id,
        thresholds=thresholds,
        risk=risk,
        comparison=comparison,
        golden_pictures=len(golden),
        model_bytes=len(model),
        seconds=time.monotonic() - started,
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def _check_request(
    output: Path,
    precision: str,
    normals: Sequence[LabelledPicture],
    calibration: Sequence[LabelledPicture],
) -> None:
    """Refuse what can be refused before minutes of work."""
    if precision != "fp32":
        raise ConfigError(
            f"{precision} export comes later; this version writes fp32: leave --{precision} out"
        )
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; name a file in it, such as {output / 'part.ssn'}")
    if not normals:
        raise DatasetError(
            "there is no normal training picture to learn from how the camera's pictures look; "
            "put normal pictures into the training part"
        )
    if not any(picture.label == 0 for picture in calibration):
        raise DatasetError(
            f"of {len(calibration)} calibration pictures none is normal, and thresholds are fitted "
            "on normal ones; put normal pictures into the calibration part, 99 for a promise of 1 %"
        )


def _frozen_copy(net: InspectionNet) -> InspectionNet:
    """A copy on the CPU in evaluation mode; the caller's net stays on its device, in its mode."""
    copied = copy.deepcopy(net)
    if isinstance(copied, nn.Module):
        copied.cpu().eval().requires_grad_(False)
    return copied


def _input_statistics(
    normals: Sequence[LabelledPicture], geometry: Geometry, progress: Progress
) -> InputStatistics:
    measured = []
    for done, picture in enumerate(normals, start=1):
        frame = read_picture(picture.path)
        measured.append(measure_input(to_pixels(frame, geometry, picture.path)))
        progress("statistics", done, len(normals))
    return collect_statistics(measured)


def _to_compare(
    scored: Sequence[ScoredPicture],
    normals: Sequence[LabelledPicture],
    rule: ScoringRule,
    thresholds: Thresholds,
) -> list[LabelledPicture]:
    order = representatives([each.logit(rule) for each in scored], thresholds.image, MAX_COMPARED)
    chosen = [scored[index].picture for index in order]
    return chosen + list(normals[: max(0, MIN_COMPARED - len(chosen))])


def _spread(pictures: Sequence[LabelledPicture], most: int) -> list[LabelledPicture]:
    """At most so many pictures, evenly spaced."""
    if most <= 0:
        return []
    places = np.linspace(0, len(pictures) - 1, min(most, len(pictures)))
    return [pictures[index] for index in places.astype(int)]


def _prepared(
    pictures: Sequence[LabelledPicture], geometry: Geometry, progress: Progress
) -> Iterator[PreparedPicture]:
    for done, picture in enumerate(pictures, start=1):
        frame = read_picture(picture.path)
        pixels = to_pixels(frame, geometry, picture.path)
        yield PreparedPicture(picture.name, pixels, (frame.shape[0], frame.shape[1]))
        progress("verify", done, len(pictures))


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }


def _write_proven(
    output: Path, manifest: Manifest, entries: Mapping[str, bytes], normal: Path
) -> str:
    """Write the package beside its place, use it, and only then put it there."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            written = Path(folder) / output.name
            package_id = write_package(written, manifest, entries)
            _prove(written, package_id, normal)
            written.replace(output)
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error.strerror})") from error
    return package_id


def _prove(written: Path, package_id: str, normal: Path) -> None:
    """Open a package as the line does; a golden picture and a normal one must come out."""
    try:
        with Inspector.open(written) as inspector:  # runs golden pictures
            decision = inspector.inspect(read_picture(normal))
            found_id = inspector.package_id
    except (EngineError, PackageError) as error:
        raise ExportError(
            f"the package was written but does not run ({error}); nothing was kept. Check the disk "
            "and export again"
        ) from error
    if found_id != package_id or decision.verdict is Verdict.UNKNOWN:
        raise ExportError(
            f"the package was written, but {normal} comes out of it as {decision.verdict.value} "
            f"({decision.detail or decision.reason.value}); nothing was kept. A normal training "
            "picture must get a verdict"
        )
