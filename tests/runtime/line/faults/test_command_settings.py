"""`ssn-edge run` on a camera: settings, shadow mode, alarms and halts reach the guarded line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.settings import DeviceSettings, Fitted, LineSettings
from ssn_edge_runtime.settings_store import SettingsStore

CAMERA = "test:?width=128&height=96&fps=20"


def run(cwd: Path, package: Path, *arguments: str, **options: Any) -> tuple[int, str, str]:
    process = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package", str(package),
         "--keep", "none", "--engine", "onnxruntime-cpu", "--json", *arguments],
        capture_output=True, text=True, check=False, timeout=120, cwd=cwd, **options,
    )  # fmt: skip
    return process.returncode, process.stdout, process.stderr


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in (folder / "decisions.jsonl").read_bytes().splitlines()]


@pytest.fixture
def store(tmp_path: Path, package_path: Path) -> SettingsStore:
    """Settings that fail every part."""
    with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
        fitted = Fitted(Thresholds(-9999.0, 2.0), inspector.engine_name, inspector.engine_sha256)
        settings = DeviceSettings(inspector.package_id, {"fp32": fitted})
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: settings)
    return store


def test_a_guarded_line_judges_with_the_settings_and_says_so_in_each_record(
    store: SettingsStore, tmp_path: Path, package_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        code, out, err = run(
            tmp_path, package_path, "--shadow", "--max-frames", "6",
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        )  # fmt: skip
        manager.setblocking(False)
        told: list[str] = []
        while True:
            try:
                told += manager.recv(999).decode().split("\n")
            except BlockingIOError:
                break
    assert code == 0, err
    assert told.count("READY=1") == 1
    assert told[-1] == "STOPPING=1"
    settings = store.current()
    assert settings is not None
    found = lines(tmp_path / "decisions")
    verdicts = [line for line in found if line["kind"] == "verdict"]
    judged = [line for line in verdicts if line["threshold"] is not None]
    assert {line["settings_id"] for line in verdicts} == {settings.settings_id}
    assert all(line["verdict"] != "pass" for line in verdicts)
    assert all(line["threshold"] == -9999.0 for line in judged)
    (start,) = (line for line in found if line.get("event") == "start")
    assert start["detail"]["shadow"] is True
    (package,) = (line for line in found if line.get("event") == "package")
    assert package["detail"]["settings_id"] == settings.settings_id
    assert "shadow mode: nothing is driven" in err
    assert json.loads(out)["supervision"]["shifts"][0]["parts"] == len(verdicts)


def test_a_guarded_line_halts_at_its_limit(
    store: SettingsStore, tmp_path: Path, package_path: Path
) -> None:
    limits = LineSettings(alarm_after=2, halt_after=4)
    current = store.current()
    assert current is not None
    store.save(lambda _: replace(current, line=limits))
    code, out, err = run(tmp_path, package_path)
    assert code == 4, err
    assert "halted: 4 parts in a row did not pass" in err
    events = [line for line in lines(tmp_path / "decisions") if line["kind"] == "event"]
    alarms = [line["detail"]["halt"] for line in events if line["event"] == "alarm"]
    assert alarms == [False, True]
    assert json.loads(out)["supervision"]["halted"] is not None


def test_settings_of_another_engine_end_a_guarded_line_before_anything_is_written(
    store: SettingsStore, tmp_path: Path, package_path: Path
) -> None:
    def other(before: DeviceSettings | None) -> DeviceSettings:
        assert before is not None
        fitted = replace(before.precisions["fp32"], engine_sha256="1" * 64)
        return replace(before, precisions={"fp32": fitted})

    store.save(other)
    code, _, err = run(tmp_path, package_path, "--max-frames", "3")
    assert code == 5
    assert "recalibrate" in err
    assert not (tmp_path / "decisions" / "decisions.jsonl").exists()


def test_shadow_mode_and_triggers_that_are_answered_exclude_each_other(
    tmp_path: Path, package_path: Path
) -> None:
    code, _, err = run(tmp_path, package_path, "--shadow", "--trigger", "stdin")
    assert code == 2
    assert "--shadow drives nothing" in err
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_replaced_while_the_line_runs_are_taken_and_a_broken_file_is_refused(
    store: SettingsStore, tmp_path: Path, package_path: Path
) -> None:
    first = store.current()
    assert first is not None
    with subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package",
         str(package_path), "--keep", "none", "--engine", "onnxruntime-cpu",
         "--control", "control"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as line:  # fmt: skip
        try:
            assert line.stderr is not None
            assert any("judging with" in said for said in line.stderr)
            _wait_for(tmp_path, lambda line: line.get("raw_score") is not None)
            second = store.save(
                lambda before: replace(
                    first,
                    precisions={
                        "fp32": replace(
                            first.precisions["fp32"], thresholds=Thresholds(9999.0, 2.0)
                        )
                    },
                    line=LineSettings(deadline_ms=750.0, halt_after=1000),
                )
            )
            _wait_for(tmp_path, lambda line: line.get("settings_id") == second.settings_id)
            broken = (tmp_path / "settings.json").with_name("broken")
            broken.write_text("{")
            broken.replace(tmp_path / "settings.json")
            _wait_for(tmp_path, lambda line: "refused" in line.get("detail", ()))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.connect(str(tmp_path / "control"))
                control.sendall(b"recipe unheard\nrecipe\n")
                with control.makefile() as answers:
                    assert "unheard" in answers.readline()
                    assert answers.readline() == "recipe\n"
        finally:
            line.terminate()
            _, complaints = line.communicate(timeout=30)
    assert line.returncode == 0, complaints
    found = lines(tmp_path / "decisions")
    verdicts = [each for each in found if each["kind"] == "verdict"]
    judged = [each for each in verdicts if each["raw_score"] is not None]
    by_id = {first.settings_id: ("fail", -9999.0), second.settings_id: ("pass", 9999.0)}
    assert {each["settings_id"] for each in judged} == set(by_id)
    for record in judged:
        assert (record["verdict"], record["threshold"]) == by_id[record["settings_id"]]
    assert verdicts[-1]["settings_id"] == second.settings_id
    details = [each["detail"] for each in found if each.get("event") == "settings"]
    assert {"deadline_ms": 750.0, "taken": "at the next start"} in details


def _wait_for(folder: Path, is_there: Callable[[dict[str, Any]], bool]) -> None:
    until_s = time.monotonic() + 30
    while not any(is_there(line) for line in lines(folder / "decisions")):
        assert time.monotonic() < until_s
        time.sleep(0.05)
