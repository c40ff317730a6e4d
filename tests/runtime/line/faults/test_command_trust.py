"""`ssn-edge run` on a camera with trusted keys: settings are taken only with a signature."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import simulated_line

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import sign_settings

CAMERA = "test:?width=128&height=96&fps=20"


def lines(folder: Path) -> list[dict[str, Any]]:
    return simulated_line.read_lines(folder / "decisions", is_running=True)


def wait_for(folder: Path, is_there: Callable[[dict[str, Any]], bool]) -> None:
    until_s = time.monotonic() + 60
    while not any(is_there(line) for line in lines(folder)):
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_guarded_line_takes_replaced_settings_only_with_a_signature(
    tmp_path: Path, package_path: Path
) -> None:
    key = DeviceKey.make(tmp_path / "release.key")
    package = Path(shutil.copy(package_path, tmp_path / "part.ssn"))
    sign_package_file(package, key)
    with Package.open(package) as opened:
        package_id = opened.package_id
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: DeviceSettings(package_id))
    first = store.sign(lambda unsigned: sign_settings(key, unsigned))
    with subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package", "part.ssn",
         "--keep", "none", "--engine", "onnxruntime-cpu", "--trust", "release.key.pub"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as line:  # fmt: skip
        try:
            wait_for(tmp_path, lambda each: each["kind"] == "verdict")
            second = store.save(
                lambda before: replace(before, line=replace(before.line, halt_after=9999))
            )
            wait_for(tmp_path, lambda each: "not signed" in str(each.get("detail")))
            store.sign(lambda unsigned: sign_settings(key, unsigned))
            wait_for(
                tmp_path,
                lambda each: (
                    each["kind"] == "verdict" and each["settings_id"] == second.settings_id
                ),
            )
        finally:
            line.terminate()
            _, complaints = line.communicate(timeout=30)
    assert line.returncode == 0, complaints
    ids = [each["settings_id"] for each in lines(tmp_path) if each["kind"] == "verdict"]
    assert set(ids) == {first.settings_id, second.settings_id}
    assert ids == sorted(ids, key=lambda each: each == second.settings_id)


def test_a_guarded_line_without_a_trusted_signature_writes_nothing(
    tmp_path: Path, package_path: Path
) -> None:
    DeviceKey.make(tmp_path / "release.key")
    done = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package",
         str(package_path), "--engine", "onnxruntime-cpu", "--trust", "release.key.pub",
         "--max-frames", "2"],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "it is not signed" in done.stderr
    assert not (tmp_path / "decisions" / "decisions.jsonl").exists()
