from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def page(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge", "page", *arguments],
        capture_output=True, text=True, check=False, cwd=folder, timeout=60,
    )  # fmt: skip


def test_a_token_is_printed_once_listed_by_name_and_taken_back(tmp_path: Path) -> None:
    made = page(tmp_path, "token", "--role", "engineer", "--name", "anna")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert len(token) > 40
    assert token not in (tmp_path / "page-tokens.json").read_text()
    again = page(tmp_path, "token", "--name", "anna")
    assert again.returncode == 2
    assert "ssn-edge page revoke --name anna" in again.stderr
    (listed,) = json.loads(page(tmp_path, "list", "--json").stdout)["tokens"]
    assert (listed["name"], listed["role"]) == ("anna", "engineer")
    assert page(tmp_path, "revoke", "--name", "anna").returncode == 0
    assert json.loads(page(tmp_path, "list", "--json").stdout) == {"tokens": []}


def test_a_role_or_a_name_that_is_none_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    for arguments in (["--role", "king", "--name", "anna"], ["--name", "an na"]):
        refused = page(tmp_path, "token", *arguments)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
