"""`ssn-edge reproduce`, and `ssn-edge train` on the published splits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssn_edge.model.backbone import Backbone
from ssn_edge.settings import read_settings
from ssn_edge.training.checkpoint import load_checkpoint
from tests.end_to_end.chain import Outcome, ssn_edge
from tests.ssn_edge.data import published_trees as trees

BACKBONE = "test_resnet"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets and backbone weights."""
    folder = tmp_path_factory.mktemp("workplace")
    for category in ("bottle", "tile"):
        trees.mvtec_category(folder / "mvtec" / category)
    trees.ksdd2(folder / "ksdd2")
    trees.sensum(folder / "sensum")
    trees.visa(folder / "visa", ["candle"])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(Backbone(BACKBONE).extractor.state_dict(), folder / "tiny.safetensors")
    return folder


def tiny(workplace: Path) -> list[str]:
    return [
        *("--backbone", BACKBONE, "--backbone-weights", str(workplace / "tiny.safetensors")),
        *("--epochs", "1", "--input-size", "32", "--batch-size", "4", "--device", "cpu"),
    ]


def reproduce(workplace: Path, cwd: Path, *arguments: str) -> Outcome:
    return ssn_edge("reproduce", *arguments, *tiny(workplace), cwd=cwd)


def test_help_shows_an_example_and_loads_nothing_heavy() -> None:
    ask = """
import sys
from ssn_edge.cli import app
try:
    app(["reproduce", "--help"])
except SystemExit:
    print("LOADED", sorted({"torch", "timm", "numpy", "cv2"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert "Example: ssn-edge reproduce ksdd2" in answer.stdout
    assert "LOADED []" in answer.stdout


def test_the_table_is_printed_with_its_warning_above(workplace: Path, tmp_path: Path) -> None:
    arguments = ["mvtec", "--root", str(workplace / "mvtec"), "--category", "tile", "--seeds", "2"]
    outcome = reproduce(workplace, tmp_path, *arguments)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "SuperSimpleNet (journal variant) on MVTec AD, unsupervised"
    assert lines[1].startswith("NOT THE PUBLISHED PROTOCOL: epochs: 1 instead of 300; ")
    assert any(line.split()[:3] == ["published", "99.13", "±"] for line in lines)
    folder = Path("runs/reproduce-mvtec-unsupervised")
    assert lines[-1] == f"written: {folder}/table.md, {folder}/table.json"
    assert (tmp_path / folder / "tile/seed-1/checkpoint.safetensors").is_file()
    assert "run 2 of 2: tile, seed 1" in outcome.err


def test_json_alone_is_on_stdout(workplace: Path, tmp_path: Path) -> None:
    outcome = reproduce(
        workplace, tmp_path, "ksdd2", "--root", str(workplace / "ksdd2"), "--regime", "mixed",
        "--masks", "16", "--seeds", "7,", "--output", "mixed", "--json",
    )  # fmt: skip
    document = outcome.json()
    assert document["rows"][0]["published"]["ap_loc"] == {"mean": 59.07, "std": 1.5}
    assert document["is_published_protocol"] is False
    assert document["finished_runs"] == 1
    assert (tmp_path / "mixed/all/seed-7/result.json").is_file()


def test_the_same_command_again_trains_nothing(workplace: Path, tmp_path: Path) -> None:
    arguments = ["ksdd2", "--root", str(workplace / "ksdd2"), "--masks", "0", "--seeds", "1"]
    first, second = (reproduce(workplace, tmp_path, *arguments, "--json") for _ in range(2))
    checkpoint = tmp_path / "runs/reproduce-ksdd2-weak/all/seed-0/checkpoint.safetensors"
    assert load_checkpoint(checkpoint).header["regime"] == "weak"
    assert first.json() == second.json()


def test_a_failed_category_ends_with_its_code_after_the_rest(
    workplace: Path, tmp_path: Path
) -> None:
    outcome = reproduce(
        workplace, tmp_path, "mvtec", "--root", str(workplace / "mvtec"),
        "--category", "cable", "--category", "bottle", "--seeds", "1",
    )  # fmt: skip
    assert outcome.code == 3
    assert "bottle (1 run)" in outcome.out
    assert "FAILED: cable, seed 0: " in outcome.out
    assert "1 runs failed; the same command tries them again" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("mnist --root mvtec", 2, "DATASET mnist: one of mvtec, visa, ksdd2, sensum is wanted"),
        ("mvtec --root nowhere", 3, "nowhere: is not a folder"),
        ("visa --root mvtec", 3, "mvtec: holds none of the categories of VisA; wanted mvtec/cand"),
        ("mvtec --root mvtec --category botle", 2, "did you mean 'bottle'?"),
        ("mvtec --root mvtec --regime full", 2, "no defective training pictures"),
        ("ksdd2 --root ksdd2 --regime some", 2, "--regime some: one of unsupervised, weak"),
        ("ksdd2 --root ksdd2 --regime mixed", 2, "needs a choice of masks: 16, 53, 126"),
        ("ksdd2 --root ksdd2 --masks 17", 2, "published for 0, 16, 53, 126, 246"),
        ("ksdd2 --root ksdd2 --variant new", 2, "--variant new: one of journal, conference"),
        ("mvtec --root mvtec --seeds 1,x", 2, "--seeds 1,x: a number of seeds"),
        ("mvtec --root mvtec --seeds 0", 2, "seeds []: one or more are wanted"),
        ("mvtec --root mvtec --seeds 2,2", 2, "each once"),
        ("mvtec --root mvtec --output mvtec", 2, "mvtec holds other things"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_code(
    workplace: Path, command: str, code: int, words: str
) -> None:
    before = sorted(workplace.rglob("*"))
    outcome = reproduce(workplace, workplace, *command.split())
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert outcome.out == ""
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "regime", "train"),
    [
        (["ksdd2", "--mask-split", "16"], "mixed", 8),
        (["ksdd2", "--mask-split", "0"], "weak", 8),
        (["ksdd2"], "full", 8),
        (["sensum/capsule", "--fold", "0", "--mask-split", "20"], "mixed", 10),
        (["sensum/softgel", "--fold", "2"], "full", 10),
    ],
)
def test_train_takes_a_published_split(
    workplace: Path, tmp_path: Path, arguments: list[str], regime: str, train: int
) -> None:
    data, *split = arguments
    outcome = ssn_edge(
        "train", workplace / data, *split, *tiny(workplace), "--output", "run", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    header = load_checkpoint(tmp_path / "run/checkpoint.safetensors").header
    assert header["regime"] == regime
    parts = header["listing"]["parts"]
    assert len(parts["train"]) + len(parts["calibration"]) == train
    noted = read_settings(tmp_path / "ssn-edge.toml").data
    assert noted.fold == (int(split[1]) if "--fold" in split else -1)


def test_train_reads_a_category_of_visa(workplace: Path, tmp_path: Path) -> None:
    outcome = ssn_edge(
        "train", workplace / "visa/candle", *tiny(workplace), "--output", "run", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert outcome.json()["regime"] == "unsupervised"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mvtec/tile", "--fold", "0"], "MVTec layout, which has no folds"),
        (["visa/candle", "--mask-split", "16"], "VisA layout, which has no mask splits"),
        (["sensum/capsule", "--mask-split", "20"], "name the fold, too"),
        (["ksdd2", "--mask-split", "9"], "there are files for 0, 16, 246 masks"),
    ],
)
def test_train_refuses_a_split_that_is_not_there(
    workplace: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    data, *split = arguments
    outcome = ssn_edge("train", workplace / data, *split, *tiny(workplace), cwd=tmp_path)
    assert outcome.code == 2
    assert words in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_finds_the_published_split_again(workplace: Path, tmp_path: Path) -> None:
    ssn_edge(
        "train", workplace / "sensum/capsule", "--fold", "1", *tiny(workplace),
        "--output", "runs/capsule", cwd=tmp_path,
    )  # fmt: skip
    outcome = ssn_edge("evaluate", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["verdicts_by_picture"]) == 5
