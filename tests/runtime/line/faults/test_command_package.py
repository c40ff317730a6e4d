"""`ssn-edge package`: a device's packages with their settings, also beside a line that runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import simulated_line

from ssn_edge.package_rollback import RollbackRequest, roll_back
from ssn_edge.packages import PackageStore
from ssn_edge_runtime.errors import ConfigError, PackageError, SourceError
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings import DeviceSettings, LineSettings
from ssn_edge_runtime.settings_store import SettingsStore

CAMERA = "test:?width=128&height=96&fps=40"


@pytest.fixture
def other(
    tmp_path: Path, make_package: Callable[..., Path], tiny_model: Callable[..., onnx.ModelProto]
) -> Path:
    model = tiny_model(gain=1 / 20).SerializeToString()
    return Path(shutil.move(make_package(model=model), tmp_path / "other.ssn"))


@pytest.fixture
def device(tmp_path: Path, package_path: Path) -> Path:
    folder = tmp_path / "device"
    folder.mkdir()
    shutil.copy(package_path, folder / "part.ssn")
    return folder


def id_of(path: Path) -> str:
    with Package.open(path) as package:
        return package.package_id


def store_of(device: Path) -> PackageStore:
    return PackageStore(device / "part.ssn", device / "settings.json")


def test_a_package_comes_and_goes_with_its_settings(device: Path, other: Path) -> None:
    store, settings = store_of(device), SettingsStore(device / "settings.json")
    old_id, new_id = id_of(device / "part.ssn"), id_of(other)
    first = settings.save(lambda _: DeviceSettings(old_id, line=LineSettings(halt_after=7)))
    store.use(other, note="a better one")
    assert id_of(device / "part.ssn") == new_id
    assert settings.current() is None  # those of the package before are not for it
    settings.save(lambda _: DeviceSettings(new_id, line=LineSettings(halt_after=9)))
    back = roll_back(store, RollbackRequest())
    assert (back.package_id, back.settings_version) == (old_id, first.version)
    assert id_of(device / "part.ssn") == old_id
    assert settings.current() == first
    again = store.use(other)  # its settings were kept
    assert again.settings_version == 2
    current = settings.current()
    assert current is not None
    assert current.line.halt_after == 9
    assert [each.package_id for each in store.history()] == [old_id, new_id, old_id, new_id]
    roll_back(store, RollbackRequest(to=1))
    assert id_of(device / "part.ssn") == old_id


def test_the_history_knows_what_was_in_force_when_another_package_came(
    device: Path, other: Path, make_package: Callable[..., Path]
) -> None:
    store, settings = store_of(device), SettingsStore(device / "settings.json")
    old_id = id_of(device / "part.ssn")
    for halt_after in (7, 8):
        last = settings.save(
            lambda _, n=halt_after: DeviceSettings(old_id, line=LineSettings(halt_after=n))
        )
    store.use(other)
    assert store.history()[0].settings_version == last.version == 2
    newer = settings.save(lambda _: DeviceSettings(id_of(other), line=LineSettings(halt_after=9)))
    by_hand = make_package(golden_frames=())
    shutil.copy(by_hand, device / "part.ssn")
    (device / "settings.json").unlink()
    back = roll_back(store, RollbackRequest())
    assert (back.package_id, back.settings_version) == (id_of(other), None)
    settings.roll_back(newer.version)
    again = roll_back(store, RollbackRequest())
    assert again.package_id == id_of(by_hand)
    assert store.history()[-2].settings_version == newer.version
    assert id_of(device / "part.ssn") == id_of(by_hand)
    (device / "part.ssn").write_bytes(b"what a dying disk left")
    assert roll_back(store, RollbackRequest(to=1)).package_id == old_id
    assert settings.current() == last


def test_what_cannot_be_used_changes_nothing(device: Path, other: Path) -> None:
    store = store_of(device)
    before = (device / "part.ssn").read_bytes()
    with pytest.raises(ConfigError, match="no package 0 to go back to"):
        roll_back(store, RollbackRequest(to=0))
    with pytest.raises(ConfigError, match="no package before the one in force"):
        roll_back(store, RollbackRequest())
    with pytest.raises(SourceError, match="no line answers there"):
        store.use(other, control=device / "control")
    data = bytearray(other.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    with pytest.raises(PackageError):
        store.use(other)
    assert (device / "part.ssn").read_bytes() == before
    assert store.history() == ()
    (device / "packages").mkdir(exist_ok=True)
    (device / "packages" / "history.json").write_text("{")
    with pytest.raises(ConfigError, match="is no history"):
        store.history()


def ssn_edge(device: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge", *arguments],
        capture_output=True, text=True, check=False, timeout=200, cwd=device,
    )  # fmt: skip


def lines(device: Path) -> list[dict[str, Any]]:
    return simulated_line.read_lines(device / "decisions", is_running=True)


def test_a_running_line_takes_it_first_and_the_file_follows(
    device: Path, other: Path, make_package: Callable[..., Path]
) -> None:
    old_id, new_id = id_of(device / "part.ssn"), id_of(other)
    bad = make_package(golden_frames=())
    with subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package", "part.ssn",
         "--keep", "none", "--engine", "onnxruntime-cpu", "--control", "control"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=device,
    ) as line:  # fmt: skip
        try:
            until_s = time.monotonic() + 60
            while not any(each["kind"] == "verdict" for each in lines(device)):
                assert time.monotonic() < until_s
                time.sleep(0.05)
            refused = ssn_edge(device, "package", "use", str(bad), "--control", "control")
            assert refused.returncode == 3, refused.stderr
            assert "the line keeps its package" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
            assert id_of(device / "part.ssn") == old_id
            used = ssn_edge(device, "package", "use", str(other), "--control", "control")
            assert used.returncode == 0, used.stderr
            assert id_of(device / "part.ssn") == new_id
        finally:
            line.terminate()
            _, complaints = line.communicate(timeout=30)
    assert line.returncode == 0, complaints
    verdicts = [each for each in lines(device) if each["kind"] == "verdict"]
    assert [each["sequence"] for each in verdicts] == list(range(1, len(verdicts) + 1))
    assert verdicts[0]["package_id"] == old_id
    assert verdicts[-1]["package_id"] == new_id
    listed = ssn_edge(device, "package", "list", "--json")
    assert [each["package_id"] for each in json.loads(listed.stdout)["packages"]] == [
        old_id,
        new_id,
    ]
