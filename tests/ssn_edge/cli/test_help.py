"""What is said without doing anything: help, version, and at what cost."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import ssn_edge

VERBS = (
    "demo",
    "init",
    "train",
    "import",
    "evaluate",
    "calibrate",
    "reproduce",
    "schema",
    "export",
    "build",
    "benchmark",
    "verify",
    "run",
    "info",
    "audit",
    "sign",
    "backup",
    "restore",
    "replay",
    "review",
    "data check",
    "package list",
    "package use",
    "package rollback",
    "settings show",
    "settings set",
    "settings history",
    "settings rollback",
    "service print",
    "service install",
    "service uninstall",
    "service status",
    "page token",
    "page revoke",
    "page list",
)
HEAVY = ("torch", "timm", "numpy", "cv2", "onnx", "onnxruntime", "ssn_edge_runtime")
_ASK = """
import sys
from ssn_edge.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    print("LOADED", sorted(set({heavy}) & set(sys.modules)))
    sys.exit(end.code)
"""


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which at last says what it loaded."""
    return subprocess.run(
        [sys.executable, "-c", _ASK.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_lists_every_verb_and_says_where_to_begin() -> None:
    answer = ask("--help")
    assert answer.returncode == 0
    for verb in VERBS:
        assert re.search(rf"^\W*{verb.split()[0]}\b", answer.stdout, re.MULTILINE), verb
    assert "ssn-edge demo" in answer.stdout
    assert "LOADED []" in answer.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_helps_with_an_example_and_loads_nothing_heavy(verb: str) -> None:
    answer = ask(*verb.split(), "--help")
    assert answer.returncode == 0
    assert f"Example: ssn-edge {verb}" in answer.stdout
    assert "LOADED []" in answer.stdout


def test_the_version_is_the_packages() -> None:
    answer = ask("--version")
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"ssn-edge {ssn_edge.__version__}\n")
    assert "LOADED []" in answer.stdout


def test_python_m_ssn_edge_is_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == f"ssn-edge {ssn_edge.__version__}\n"


@pytest.mark.parametrize("arguments", [["fly"], ["train", "--fly"], ["run", "--max-frames", "x"]])
def test_a_wrong_call_is_explained_on_stderr_with_code_2(arguments: list[str]) -> None:
    answer = ask(*arguments)
    assert answer.returncode == 2
    assert "Usage" in answer.stderr
    assert "Traceback" not in answer.stderr
