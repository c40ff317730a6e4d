"""The command on the machine that the tests run on, with real processes and real damage."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.doctor import Host, Level, Wishes, gather, host, judge


def doctor(
    folder: Path, *arguments: str, before: Path | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it with a folder that comes first on Python's search path, or on that of commands."""
    environment = dict(os.environ)
    root = str(Path(__file__).parents[3])
    rooms = [root, *(f"{root}/{each}" for each in ("calibrate", "export", "runtime"))]
    environment["PYTHONPATH"] = ":".join([*([str(before)] if before else []), *rooms])
    environment["SSN_EDGE_CACHE"] = str(folder / "cache")
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge", "doctor", *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=folder, env=environment,
    )  # fmt: skip


def findings(answer: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads(answer.stdout)["findings"]:
        found.setdefault(each["area"], []).append(each)
    return found


def test_it_tells_people_and_machines_the_same(tmp_path: Path) -> None:
    people, machines = doctor(tmp_path), doctor(tmp_path, "--json")
    assert people.returncode == machines.returncode == 0, people.stdout + people.stderr
    document = json.loads(machines.stdout)
    assert document["can_run"]
    told = [line.split()[0] for line in people.stdout.splitlines() if line and line[0] != " "]
    assert told[: len(document["findings"])] == [each["level"] for each in document["findings"]]
    assert "the line can run here" in people.stdout
    assert document["facts"]["python"]["executable"] == sys.executable
    assert not (tmp_path / "decisions").exists()
    assert not (tmp_path / "cache").exists()


def test_two_onnxruntime_distributions_are_found_by_their_metadata(tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-1.31.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    answer = doctor(tmp_path, "--json", before=tmp_path / "site")
    (finding,) = findings(answer)["ONNX Runtime"]
    assert finding["level"] == "warning"
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1" in finding["found"]
    assert "uninstall -y onnxruntime onnxruntime-gpu" in finding["fix"][0]
    assert answer.returncode == 0


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "libGL.so.1"),
        ("import ctypes; ctypes.string_at(0)", "crashed"),
    ],
)
def test_a_broken_opencv_is_a_finding_and_not_the_end(code: str, why: str, tmp_path: Path) -> None:
    module = tmp_path / "site" / "cv2"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text(code + "\n")
    answer = doctor(
        tmp_path, "--json", "--listen", "127.0.0.1:0", "--camera", "test:", before=tmp_path / "site"
    )
    assert answer.returncode == 5, answer.stderr
    found = findings(answer)
    worst = found["OpenCV"][0]
    assert worst["level"] == "problem"
    assert why in worst["found"]
    assert found["address"][0]["level"] == found["camera"][-1]["level"] == "note"
    assert "Traceback" not in answer.stderr


def test_a_command_that_hangs_is_left_behind(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("timedatectl", "chronyc", "systemctl"):
        (programs / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (programs / name).chmod(0o755)
    answer = doctor(tmp_path, "--json", path=programs)
    assert answer.returncode == 0, answer.stderr
    assert findings(answer)["time"][0]["level"] == "note"
    assert findings(answer)["service"][0]["level"] == "note"


def test_a_module_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "onnxruntime"
    module.mkdir()
    (module / "__init__.py").write_text("import time; time.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(host, "IMPORT_TIMEOUT_S", 1.0)
    found = Host().import_module("onnxruntime")
    assert found.error is not None
    assert "took longer" in found.error


def test_an_address_that_is_taken_is_a_problem(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = tmp_path / "s.sock"
        answer = doctor(
            tmp_path, "--json", "--listen", f"127.0.0.1:{port}", "--listen", f"unix:{free}"
        )
    assert answer.returncode == 5
    first, second = findings(answer)["address"]
    assert (first["level"], second["level"]) == ("problem", "ok")
    assert not free.exists()


@pytest.mark.parametrize(
    "arguments", [("--listen", "0.0.0.0:80"), ("--camera", "foo://x"), ("--write-budget", "-1")]
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    answer = doctor(tmp_path, *arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""


def test_a_package_is_looked_into_as_run_would(package_path: Path, tmp_path: Path) -> None:
    report = judge(gather(Wishes(output=tmp_path / "out", package=package_path)))
    (finding,) = [each for each in report.findings if each.area == "package"]
    assert finding.level is Level.OK, finding
    damaged = tmp_path / "part.ssn"
    damaged.write_bytes(package_path.read_bytes()[:-1])
    report = judge(gather(Wishes(output=tmp_path / "out", package=damaged)))
    (finding,) = [each for each in report.findings if each.area == "package"]
    assert finding.level is Level.PROBLEM
    assert not report.can_run


def test_the_doctor_starts_without_numpy_and_opencv(tmp_path: Path) -> None:
    for name in ("numpy", "cv2"):
        module = tmp_path / "site" / name
        module.mkdir(parents=True)
        (module / "__init__.py").write_text("raise ImportError('built for another Python')\n")
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from ssn_edge_runtime.doctor import Wishes, gather, judge\n"
        "from pathlib import Path\n"
        "report = judge(gather(Wishes(output=Path(sys.argv[2]))))\n"
        "levels = {each.area: each.level.value for each in reversed(report.findings)}\n"
        "print(levels['NumPy'], levels['OpenCV'], {'torch', 'typer', 'cv2'} & set(sys.modules))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site"), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}/site:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert (answer.returncode, answer.stdout) == (0, "problem problem set()\n"), answer.stderr
