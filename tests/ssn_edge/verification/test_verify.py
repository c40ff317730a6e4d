"""`ssn-edge verify`: which engines decide right here, and what it leaves for `run` and `info`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ssn_edge.cli import app
from ssn_edge.line import run_package
from ssn_edge.line_request import LineRequest
from ssn_edge.package_info import read_info
from ssn_edge.verification import VerifyRequest, verify_package
from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import Package
from ssn_edge_runtime.engines import ENGINES, kinds
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.engines.openvino import missing
from ssn_edge_runtime.errors import EngineError

needs_openvino = pytest.mark.skipif(missing() is not None, reason=str(missing()))

Make = Callable[..., Path]


def ssn_edge(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@needs_openvino
def test_each_engine_here_is_tested_in_each_precision(make_package: Make) -> None:
    done = ssn_edge("verify", make_package(int8_gain=1 / 16))
    assert done.exit_code == 0, done.output
    first, _, *rows = done.stdout.splitlines()
    assert first.endswith("part.ssn: whole and unchanged, not signed")
    found = {tuple(row.split()[:4]) for row in rows}
    for engine in ("openvino", "onnxruntime-cpu"):
        for precision in ("fp32", "int8"):
            assert (engine, precision, "passed", "3") in found
    assert (
        any("onnxruntime-cuda: " in row for row in rows)
        or not ENGINES["onnxruntime-cuda"].missing()
    )


@needs_openvino
def test_the_certificate_says_what_was_run_where_and_how_far_it_was_off(
    make_package: Make, own_cache: Path
) -> None:
    path = make_package()
    document = json.loads(ssn_edge("verify", path, "--engine", "openvino", "--json").stdout)
    (result,) = document["results"]
    certificate = json.loads(Path(result["certificate"]).read_bytes())
    assert Path(result["certificate"]).is_relative_to(own_cache)
    assert certificate["package_id"] == document["package_id"] == Path(result["certificate"]).stem
    with Package.open(path) as package:
        sha256 = package.manifest.entries["models/fp32.onnx"].sha256
    assert certificate["model_sha256"] == certificate["engine_sha256"] == sha256
    assert (certificate["engine"], certificate["precision"]) == ("openvino", "fp32")
    assert certificate["pictures"] == 3
    assert certificate["score_difference"] == result["score_difference"] < 1e-5
    assert certificate["score_tolerance"] == 1e-3
    assert certificate["device"]["processor"]
    assert certificate["device"]["versions"]["openvino"]
    assert certificate["certified_at"].endswith("Z")
    assert certificate["data"] is None
    assert set(document["device"]) == set(certificate["device"])


@needs_openvino
def test_what_was_verified_runs_and_is_in_the_record(
    make_package: Make, parts: Path, tmp_path: Path
) -> None:
    path = make_package()
    request = LineRequest(str(parts), path, tmp_path / "out", engine="openvino", precision="fp32")
    with pytest.raises(EngineError, match=r"ssn-edge verify part\.ssn --engine openvino"):
        run_package(request)
    assert not (tmp_path / "out").exists()
    verify_package(VerifyRequest(path))
    said: list[str] = []
    run_package(request, on_message=said.append)
    assert "fp32 on openvino" in said[0]
    lines = (tmp_path / "out" / "decisions.jsonl").read_text().splitlines()
    records = [each for each in map(json.loads, lines) if each["kind"] == "verdict"]
    with Package.open(path) as package:
        sha256 = package.manifest.entries["models/fp32.onnx"].sha256
    assert [record["verdict"] for record in records] == ["pass", "pass", "fail"]
    assert {record["engine"] for record in records} == {"openvino"}
    assert {record["precision"] for record in records} == {"fp32"}
    assert {record["engine_sha256"] for record in records} == {sha256}


def test_an_engine_that_gives_something_else_is_refused_and_loses_its_certificate(
    make_package: Make, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_package()
    kind = replace(
        ENGINES["onnxruntime-cpu"],
        load=lambda model, slot: FakeEngine((1.5,), input_size_hw=model.input_size_hw),
        needs_certificate=True,
    )
    monkeypatch.setitem(ENGINES, "another", replace(kind, load=ENGINES["onnxruntime-cpu"].load))
    assert ssn_edge("verify", path, "--engine", "another").exit_code == 0
    assert len(list(own_cache.rglob("certificates/*.json"))) == 1
    monkeypatch.setitem(ENGINES, "another", kind)
    done = ssn_edge("verify", path, "--engine", "another")
    assert done.exit_code == 4
    assert "refused" in done.stdout
    assert "golden/000.png has classification logit 1.5" in done.stderr
    assert "nothing here may run the package" in done.stderr
    assert list(own_cache.rglob("certificates/*.json")) == []


def test_an_engine_that_cannot_run_is_told_and_the_rest_is_tested(
    make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(
        ENGINES["onnxruntime-cpu"],
        load=lambda model, slot: FakeEngine(
            (EngineError("the driver is gone"),), input_size_hw=model.input_size_hw
        ),
    )
    monkeypatch.setitem(ENGINES, "broken", broken)
    done = ssn_edge("verify", make_package())
    assert done.exit_code == 5
    assert "the driver is gone" in done.stdout
    assert "failed: broken (fp32): the driver is gone; use one that passed" in done.stderr
    assert "onnxruntime-cpu   fp32             passed" in done.stdout


def test_an_engine_that_gives_nan_is_refused_in_json_too(
    make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = replace(
        ENGINES["onnxruntime-cpu"],
        load=lambda model, slot: FakeEngine((float("nan"),), input_size_hw=model.input_size_hw),
    )
    monkeypatch.setitem(ENGINES, "nan", nan)
    done = ssn_edge("verify", make_package(), "--engine", "nan", "--json")
    assert done.exit_code == 4
    (result,) = json.loads(done.stdout)["results"]
    assert (result["result"], result["score_difference"]) == ("refused", None)


def test_a_plan_that_was_not_built_is_told_with_the_command_that_builds_it(
    make_package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "tensorrt", replace(ENGINES["onnxruntime-cpu"], has_plan=True))
    path = make_package()
    done = ssn_edge("verify", path)
    assert done.exit_code == 0
    assert "tensorrt          fp32             not built" in done.stdout
    assert "ssn-edge build part.ssn --engine tensorrt --precision fp32" in done.stdout
    done = ssn_edge("verify", path, "--engine", "tensorrt")
    assert done.exit_code == 5
    assert "ssn-edge build part.ssn --engine tensorrt --precision fp32" in done.stderr


def test_decisions_on_ones_own_pictures_are_compared_with_the_reference(
    make_package: Make, parts: Path
) -> None:
    (parts / "torn.png").write_bytes((parts / "0.png").read_bytes()[:200])
    done = ssn_edge(
        "verify", make_package(int8_gain=1 / 16), "--data", parts, "--engine", "onnxruntime-cpu"
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.count("data: 4 pictures, 0 decided differently (0 outside") == 2
    assert "data: 1 files cannot be read" in done.stdout


def test_a_precision_that_decides_ones_own_pictures_differently_is_refused(
    make_package: Make, parts: Path, own_cache: Path
) -> None:
    # The golden pictures expect what it gives; only the part with a defect shows that it is blind.
    engine = "onnxruntime-cpu" if missing() else "openvino"
    done = ssn_edge(
        "verify", make_package(int8_gain=1 / 100), "--data", parts, "--engine", engine, "--json"
    )
    assert done.exit_code == 4
    results = {each["precision"]: each for each in json.loads(done.stdout)["results"]}
    assert results["fp32"]["result"] == "passed"
    assert results["int8"]["result"] == "refused"
    (flip,) = results["int8"]["data"]["flips"]
    assert (flip["picture"], flip["reference"], flip["found"]) == ("2.png", "fail", "pass")
    assert flip["distance"] > 1
    assert "first 2.png: fail (+" in done.stderr
    assert "became pass" in done.stderr
    certificates = [json.loads(path.read_bytes()) for path in own_cache.rglob("certificates/*")]
    assert [each["precision"] for each in certificates] == ([] if missing() else ["fp32"])


def test_a_verdict_may_turn_within_the_margin_that_the_export_gate_had(
    make_package: Make, parts: Path
) -> None:
    with_margin = json.dumps({"columns": [{"margin": 5.0}, {"margin": 0.25}]}).encode()
    path = make_package(int8_gain=1 / 100, certificate=with_margin)
    done = ssn_edge(
        *("verify", path, "--data", parts, "--engine", "onnxruntime-cpu", "--precision", "int8")
    )
    assert done.exit_code == 0, done.output
    assert "1 decided differently (0 outside of the margin)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--engine", "tensor"], 2, ["'tensor' is not known", "openvino"]),
        (["--precision", "fp16"], 2, ["'fp16' is not in the package tiny"]),
        (["--data", "nowhere"], 2, ["--data nowhere", "folder"]),
        (["--data", "empty"], 3, ["empty", "no pictures"]),
        (["--data", "torn"], 3, ["torn", "none of its pictures can be read"]),
        (["--engine", "onnxruntime-cuda"], 5, ["onnxruntime-cuda cannot run here", "install"]),
    ],
)
def test_each_mistake_has_its_exit_code_and_says_what_to_do(
    arguments: list[str],
    exit_code: int,
    words: list[str],
    make_package: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "a.png").write_bytes(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, "_version", lambda name: None if "gpu" in name else "1")
    done = ssn_edge("verify", make_package(), *arguments)
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_a_damaged_package_is_unusable(make_package: Make, tmp_path: Path) -> None:
    path = make_package()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.ssn").write_bytes(data)
    assert ssn_edge("verify", tmp_path / "changed.ssn").exit_code == 3
    assert ssn_edge("verify", tmp_path / "nowhere.ssn").exit_code in (2, 3)


def test_a_package_without_golden_pictures_cannot_be_verified(
    make_package: Make, tmp_path: Path
) -> None:
    with Package.open(make_package()) as package:
        manifest = replace(package.manifest, golden=(), entries={})
        entries = {
            name: package.read(name) for name in ("models/fp32.onnx", "certificates/fp32.json")
        }
    path = tmp_path / "blind.ssn"
    write_package(path, manifest, entries)
    done = ssn_edge("verify", path)
    assert done.exit_code == 3
    assert "holds no golden pictures" in done.stderr


@needs_openvino
def test_info_says_what_may_decide_here(make_package: Make) -> None:
    path = make_package(int8_gain=1 / 16)
    before = read_info(path)
    assert (before.auto.engine, before.auto.may_run) == ("auto", "fp32")
    by_name = {each.engine: each for each in before.engines}
    assert by_name["openvino"].may_run == ""
    assert "ssn-edge verify part.ssn" in by_name["openvino"].why
    verify_package(VerifyRequest(path))
    after = read_info(path)
    assert after.auto.may_run == "int8"
    assert "engine openvino" in after.auto.why
    done = ssn_edge("info", path)
    assert "int8" in done.stdout
    assert "a device may differ by 0.01 of a logit and 1 % of a mask" in done.stdout
    document = json.loads(ssn_edge("info", path, "--json").stdout)
    assert document["engines_here"]["openvino"]["precision"] == "int8"
    assert document["is_signed"] is False


def test_info_shows_what_the_export_measured(make_package: Make) -> None:
    certificate = {
        "columns": [
            {
                "column": {"precision": "int8", "graph": "deploy-1", "engine": "openvino"},
                "pictures": 200,
                "score": {"largest": 0.031, "quantile": 0.02, "mean": 0.01},
                "margin": 0.25,
                "flips": [{"is_outside": False}, {"is_outside": False}],
            },
            {"column": "of another version"},
        ],
        "details": {"float_layers": ["layer1.conv", "score_head"]},
    }
    path = make_package(int8_gain=1 / 16, certificate=json.dumps(certificate).encode())
    shown = ssn_edge("info", path).stdout
    assert (
        "certified on 200 pictures with openvino: score off by at most 0.031, 2 verdicts turned, "
        "0 outside of 0.25 around the threshold"
    ) in shown
    assert "certified by a version whose certificate this one cannot show" in shown
    assert "left in float: layer1.conv, score_head" in shown
