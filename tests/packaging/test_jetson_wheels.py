"""What pip would install on a Jetson, resolved here for its Python; and the same versions run here.

Needs an index of Python packages. Where none is reached the tests are skipped, except in CI. No
Jetson is used: that wheels exist for it, and what versions they have, is all that is shown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.chain import Project, judged
from tests.packaging.test_runtime_alone import NO_INDEX, ROOT, clean, pip, run

pytestmark = pytest.mark.slow

JETSON = ROOT / "runtime" / "jetson"
GLIBC = {"3.10": 35, "3.12": 39}
"""Of Ubuntu 22.04 and 24.04, which JetPack 6 and 7 are made of."""
JETPACKS = [("jetpack6", "3.10"), ("jetpack7", "3.12")]
EXTRAS = "cpu,cuda,v4l2,watch,sign,modbus,gpio,mqtt,opcua"
"""All that a line may need: the container recipe takes most of it."""


def platforms(python: str) -> list[str]:
    """All tags that a pip on the device would take, newest first."""
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC[python], 16, -1)]
    return [*tags, "manylinux2014_aarch64", "linux_aarch64"]


def resolve(
    jetpack: str, python: str, extras: str, folder: Path
) -> tuple[int, dict[str, str], str]:
    """Exit code, versions by name, and what pip said."""
    report = folder / "report.json"
    tags = [word for tag in platforms(python) for word in ("--platform", tag)]
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
            *("--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none", *tags),
            *("--target", str(folder / "target"), "--report", str(report)),
            *("-c", str(JETSON / f"constraints-{jetpack}.txt"), *requirements(extras, python)),
        ],
        capture_output=True, text=True, check=False, timeout=600,
        env=clean() | {"PIP_QUIET": "0"},  # whatever runs the tests: what it says is looked at
    )  # fmt: skip
    said = answer.stdout + answer.stderr
    if not report.exists():
        return answer.returncode, {}, said
    found = json.loads(report.read_text())["install"]
    versions = {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in found}
    for each in found:
        url = each["download_info"]["url"]
        assert re.search(r"(aarch64|none-any)\.whl", url), url
    return answer.returncode, versions, said


def requirements(extras: str, python: str) -> list[str]:
    """The project's own words for what a device needs; its wheel is not of any platform."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = list(project["dependencies"])
    for extra in extras.split(","):
        words += project["optional-dependencies"][extra]
    # pip judges such a marker by the Python that it runs in, and not by --python-version.
    plain = [word.split(";")[0] for word in words if ";" not in word or python == "3.10"]
    return [word for word in plain if word]


def skip_without_index(said: str) -> None:
    if os.environ.get("CI") != "true" and NO_INDEX.search(said):
        pytest.skip(f"pip reaches no index of Python packages: {said[-300:]}")


@pytest.mark.parametrize(("jetpack", "python"), JETPACKS)
def test_there_are_wheels_for_a_jetson(jetpack: str, python: str, tmp_path: Path) -> None:
    code, versions, said = resolve(jetpack, python, EXTRAS, tmp_path)
    if code:
        skip_without_index(said)
    assert code == 0, said
    assert versions["numpy"].startswith("1.26.")
    assert {
        "onnxruntime",
        "cuda-python",
        "cuda-bindings",
        "typer",
        "gpiod",
        "asyncua",
    } <= versions.keys()
    assert versions["cuda-bindings"].startswith("12." if python == "3.10" else "13.")
    names = " ".join(versions)
    assert not re.search(r"tensorrt|opencv|torch|onnxruntime-gpu", names), names


_CONTROLS: dict[str, tuple[int, str]] = {}


def control_of(jetpack: str, python: str, folder: Path) -> tuple[int, str]:
    """What resolves where nothing is to be refused, asked once: else any failure would do."""
    if jetpack not in _CONTROLS:
        code, _, said = resolve(jetpack, python, "v4l2", folder)
        _CONTROLS[jetpack] = code, said
    return _CONTROLS[jetpack]


@pytest.mark.parametrize(("jetpack", "python"), JETPACKS)
@pytest.mark.parametrize("extra", ["opencv", "gpu", "tensorrt"])
def test_what_would_hide_jetpacks_own_is_refused(
    jetpack: str, python: str, extra: str, tmp_path: Path
) -> None:
    control, said = control_of(jetpack, python, tmp_path)
    if control:
        skip_without_index(said)
    assert control == 0, said
    code, _, said = resolve(jetpack, python, extra, tmp_path)
    assert code != 0
    assert re.search(r"constraint\) \S+<0|\S+<0", said), said


def python_3_10() -> Path | None:
    """A Python 3.10 that starts: on the search path of commands, or one that pyenv holds."""
    found = [shutil.which("python3.10")]
    found += map(str, sorted((Path.home() / ".pyenv/versions").glob("3.10.*/bin/python3.10")))
    for each in found:
        if each is None:
            continue
        answer = subprocess.run([each, "-c", "import ensurepip, venv, ssl"], check=False,
                                capture_output=True, timeout=60)  # fmt: skip
        if answer.returncode == 0:
            return Path(each)
    return None


@pytest.mark.parametrize(
    ("numpy", "opencv"),
    [
        # JetPack 6: its OpenCV is 4.8, built for NumPy 1; 1.26 is the last of those.
        pytest.param("1.26.4", "4.8.1.78", marks=pytest.mark.soak),
        # The oldest that the project promises.
        ("1.23.5", "4.8.0.74"),
        # What pip takes for this Python where nothing constrains it.
        pytest.param("2.2.6", "", marks=pytest.mark.soak),
    ],
)
def test_a_package_is_judged_with_the_versions_of_jetpack_6_on_python_3_10(
    numpy: str, opencv: str, project: Project, tmp_path: Path
) -> None:
    interpreter = python_3_10()
    if interpreter is None:
        pytest.skip("there is no Python 3.10 here")
    pip(Path(sys.executable), "wheel", str(ROOT), "--no-deps", "--wheel-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("ssn_edge-*.whl")
    run(interpreter, "-m", "venv", str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    pip(
        python, "install", "--only-binary=:all:", f"ssn-edge[cpu] @ {wheel.as_uri()}",
        f"numpy=={numpy}", "onnxruntime==1.23.2",
        f"opencv-python-headless=={opencv}" if opencv else "opencv-python-headless",
    )  # fmt: skip
    output = tmp_path / "out"
    run(
        python.with_name("ssn-edge"), "run", "--device", str(project.line),
        "--package", str(project.package), "--output", str(output), "--json",
    )  # fmt: skip
    found = judged(output)
    assert found.keys() == project.verdicts.keys()
    for name, each in project.verdicts.items():
        # Another release of the engine may move a score's last bits; no verdict may move.
        assert found[name].pop("raw_score") == pytest.approx(each["raw_score"], abs=1e-4)
        assert found[name] == {"verdict": each["verdict"], "reason": each["reason"]}
    told = json.loads(run(python.with_name("ssn-edge"), "doctor", "--json"))
    levels = {each["area"]: each["level"] for each in reversed(told["findings"])}
    assert (levels["Python"], levels["NumPy"], levels["OpenCV"]) == ("ok", "ok", "ok")
