"""The Python controller runs on a real package, as a user would start it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ssn_edge_runtime.arrays import ByteImage

SOURCE = Path(__file__).parents[3] / "runtime" / "examples" / "controller.py"


@pytest.fixture
def parts(tmp_path: Path, part: Callable[..., ByteImage]) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    cv2.imwrite(str(folder / "1_good.png"), part(11))
    cv2.imwrite(str(folder / "2_bad.png"), part(12, defect=True))
    cv2.imwrite(str(folder / "3_good.png"), part(13))
    (folder / "4_torn.png").write_bytes((folder / "3_good.png").read_bytes()[:-40])
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(SOURCE), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_it_accepts_good_parts_alone(package_path: Path, parts: Path) -> None:
    answer = run(package_path, parts, 20_000)
    assert (answer.returncode, answer.stdout) == (0, "1_good.png\n3_good.png\n")
    assert answer.stderr == "2 of 4 parts accepted\n"


def test_a_pass_that_comes_too_late_is_none(package_path: Path, parts: Path) -> None:
    answer = run(package_path, parts, 0)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_a_package_that_was_changed_is_one_line_and_nothing_is_accepted(
    package_path: Path, parts: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "part.ssn"
    changed.write_bytes(package_path.read_bytes() + b"\0")
    answer = run(changed, parts, 20_000)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (3, "", 1)
    assert run().returncode == 2
