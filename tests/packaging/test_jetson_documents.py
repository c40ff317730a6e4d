"""What an integrator at a Jetson reads and types: commands, options, files, extras are there.

No Jetson, no container and no systemd runs here; the words are held against this repository.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ssn_edge.cli import app

ROOT = Path(__file__).parents[2]
JETSON = ROOT / "runtime" / "jetson"
TEXTS = [JETSON / "README.md", JETSON / "Containerfile", JETSON / "jetson-clocks.service"]
OF_PROGRAMS = re.compile(r"(?<![\w/.-])(?:/opt/ssn-edge/bin/)?ssn-edge +(?=[a-z])")


def project() -> dict[str, object]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Words behind each `ssn-edge`: up to the end of its line, its code span or its comment."""
    text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\s*\\\n\s*", " ", text)
    for begin in OF_PROGRAMS.finditer(text):
        words = re.split(r"[`;|\n]|  +#| {3,}", text[begin.end() :], maxsplit=1)[0]
        yield words.replace("...", " ").rstrip("',.)").split()


def the_command(words: list[str]) -> tuple[Any, list[str]] | None:
    """A command of ours and the words after it; None for prose, and for an image of that name."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        if not words or words[0] not in found.commands:
            return None
        found, words = found.commands[words[0]], words[1:]
    return found, words


def unknown_options(command: Any, words: list[str]) -> list[str]:
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    if "--" in words:
        here, after = words[: words.index("--")], words[words.index("--") + 1 :]
        run = the_command(["run"])
        assert run is not None
        return unknown_options(command, here) + unknown_options(run[0], after)
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    return [f"{command.name} {each}" for each in options if each not in known]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_and_option_is_there(path: Path) -> None:
    seen, wrong = set(), []
    for words in commands(path.read_text(encoding="utf-8")):
        if (found := the_command(words)) is not None:
            seen.add(found[0].name)
            wrong += unknown_options(*found)
    assert wrong == []
    if path.suffix != ".service":
        assert {"doctor", "build", "run"} <= seen  # else nothing was read


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`ssn-edge doctor --kamera x`", ["doctor --kamera"]),
        ("ssn-edge service install --device x --gpio y", ["install --gpio"]),
        ("ssn-edge service install --device x \\\n  -- --gpio y --gpi z", ["run --gpi"]),
        ("/opt/ssn-edge/bin/ssn-edge build p --fast   # --slow", ["build --fast"]),
    ],
)
def test_a_wrong_option_would_be_found(text: str, wrong: list[str]) -> None:
    (words,) = commands(text)
    found = the_command(words)
    assert found is not None
    assert unknown_options(*found) == wrong


@pytest.mark.parametrize("path", TEXTS[:2], ids=lambda path: path.name)
def test_every_extra_is_there(path: Path) -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?:['`.]|ssn-edge|whl\)|`)\[([a-z0-9,]+)\]", text)
    assert named
    assert {each for group in named for each in group.split(",")} <= extras.keys()


def test_every_file_is_there() -> None:
    text = TEXTS[0].read_text(encoding="utf-8")
    links = [JETSON / each for each in re.findall(r"\]\(([^)#]+)", text)]
    named = [ROOT / each for each in re.findall(r"\b(?:tests|runtime)/[\w/.-]+\w", text)]
    named += [JETSON / each for each in re.findall(r"\bconstraints-[\w.]+txt", text)]
    assert links
    assert [path for path in (*links, *named) if not path.exists()] == []


def test_the_recipe_copies_what_is_there_and_what_is_let_through() -> None:
    recipe = TEXTS[1].read_text(encoding="utf-8")
    let = {
        line[1:]
        for line in (JETSON / "Containerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = []
    for words in re.findall(r"^COPY (?!--from)(.+)$", recipe, re.MULTILINE):
        copied += words.split()[:-1]
    assert copied
    for each in copied:
        for jetpack in ("6", "7"):
            assert (ROOT / each.replace("${JETPACK}", jetpack)).exists(), each
        assert each.split("/")[0] in let, each
    for needed in ("pyproject.toml", str(project()["readme"]), "LICENSE", "ssn_edge", "runtime"):
        assert needed in copied  # else no wheel can be built of them


def test_the_images_user_is_the_one_that_the_head_tells_of() -> None:
    recipe = TEXTS[1].read_text(encoding="utf-8")
    numbers = re.findall(r"(?:--[ug]id|-[og]|USER(?: \d+:)?) ?(\d+)", recipe)
    assert len(numbers) >= 7
    assert set(numbers) == {"4711"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_clocks_unit(tmp_path: Path) -> None:
    unit = tmp_path / "jetson-clocks.service"
    text = TEXTS[2].read_text(encoding="utf-8")
    assert "ExecStart=/usr/bin/jetson_clocks" in text
    unit.write_text(text.replace("/usr/bin/jetson_clocks", shutil.which("true") or "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    about_us = [line for line in found.stderr.splitlines() if unit.name in line]
    assert (found.returncode, about_us) == (0, [])
