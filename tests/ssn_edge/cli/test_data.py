"""`ssn-edge data check`: what it prints, writes and ends with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_edge.cli.data import MOST_LINES
from tests.end_to_end.chain import listing, ssn_edge
from tests.ssn_edge.data_check.conftest import Parts, read, surface, write


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    made = Parts(tmp_path / "parts")
    for number in range(6):
        write(made.train(number), surface(number))
    for number in range(2):
        write(made.good(number), surface(100 + number))
        write(made.scratch(number), surface(200 + number))
    return made


def test_sound_data_end_with_code_0_and_a_page(parts: Parts, tmp_path: Path) -> None:
    outcome = ssn_edge("data", "check", "parts", cwd=tmp_path)
    assert outcome.code == 0
    first, *_, last = outcome.out.splitlines()
    assert first.startswith("MVTec layout: 10 pictures, 8 normal")
    assert last == "report: data-check.html"
    page = (tmp_path / "data-check.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")


def test_errors_come_first_a_line_each_and_end_with_code_3(parts: Parts, tmp_path: Path) -> None:
    shutil.copy(parts.train(1), parts.good(1))
    shutil.copy(parts.train(2), parts.train(3))
    parts.train(5).write_bytes(b"")
    outcome = ssn_edge("data", "check", "parts", "--report", "out/page.html", cwd=tmp_path)
    assert outcome.code == 3
    lines = outcome.out.splitlines()
    assert lines[2:5] == [
        "errors (2)",
        "  train/good/005.png: is empty",
        "  test/good/001.png, train/good/001.png: the same picture in train and in test: the test "
        "part then measures what was learnt by heart; keep the picture in one part",
    ]
    assert lines[6].startswith("notes (2)")
    assert lines[7].startswith("  train/good/002.png, train/good/003.png: the same picture within")
    assert lines[-1] == "report: out/page.html"
    assert (tmp_path / "out" / "page.html").is_file()


def test_warnings_alone_end_with_code_0(parts: Parts, tmp_path: Path) -> None:
    write(parts.train(1), surface(1, (64, 30)))
    outcome = ssn_edge("data", "check", "parts", cwd=tmp_path)
    assert outcome.code == 0
    assert "warnings (" in outcome.out


def test_json_alone_is_on_stdout_and_holds_every_finding(parts: Parts, tmp_path: Path) -> None:
    for number in range(MOST_LINES + 5):
        (parts.root / f"train/good/x{number:03d}.png").write_bytes(b"")
    outcome = ssn_edge("data", "check", "parts", "--json", cwd=tmp_path)
    assert outcome.code == 3
    found = json.loads(outcome.out)
    assert found["counts"]["error"] == MOST_LINES + 5
    assert found["report"] == "data-check.html"
    assert found["findings"][0] == {
        "severity": "error",
        "kind": "unreadable",
        "text": "is empty",
        "pictures": ["train/good/x000.png"],
    }
    plain = ssn_edge("data", "check", "parts", cwd=tmp_path)
    assert plain.out.count("is empty") == MOST_LINES
    assert "  ... and 5 more of this kind" in plain.out


def test_a_list_is_read_by_its_columns(parts: Parts, tmp_path: Path) -> None:
    names = [f"train/good/{number:03d}.png" for number in range(6)]
    write(parts.train(4), (read(parts.train(3)) * 0.9).astype("uint8"))
    rows = [f"{name},0,{max(number, 1)}" for number, name in enumerate(names)]
    (parts.root / "list.csv").write_text("\n".join(["image,defect,tile", *rows]))
    arguments = ["data", "check", "parts/list.csv", "--column", "label=defect"]
    outcome = ssn_edge(*arguments, "--column", "group=tile", cwd=tmp_path)
    assert outcome.code == 0
    assert "without a common group" in outcome.out
    assert "5 groups" in outcome.out


def test_without_a_name_the_project_s_data_are_meant(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "ssn-edge.toml").write_text(
        '[data]\npath = "parts"\n[export]\nmax_false_reject = 0.5\n'
    )
    outcome = ssn_edge("data", "check", cwd=tmp_path)
    assert outcome.code == 0
    assert "10 pictures" in outcome.out
    assert "false rejects" not in outcome.out  # the promise is the project's, which they can carry


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 3, ["nowhere: does not exist"]),
        ([], 2, ["no data set was named", "ssn-edge data check DATA"]),
        (["parts", "--mask-above", "300"], 2, ["300"]),
        (["parts", "--column", "label"], 2, ["label=defect"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    parts: Parts, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    before = listing(tmp_path)
    outcome = ssn_edge("data", "check", *arguments, cwd=tmp_path)
    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert listing(tmp_path) == before


def test_a_data_set_of_no_layout_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "cut.png").write_bytes(b"")
    outcome = ssn_edge("data", "check", "papers", cwd=tmp_path)
    assert outcome.code == 3
    assert "is not a data set of a known layout" in outcome.out
    assert "cut.png: is empty" in outcome.out


def test_help_shows_an_example_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ssn_edge.cli import app\ntry:\n    app(['data', 'check', '--help'])\n"
        "finally:\n    print('LOADED', sorted({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Example: ssn-edge data check" in answer.stdout
    assert "LOADED []" in answer.stdout


def test_the_check_needs_no_torch(parts: Parts, tmp_path: Path) -> None:
    """It answers at once, and on a machine without the training stack."""
    code = (
        "import sys\nfrom ssn_edge.cli import app\n"
        "try:\n    app(['data', 'check', 'parts'])\n"
        "finally:\n    print('LOADED', sorted({'torch', 'timm'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert "LOADED []" in answer.stdout, answer.stderr
    assert "report: data-check.html" in answer.stdout
