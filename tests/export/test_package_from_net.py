import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssn_edge_export import (
    input_statistics,
    package_proof,
    precision_models,
)
from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.decision import ScoringMethod, Verdict
from ssn_edge_runtime.errors import ConfigError, DatasetError, ExportError
from ssn_edge_runtime.frame_checks import measure_input
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry, preprocess

ROI = (10, 4, 80, 70)


@pytest.fixture
def traced(model, monkeypatch):
    """Spare tests of other things the seconds of a trace: `small_net()` was exported before."""
    monkeypatch.setattr(
        precision_models,
        "onnx_from_graph",
        lambda _graph, *, input_size_hw, version: model(input_size_hw),
    )


def exported_in_its_place(monkeypatch, sabotage):
    """Let the export write the graph of something else than the net."""
    monkeypatch.setattr(
        precision_models,
        "onnx_from_graph",
        lambda graph, *, input_size_hw, version: onnx_from_graph(
            sabotage(graph), input_size_hw=input_size_hw, version=version
        ),
    )


@pytest.mark.parametrize(
    ("geometry", "scoring"),
    [
        (Geometry((64, 64)), ScoringMethod.CLASSIFICATION),
        (Geometry((96, 64), ROI), ScoringMethod.MAP_MAX),
        (Geometry((64, 64)), ScoringMethod.COMBINED),
    ],
)
def test_the_package_decides_as_the_net_does(small_net, export, line, geometry, scoring):
    net = small_net(geometry.input_size_hw)
    result = export(net, geometry=geometry, scoring=scoring)
    thresholds = result.thresholds
    with Inspector.open(result.package_path) as inspector:
        rule = inspector.scoring_rule
        assert rule.method is scoring
        assert inspector.package_id == result.package_id
        assert inspector.self_test() == result.golden_pictures == 54
        for picture in line[1]:
            frame = read_picture(picture.path)
            judgement = NetJudge(net)(preprocess(frame, geometry), pixel_threshold=thresholds.pixel)
            decision = inspector.inspect(frame)
            if decision.raw_score is None:  # a spot may look like a lamp that failed
                assert picture.label == 1
                continue
            assert decision.raw_score == pytest.approx(judgement.logit(rule), abs=1e-4)
            assert (decision.verdict is Verdict.FAIL) == (judgement.logit(rule) >= thresholds.image)


@pytest.mark.usefixtures("traced")
def test_thresholds_come_from_the_normals_scores(small_net, export, line):
    net = small_net()
    result = export(net)
    geometry = Geometry((64, 64))
    normals = [
        NetJudge(net)(preprocess(read_picture(picture.path), geometry), pixel_threshold=0)
        for picture in line[1]
        if picture.label == 0
    ]
    assert len(normals) == result.risk.normals == 14
    assert result.risk.supported
    assert sum(each.classification_logit >= result.thresholds.image for each in normals) <= 1
    assert sum(each.map_max_logit >= result.thresholds.pixel for each in normals) <= 1


@pytest.mark.usefixtures("traced")
def test_with_a_confidence_the_thresholds_are_those_of_the_risk_bounds(small_net, export):
    """14 normals carry 20 % at 95 %, and 10 % only on average."""
    sure = export(small_net(), confidence=0.95, max_false_reject=0.2)
    assert sure.risk == Risk(0.2, 14, True, 0.95)
    with Package.open(sure.package_path) as package:
        assert package.manifest.precisions["fp32"].risk == sure.risk
    assert not export(small_net(), confidence=0.95).risk.supported


@pytest.mark.usefixtures("traced")
def test_the_certificate_says_what_was_compared_where_and_with_what(small_net, export):
    result = export(small_net())
    with Package.open(result.package_path) as package:
        entry = package.manifest.precisions["fp32"]
        certificate = json.loads(package.read(entry.certificate))
        digest = package.manifest.entries[entry.model]
        assert package.manifest.tools["timm"] == "1.0"
    assert certificate["model_sha256"] == digest.sha256
    assert certificate["schema"] == 2
    assert certificate["graph"] == entry.graph == "reference-2"
    assert certificate["where"] == (
        "measured on the CPU of a workstation; not run on a GPU or Jetson"
    )
    assert certificate["pictures"] == {"calibration normal": 14, "calibration anomalous": 6}
    for column in certificate["columns"]:
        assert column["pictures"] == 20
        assert column["flips"] == []
        assert column["logits"] < 1e-4
    assert certificate["columns"][0]["column"]["engine"] == "onnxruntime-cpu"
    assert certificate["limits"]["exact"] == 1e-3
    assert certificate["tolerance"] == {"score": 1e-3, "mask_share": 1e-3}
    assert certificate["thresholds"]["image"] == result.thresholds.image
    assert certificate["versions"]["torch"] == torch.__version__
    assert {"onnx", "onnxruntime", "opencv"} < set(certificate["versions"])


def test_the_same_net_makes_the_same_model_and_no_path_gets_in(small_net, export, tmp_path):
    twice = [export(small_net(), output=tmp_path / f"{name}.ssn") for name in "ab"]
    entries = []
    for result in twice:
        with Package.open(result.package_path) as package:
            entries.append({name: package.read(name) for name in package.manifest.entries})
    assert entries[0] == entries[1]
    assert str(tmp_path).encode() not in twice[0].package_path.read_bytes()


@pytest.mark.usefixtures("traced")
def test_the_net_of_the_caller_is_left_as_it_was(small_net, export):
    net = small_net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export(net)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.usefixtures("traced")
def test_progress_and_report_are_handed_on(small_net, export):
    seen = []
    result = export(
        small_net(),
        report_html=b"<p>report</p>",
        on_progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    with Package.open(result.package_path) as package:
        assert package.read("report.html") == b"<p>report</p>"
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert [each for each in stages if not each.startswith("verify")] == [
        *("statistics", "trace", "score", "pictures", "golden", "write")
    ]
    for stage in stages:
        last = [each for each in seen if each[0] == stage][-1]
        assert last[1] == last[2]


@pytest.mark.usefixtures("traced")
def test_few_calibration_pictures_are_joined_by_training_normals(small_net, export, line):
    result = export(small_net(), calibration=line[1][:5])
    assert result.pictures == 8
    assert not result.risk.supported


def sabotaged(kind, small_net):
    """What may come between a net and its file."""
    if kind == "other weights":
        other = small_net(seed=1)
        return lambda graph: ReferenceGraph(other).eval()

    def change(graph):
        if kind == "swapped colours":
            graph.rgb_of_bgr.copy_(torch.tensor([0, 1, 2]))
        if kind == "wrong mean":
            graph.shift.add_(0.05)
        if kind == "no scale":
            graph.scale.mul_(255)
        return graph

    return change


@pytest.mark.parametrize("kind", ["other weights", "swapped colours", "wrong mean", "no scale"])
def test_a_sabotaged_export_is_refused_and_leaves_no_file(
    kind, small_net, export, tmp_path, monkeypatch
):
    exported_in_its_place(monkeypatch, sabotaged(kind, small_net))
    with pytest.raises(ExportError, match="not the trained net") as refused:
        export(small_net())
    assert refused.value.exit_code == 4
    assert not (tmp_path / "out").exists()


def test_a_refused_export_leaves_the_earlier_package(small_net, export, monkeypatch):
    earlier = export(small_net())
    data = earlier.package_path.read_bytes()
    exported_in_its_place(monkeypatch, sabotaged("wrong mean", small_net))
    with pytest.raises(ExportError):
        export(small_net())
    assert earlier.package_path.read_bytes() == data
    assert list(earlier.package_path.parent.iterdir()) == [earlier.package_path]


@pytest.mark.usefixtures("traced")
def test_a_package_that_does_not_read_back_is_not_kept(small_net, export, monkeypatch):
    earlier = export(small_net())
    data = earlier.package_path.read_bytes()

    def write_damaged(path, manifest, entries):
        package_id = package_writer(path, manifest, entries)
        written = bytearray(path.read_bytes())
        written[len(written) // 2] ^= 1
        path.write_bytes(written)
        return package_id

    package_writer = package_proof.write_package
    monkeypatch.setattr(package_proof, "write_package", write_damaged)
    with pytest.raises(ExportError, match="nothing was kept"):
        export(small_net())
    assert earlier.package_path.read_bytes() == data
    assert list(earlier.package_path.parent.iterdir()) == [earlier.package_path]


@pytest.mark.usefixtures("traced")
def test_a_package_that_knows_no_normal_picture_is_not_kept(small_net, export, monkeypatch):
    monkeypatch.setattr(
        input_statistics, "measure_input", lambda pixels: measure_input(np.zeros_like(pixels))
    )
    with pytest.raises(ExportError, match="comes out of it as unknown"):
        export(small_net())


def test_a_precision_that_there_is_not_is_a_usage_error(small_net, export):
    with pytest.raises(ConfigError, match="'bf16' is not known; choose of fp32") as refused:
        export(small_net(), precisions=("bf16",))
    assert refused.value.exit_code == 2


def test_a_folder_as_output_is_a_usage_error(small_net, export, tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        export(small_net(), output=tmp_path)


def test_without_normal_pictures_nothing_is_exported(small_net, export, line):
    _, calibration = line
    with pytest.raises(DatasetError, match=r"none is normal.*99 for a promise of 1 %"):
        export(small_net(), calibration=[each for each in calibration if each.label])
    with pytest.raises(DatasetError, match="no normal training picture"):
        export(small_net(), training_normals=[])


@pytest.mark.usefixtures("traced")
def test_a_picture_that_is_gone_is_named(small_net, export, line):
    normals, _ = line
    with pytest.raises(DatasetError, match=r"gone\.png"):
        export(small_net(), training_normals=[*normals, Path("gone.png")])
