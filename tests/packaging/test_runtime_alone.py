"""The wheel, and the package of the tests in an environment that has the runtime alone.

Needs an index of Python packages. Where none is reached the tests are skipped, except in CI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.chain import Project, judged

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ROOMS = {
    "ssn_edge": ROOT / "ssn_edge",
    "ssn_edge_calibrate": ROOT / "calibrate" / "ssn_edge_calibrate",
    "ssn_edge_export": ROOT / "export" / "ssn_edge_export",
    "ssn_edge_runtime": ROOT / "runtime" / "ssn_edge_runtime",
}
SUFFIXES = (".py", ".jinja", ".json", ".html", ".css", ".js", ".csv")
NO_INDEX = re.compile(
    "NewConnectionError|Failed to establish|name resolution|Network is unreachable|ProxyError"
    "|ReadTimeout|Could not find a version|No matching distribution"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(Path(sys.executable), "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(folder))
    (found,) = folder.glob("*.whl")
    return found


def oldest_python() -> Path:
    """Python 3.10 if there is one that starts, since it is the oldest we promise; else this one."""
    found = shutil.which("python3.10")
    if found is not None:
        answer = subprocess.run(
            [found, "-c", "import ensurepip, venv"], capture_output=True, check=False
        )
        if answer.returncode == 0:
            return Path(found)
    return Path(sys.executable)


def name_of(interpreter: Path) -> str:
    """For the output of the tests: which Python it was."""
    if interpreter == Path(sys.executable):
        return f"python{sys.version_info.major}.{sys.version_info.minor}"
    return interpreter.name


@pytest.fixture(scope="module", params=[oldest_python()], ids=name_of)
def device(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of a fresh environment with what a device without JetPack installs."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    run(request.param, "-m", "venv", str(folder))
    python = folder / "bin" / "python"
    pip(python, "install", f"ssn-edge[opencv,cpu] @ {wheel.as_uri()}")
    return python


def test_the_wheel_holds_the_four_rooms_and_nothing_else(wheel: Path) -> None:
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in ROOMS.items()
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES or path.name == "py.typed"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    names.discard("ssn_edge/README.md")  # the one room whose README lies in its package
    assert names == expected
    assert {name.split("/")[0] for name in names} == set(ROOMS)
    assert {f"{room}/py.typed" for room in ROOMS} <= names
    assert {"ssn_edge/evaluation/report.html.jinja", "ssn_edge/evaluation/report.css"} <= names
    assert "ssn_edge_runtime/outlets/messages.schema.json" in names
    assert not any(Path(name).name.startswith(("test_", "conftest")) for name in names)


def test_the_wheel_names_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            Path(name).name: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    assert "SuperSimpleNet" in texts["LICENSE"]
    assert "ssn-edge = ssn_edge.cli:main" in texts["entry_points.txt"]
    assert "Requires-Python: >=3.10" in texts["METADATA"]


def test_the_device_has_no_training_stack(device: Path) -> None:
    look = (
        "from importlib.util import find_spec\n"
        "print([m for m in ('torch', 'torchvision', 'timm', 'onnx', 'jinja2') if find_spec(m)])"
    )
    assert run(device, "-c", look).strip() == "[]"


def test_the_device_decides_as_evaluate_did(project: Project, device: Path, tmp_path: Path) -> None:
    run(
        device.with_name("ssn-edge"), "run", "--device", str(project.line),
        "--package", str(project.package), "--output", str(tmp_path), "--json",
    )  # fmt: skip
    found = judged(tmp_path)
    # Another release of the engine may move a score's last bits; no verdict may move.
    for name, each in project.verdicts.items():
        assert found[name].pop("raw_score") == pytest.approx(each["raw_score"], abs=1e-4)
        assert found[name] == {"verdict": each["verdict"], "reason": each["reason"]}
    assert found.keys() == project.verdicts.keys()


def test_on_the_device_the_runtime_opens_and_judges_without_the_command_line(
    project: Project, device: Path
) -> None:
    name, each = next(iter(project.verdicts.items()))
    program = (
        "import sys\n"
        "from ssn_edge_runtime import Inspector, read_picture\n"
        "from pathlib import Path\n"
        "with Inspector.open(sys.argv[1]) as inspector:\n"
        "    print(inspector.inspect(read_picture(Path(sys.argv[2]))).verdict)\n"
        "assert not {'ssn_edge', 'typer', 'torch'} & set(sys.modules)\n"
    )
    said = run(device, "-c", program, str(project.package), str(project.line / name))
    assert said.strip() == each["verdict"]


def test_on_the_device_training_says_what_to_install(project: Project, device: Path) -> None:
    answer = subprocess.run(
        [device.with_name("ssn-edge"), "train", project.data],
        capture_output=True, text=True, check=False, env=clean(), timeout=60,
    )  # fmt: skip
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "pip install 'ssn-edge[train]'" in answer.stderr
    assert answer.stderr.count("\n") == 1


def pip(python: Path, *arguments: str) -> None:
    try:
        run(python, "-m", "pip", *arguments)
    except AssertionError as error:
        if NO_INDEX.search(str(error)) and os.environ.get("CI") != "true":
            pytest.skip(f"pip reaches no index of Python packages: {str(error)[-300:]}")
        raise


def run(program: Path, *arguments: str) -> str:
    answer = subprocess.run(
        [program, *arguments],
        capture_output=True, text=True, check=False, env=clean(), timeout=600,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def clean() -> dict[str, str]:
    """The environment without what would lead a Python to packages that are not its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
