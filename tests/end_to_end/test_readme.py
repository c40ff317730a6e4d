"""What the README shows, done as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np

from ssn_edge.cli import app
from ssn_edge_runtime import read_picture
from tests.end_to_end.chain import Project, working_in

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs_and_accepts_what_evaluate_passed(project: Project) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for name, found in project.verdicts.items():
        accepted: list[str] = []
        names = {
            "frame": read_picture(project.line / name),
            "part_id": name,
            "accept": accepted.append,
        }
        with working_in(project.root):
            exec(compile(code, "README.md", "exec"), names)
        assert accepted == ([name] if found["verdict"] == "pass" else [])


def test_the_example_accepts_no_black_frame(project: Project) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    accepted: list[str] = []
    names = {
        "frame": np.zeros((96, 96, 3), dtype=np.uint8),
        "part_id": "dark",
        "accept": accepted.append,
    }
    with working_in(project.root):
        exec(compile(code, "README.md", "exec"), names)
    assert accepted == []


def test_each_verb_that_the_readme_types_exists() -> None:
    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback}
    verbs |= {group.name for group in app.registered_groups if group.name}
    shown = set(re.findall(r"^ssn-edge (\w+)", README, re.MULTILINE))
    assert shown >= {"data", "train", "evaluate", "export", "verify", "build", "benchmark", "run"}
    assert shown <= verbs


def test_ci_takes_both_commands_from_the_readme() -> None:
    for name, last in (("demo", r"ssn-edge demo"), ("tests", r"python -m pytest -n \d .*")):
        command = re.search(rf"<!-- command: {name} -->\n```sh\n(.*)\n```", README)
        assert command is not None
        assert re.search(rf" && \.venv/bin/{last}$", command[1])
        assert subprocess.run(["bash", "-n", "-c", command[1]], check=False).returncode == 0
