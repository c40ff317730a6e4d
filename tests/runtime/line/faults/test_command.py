from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import simulated_line

from ssn_edge_runtime.line.engine_desk import picture_names
from ssn_edge_runtime.line.messages import Message
from ssn_edge_runtime.sinks import audit_log
from ssn_edge_runtime.sinks.base import PictureNames

CAMERA = "test:?fps=30&width=128&height=96"


def start_line(
    package: Path,
    output: Path,
    *more: str,
    device: tuple[str, ...] = (CAMERA,),
    before: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *before,
            *(sys.executable, "-c", "from ssn_edge.cli import main; main()", "run"),
            *("--device", *device, "--package", str(package), "--output", str(output)),
            *more,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )


def _granted(folder: Path) -> dict[str, str]:
    (event,) = [
        each
        for each in simulated_line.read_lines(folder)
        if each.get("event") == "state" and each["detail"]["after"] == "Initialized"  # type: ignore[index]
    ]
    detail = event["detail"]
    assert isinstance(detail, dict)
    return {name: detail[name] for name in ("engine", "camera camera")}


ASKS = ("--realtime", "20", "--lock-memory", "--max-frames", "3", "--keep", "none")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_what_the_system_does_not_grant_is_said_for_each_process_and_the_line_runs_without(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    drop = ("setpriv", "--bounding-set", "-sys_nice,-ipc_lock")
    with start_line(package_path, tmp_path, *ASKS, before=drop) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 0, err
    for name, priority in (("engine", 18), ("camera camera", 19)):
        said = _granted(tmp_path)[name]
        assert f"real-time priority {priority}: not granted" in said
        assert "locked memory: not granted" in said
        assert f"{name}: real-time priority {priority}: not granted" in err
    assert "real-time priority 20: not granted" in err


def test_the_authority_stands_above_the_cameras_and_they_above_the_engine(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with start_line(package_path, tmp_path, *ASKS) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 0, err
    if "real-time priority 20: not granted" in err:
        pytest.skip("this process may not ask for a real-time priority")
    granted = _granted(tmp_path)
    assert "real-time priority 18: granted" in granted["engine"]
    assert "real-time priority 19: granted" in granted["camera camera"]


def wait_until_judging(line: subprocess.Popen[str]) -> None:
    assert line.stderr is not None
    for said in line.stderr:
        if "judging with" in said:
            return
    raise AssertionError(line.wait())


def test_run_takes_triggers_on_stdin_and_answers_each_on_stdout(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with start_line(
        package_path, tmp_path, "--trigger", "stdin", "--deadline-ms", "2000", "--keep", "none"
    ) as line:
        wait_until_judging(line)
        out, err = line.communicate("trigger 17 part-a\n", timeout=30)
    assert line.returncode == 0, err
    assert out.startswith("17 ")
    (record,) = [each for each in simulated_line.read_lines(tmp_path) if each["kind"] == "verdict"]
    assert (record["trigger_id"], record["part_id"]) == (17, "part-a")


def test_run_ends_on_sigterm_with_everything_delivered(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with start_line(package_path, tmp_path, "--trigger", "rate:20", "--json") as line:
        wait_until_judging(line)
        try:
            line.wait(0.5)
        except subprocess.TimeoutExpired:
            line.send_signal(signal.SIGTERM)
        out, err = line.communicate(timeout=30)
    assert line.returncode == 0, err
    lines = simulated_line.read_lines(tmp_path)
    triggers = [each["sequence"] for each in lines if each["kind"] == "trigger"]
    assert triggers == [each["sequence"] for each in lines if each["kind"] == "verdict"]
    assert lines[-1]["event"] == "stop"
    assert json.loads(out)["records"] == len(triggers) > 0


def test_every_picture_that_a_record_names_is_there_when_the_line_has_ended(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    more = ("--keep", "all", "--policy", "every", "--max-frames", "12", "--deadline-ms", "5000")
    with start_line(package_path, tmp_path, *more) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 0, err
    verdicts = [each for each in simulated_line.read_lines(tmp_path) if each["kind"] == "verdict"]
    judged = [each for each in verdicts if each["raw_score"] is not None]
    assert judged
    named = [each[kind] for each in verdicts for kind in ("mask", "overlay") if each[kind]]
    assert {
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "pictures").iterdir()
    } == (set(named))
    for record in judged:
        mask = cv2.imread(str(tmp_path / record["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (96, 128)
        assert (mask != 0).any() == (record["defect_count"] > 0)
        assert record["mask"].startswith(f"pictures/{record['sequence']:09d}_{record['verdict']}_")


def test_an_answer_that_names_a_file_of_another_part_names_none() -> None:
    def names(**fields: object) -> PictureNames:
        return picture_names(Message({"mask": None, "overlay": None, **fields}), 7)

    assert names(mask="pictures/000000007_fail_mask.png") == PictureNames(
        mask="pictures/000000007_fail_mask.png"
    )
    for wrong in (
        "pictures/000000008_fail_mask.png",
        "../000000007_fail_mask.png",
        "pictures/000000007_fail_mask.png\n",
        7,
    ):
        assert names(mask=wrong) == PictureNames()


@pytest.mark.parametrize("device", ["rtsp://127.0.0.1:9/none", "gst:videotestsrc", "genicam:"])
def test_a_camera_whose_library_is_not_installed_is_not_available(
    tmp_path: Path, package_path: Path, device: str
) -> None:
    # As a Python without the distribution's packages; the camera's process sees the same.
    (tmp_path / "gi.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "run", "--device", device, "--package",
         str(package_path), "--output", str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "apt install python3-gi" in done.stderr
    assert not (tmp_path / "out" / "decisions.jsonl").exists()


def test_run_keeps_evidence_of_a_camera_and_the_audit_compares_it(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    log = tmp_path / "log"
    camera = "test:?fps=100&width=128&height=96&fault=incomplete@3x2,incomplete@90x3"
    more = ("--policy", "every", "--max-frames", "100", "--deadline-ms", "5000")
    kept = ("--evidence", "0.1", "--key", str(tmp_path / "key"), "--log-quota", "0.0001")
    for run in (1, 2):  # the second finds segments to delete
        with start_line(package_path, log, *more, *kept, device=(camera,)) as line:
            _, err = line.communicate(timeout=60)
        assert line.returncode == 0, (run, err)
    lines = simulated_line.read_lines(log)
    rejects = {
        each["sequence"]
        for each in lines
        if each["kind"] == "verdict" and each["verdict"] != "pass" and each["frame_index"]
    }
    events = [each for each in lines if each["kind"] == "event"]
    of_kept = {each["detail"]["sequence"] for each in events if each["event"] == "kept"}
    assert rejects
    assert rejects <= of_kept
    assert {int(path.name[:9]) for path in (log / "evidence").iterdir()} == of_kept
    assert min(of_kept) > 5, "the evidence of the first is gone with their records"
    report = audit_log(log, with_evidence=True)
    assert (report.problems, report.evidence) == ((), len(of_kept))


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--keep-log", "name its key: --key FILE"),
        ("--log-quota", "name its key: --key FILE"),
        ("--write-budget", "add --evidence GB"),
    ],
)
def test_bounds_that_nothing_could_keep_are_refused(
    tmp_path: Path, package_path: Path, option: str, wanted: str
) -> None:
    with start_line(package_path, tmp_path / "log", option, "1") as line:
        _, err = line.communicate(timeout=30)
    assert line.returncode == 2
    assert wanted in err
    assert not (tmp_path / "log").exists()
