"""A trained net whose export was spoilt: the command line refuses it, and nothing is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssn_edge_export import GraphKind, precision_models
from ssn_edge_export.reference_graph import ReferenceGraph
from tests.end_to_end.chain import Outcome, Project, ssn_edge


def wrong_corners(net, kind: GraphKind) -> ReferenceGraph:
    """The deploy graph with its upscaling from pixel centres instead of corner to corner."""
    other = copy.deepcopy(net)
    if kind is GraphKind.DEPLOY:
        other.features.align_corners = not other.features.align_corners
    return inspection_graph(other, kind)


def swapped_colours(net, kind: GraphKind) -> ReferenceGraph:
    """Blue for red."""
    graph = inspection_graph(net, kind)
    graph.rgb_of_bgr.copy_(torch.tensor([0, 1, 2]))
    graph.scale.mul_(torch.tensor([1.0, 1.1, 1.2]).reshape(1, 3, 1, 1))  # the samples are grey
    return graph


inspection_graph = precision_models.inspection_graph


@pytest.fixture
def spoilt(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Export the project's run with a spoilt graph, over an earlier package."""

    def call(spoil: Callable[..., ReferenceGraph], *options: str) -> Outcome:
        monkeypatch.setattr(precision_models, "inspection_graph", spoil)
        (tmp_path / "part.ssn").write_bytes(b"the package of yesterday")
        return ssn_edge(
            "export", "--checkpoint", project.checkpoint, "--output", tmp_path / "part.ssn",
            *options, cwd=tmp_path,
        )  # fmt: skip

    return call


@pytest.mark.parametrize("spoil", [wrong_corners, swapped_colours])
def test_a_spoilt_graph_is_refused_with_code_4_and_a_page_that_shows_it(
    spoil: Callable[..., ReferenceGraph], spoilt: Callable[..., Outcome], tmp_path: Path
) -> None:
    outcome = spoilt(spoil)
    assert outcome.code == 4
    error = next(line for line in outcome.err.splitlines() if line.startswith("error: "))
    assert "the exported graph is not the trained net: fp32 deploy-1 on onnxruntime-cpu" in error
    assert "0.001 is allowed" in error
    assert "No package was written; look at " in error
    assert outcome.err.endswith(f"{error}\n")
    assert (tmp_path / "part.ssn").read_bytes() == b"the package of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"part.ssn", "part.gate.html"}
    page = (tmp_path / "part.gate.html").read_text(encoding="utf-8")
    assert "the exported graph is not the trained net" in page
    assert page.count("<img ") > 3


def test_an_export_that_cannot_be_written_is_told_with_code_5(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    outcome = ssn_edge(
        "export", "--checkpoint", project.checkpoint, "--output", "file/part.ssn", cwd=tmp_path
    )
    assert outcome.code == 5
    assert "file/part.ssn cannot be written" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_fp16_goes_into_the_package_with_numbers_of_its_own(
    project: Project, tmp_path: Path
) -> None:
    outcome = ssn_edge(
        "export", "--fp16", "--checkpoint", project.checkpoint, "--output", tmp_path / "part.ssn",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    precisions = outcome.json()["precisions"]
    assert list(precisions) == ["fp32", "fp16"]
    assert precisions["fp16"]["model_bytes"] < 0.7 * precisions["fp32"]["model_bytes"]
    assert precisions["fp16"]["columns"][0]["score"]["largest"] > 1e-6
    assert outcome.json()["compared"][0]["column"]["graph"] == "reference-2"
    for precision in ("fp32", "fp16"):
        judged = ssn_edge(
            "run", "--device", project.line, "--package", tmp_path / "part.ssn", "--engine",
            "onnxruntime-cpu", "--precision", precision, "--output", tmp_path / precision,
            "--json", cwd=tmp_path,
        )  # fmt: skip
        assert judged.code == 0, judged.err
