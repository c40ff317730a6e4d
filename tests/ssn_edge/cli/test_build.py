"""`ssn-edge build` where there is no GPU, and what it prints where there is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssn_edge.cli import app
from ssn_edge.cli.build import build_lines, parse_bytes
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.certificates import DeviceCertificate
from ssn_edge_runtime.engines.tensorrt_cache import EngineBuild
from ssn_edge_runtime.errors import ConfigError
from tests.end_to_end.chain import Project


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SSN_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("engine", ["auto", "tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_one_line_says_so(project: Project, own_cache: Path, engine: str) -> None:
    if describe_device().gpu is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    done = CliRunner().invoke(app, ["build", str(project.package), "--engine", engine])
    assert done.exit_code == 5
    assert done.stderr == "error: no NVIDIA GPU was found; nvidia-smi must show one\n"
    assert not own_cache.exists()


def test_an_engine_without_a_plan_is_certified(project: Project) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    arguments = ["build", str(project.package), "--engine", "openvino", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert "nothing is built: it is certified" in done.stderr
    assert json.loads(done.stdout)["results"][0]["result"] == "passed"


def test_an_engine_that_is_not_known_is_refused(project: Project) -> None:
    done = CliRunner().invoke(app, ["build", str(project.package), "--engine", "cudnn"])
    assert done.exit_code == 2
    assert "'cudnn' has no plan to build; choose auto, tensorrt or tensorrt-rtx" in done.stderr


def test_a_workspace_that_is_no_size_is_refused(project: Project) -> None:
    done = CliRunner().invoke(app, ["build", str(project.package), "--workspace", "much"])
    assert done.exit_code == 2
    assert "--workspace is 'much'; give a number of bytes, such as 512MiB" in done.stderr


@pytest.mark.parametrize(
    ("text", "count"),
    [("1GiB", 2**30), ("512 mib", 2**29), ("1.5GB", 1_500_000_000), ("2000000", 2_000_000)],
)
def test_sizes_are_read_with_their_units(text: str, count: int) -> None:
    assert parse_bytes(text, "--workspace") == count


@pytest.mark.parametrize("text", ["", "GiB", "1 parsec", "-1GiB"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="give a number of bytes"):
        parse_bytes(text, "--workspace")


def test_what_runs_and_what_was_fallen_from_is_printed() -> None:
    certificate = DeviceCertificate(
        package_id="a" * 64,
        precision="fp16",
        model_sha256="b" * 64,
        engine="tensorrt",
        engine_sha256="c" * 64,
        key_sha256="d" * 64,
        pictures=8,
        score_difference=0.0125,
        mask_share=0.0004,
        near_threshold=0,
        score_tolerance=0.05,
        mask_tolerance=0.001,
        certified_at="2026-11-22T00:00:00Z",
        device={},
    )
    built = EngineBuild(
        engine="tensorrt",
        precision="fp16",
        folder=Path("/cache/abc"),
        plan_bytes=12_300_000,
        was_built=True,
        details={"build_seconds": 93.5},
        layers="38 of 41 convolutions and matrix products in FP16, 3 in FP32",
        certificate=certificate,
        fallen_from={"int8": "tensorrt 10.16.2 cannot build the model: no kernel"},
    )
    assert build_lines(built) == [
        "not int8: tensorrt 10.16.2 cannot build the model: no kernel",
        "tensorrt fp16 built in 93.5 s: 12.3 MB in /cache/abc",
        "runs 38 of 41 convolutions and matrix products in FP16, 3 in FP32",
        "certified on 8 golden pictures: scores off by at most 0.013 (allowed 0.05), masks by "
        "0.040 %",
        "next: ssn-edge run --engine tensorrt --precision fp16",
    ]
