"""`ssn-edge package rollback` where packages must be signed: one command, and nothing else old."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import simulated_line

from ssn_edge.packages import find_in_force
from ssn_edge_export.package_writer import write_package
from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import SignatureError, SsnEdgeError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings import DeviceSettings, LineSettings
from ssn_edge_runtime.settings_json import settings_to_json
from ssn_edge_runtime.settings_store import SettingsStore, read_settings
from ssn_edge_runtime.sinks import DeviceKey, audit_log
from ssn_edge_runtime.trust import Trust, sign_settings

CAMERA = "test:?width=128&height=96&fps=40"
ENGINE = ("--engine", "onnxruntime-cpu")
STATE = Path("decisions") / "trust-state.json"
REQUIRED = '[trust]\nkeys = "keys"\nrequire_signature = true\n'


@dataclass(frozen=True)
class Device:
    """A device that has had two signed packages, each with settings, and never saw the oldest.

    Args:
        folder: Its directory.
        ids: The packages' ids, oldest first; the last one is in force.
        settings: Version and id of the settings of the last two.
    """

    folder: Path
    ids: tuple[str, str, str]
    settings: tuple[tuple[int, str], tuple[int, str]]

    @property
    def old(self) -> Path:
        return self.folder / "incoming" / "v0.ssn"

    @property
    def state(self) -> dict[str, Any]:
        document = json.loads((self.folder / STATE).read_bytes())
        assert isinstance(document, dict)
        return document


def id_of(path: Path) -> str:
    with Package.open(path) as package:
        return package.package_id


def ssn_edge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge", *arguments],
        capture_output=True, text=True, check=False, timeout=200, cwd=folder,
    )  # fmt: skip


def done(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    outcome = ssn_edge(folder, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    return outcome


def refused(folder: Path, words: str, *arguments: str, code: int = 3) -> None:
    outcome = ssn_edge(folder, *arguments)
    assert outcome.returncode == code, outcome.stderr
    assert words in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def run(folder: Path, *more: str) -> tuple[str, ...]:
    return ("run", "--device", CAMERA, "--package", "part.ssn", "--keep", "none", *ENGINE, *more)


def lines(folder: Path) -> list[dict[str, Any]]:
    return simulated_line.read_lines(folder / "decisions", is_running=True)


def verdicts(folder: Path) -> list[dict[str, Any]]:
    return [each for each in lines(folder) if each["kind"] == "verdict"]


def user_actions(folder: Path) -> list[dict[str, Any]]:
    return [each["detail"] for each in lines(folder) if each.get("event") == "user_action"]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    package_contents: tuple[Manifest, Mapping[str, bytes]],
) -> Device:
    """Made once by the commands themselves; each test has a copy."""
    folder = tmp_path_factory.mktemp("device")
    key = DeviceKey.make(folder / "release.key")
    (folder / "keys").mkdir()
    (folder / "incoming").mkdir()
    (folder / "keys" / "release.pub").write_bytes(key.public.to_pem())
    (folder / "ssn-edge.toml").write_text(REQUIRED)
    ids = []
    for number, serial in enumerate((3, 5, 7)):
        path = folder / "incoming" / f"v{number}.ssn"
        manifest, entries = package_contents
        write_package(path, replace(manifest, created_at=f"2026-11-2{number}T00:00:00Z"), entries)
        sign_package_file(path, key, serial=serial)
        ids.append(id_of(path))
    store, saved = SettingsStore(folder / "settings.json"), []
    shutil.copy(folder / "incoming" / "v1.ssn", folder / "part.ssn")
    for number in (1, 2):
        if number == 2:
            done(folder, "package", "use", "incoming/v2.ssn")
        store.save(
            lambda _, n=number: DeviceSettings(ids[n], line=LineSettings(halt_after=1000 + n))  # type: ignore[misc]
        )
        signed = store.sign(lambda unsigned: sign_settings(key, unsigned))
        saved.append((signed.version, signed.settings_id))
        done(folder, *run(folder, "--max-frames", "3"))
    assert {each["package_id"] for each in verdicts(folder)} == {ids[1], ids[2]}
    (folder / "incoming" / "v1.ssn").unlink()
    return Device(folder, (ids[0], ids[1], ids[2]), (saved[0], saved[1]))


@pytest.fixture
def device(made: Device, tmp_path: Path) -> Device:
    folder = Path(shutil.copytree(made.folder, tmp_path / "device"))
    return Device(folder, made.ids, made.settings)


def test_one_command_goes_back_and_nothing_else_that_is_old_slips_in(device: Device) -> None:
    folder = device.folder
    (name,) = device.state["packages"]
    assert device.state["packages"] == {name: 7}
    done(folder, "package", "rollback", "--note", "false rejects, since Monday")
    assert id_of(folder / "part.ssn") == device.ids[1]
    # Until it judges, it alone is let pass, and what was taken stays noted.
    assert device.state["packages"] == {name: 7}
    refused(folder, "is an older package", "package", "use", "incoming/v0.ssn")
    shutil.copy(folder / "part.ssn", folder / "incoming" / "v1.ssn")
    shutil.copy(device.old, folder / "part.ssn")
    refused(folder, "is an older package", *run(folder, "--max-frames", "2"))
    shutil.copy(folder / "incoming" / "v1.ssn", folder / "part.ssn")
    before = len(verdicts(folder))
    done(folder, *run(folder, "--max-frames", "3"))
    judged = verdicts(folder)[before:]
    assert {each["package_id"] for each in judged} == {device.ids[1]}
    assert {each["settings_id"] for each in judged} == {device.settings[0][1]}
    assert device.state["packages"] == {name: 5}
    assert "returning" not in device.state
    (action,) = user_actions(folder)
    assert action["action"] == "package_rollback"
    assert action["user"]
    assert action["package_id"] == device.ids[1]
    assert action["settings_version"] == str(device.settings[0][0])
    assert action["why"] == "false_rejects_since_Monday"
    assert audit_log(folder / "decisions").is_whole
    refused(folder, "is an older package", "package", "use", "incoming/v0.ssn")
    # And forward again: v2 is newer than what is taken now.
    done(folder, "package", "use", "incoming/v2.ssn")
    done(folder, *run(folder, "--max-frames", "2"))
    assert verdicts(folder)[-1]["settings_id"] == device.settings[1][1]
    assert device.state["packages"] == {name: 7}


def test_a_package_of_before_is_refused_again_once_another_judged(device: Device) -> None:
    folder = device.folder
    done(folder, "package", "rollback")
    shutil.copy(folder / "part.ssn", folder / "incoming" / "v1.ssn")
    done(folder, "package", "use", "incoming/v2.ssn")  # it never judged
    done(folder, *run(folder, "--max-frames", "2"))
    shutil.copy(folder / "incoming" / "v1.ssn", folder / "part.ssn")
    (folder / "settings.json").write_bytes((folder / "settings-1.json").read_bytes())
    refused(folder, "is an older package", *run(folder, "--max-frames", "2"))


@pytest.mark.parametrize("why", ["package", "key", "settings", "serial", "unsigned"])
def test_what_must_not_judge_is_not_gone_back_to(device: Device, why: str) -> None:
    folder = device.folder
    revoked = folder / "keys" / "revoked.txt"
    words = "is revoked"
    if why == "package":
        revoked.write_text(f"{device.ids[1]}\n")
    elif why == "key":
        revoked.write_text(f"{DeviceKey.read(folder / 'release.key').key_id}\n")
        words = "revoked key"
    elif why == "settings":
        revoked.write_text(f"{device.settings[0][1]}\n")
        words = "are revoked"
    elif why == "serial":
        (folder / "ssn-edge.toml").write_text(f"{REQUIRED}minimum_serial = 6\n")
        words = "below the least one here"
    else:
        kept = folder / "settings-1.json"
        kept.write_bytes(settings_to_json(replace(read_settings(kept), signature=None)))
        words = "not signed"
    before = content(folder)
    refused(folder, words, "package", "rollback")
    assert content(folder) == before


def content(folder: Path) -> dict[str, bytes]:
    """All files but for locks, which are empty."""
    found = {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    return {name: data for name, data in found.items() if data}


def test_without_the_keys_it_says_what_is_missing(device: Device) -> None:
    (device.folder / "ssn-edge.toml").unlink()
    refused(device.folder, "name the keys that it trusts", "package", "rollback", code=2)
    done(device.folder, "package", "rollback", "--trust", "keys")
    assert id_of(device.folder / "part.ssn") == device.ids[1]


KILLED = """
import os, pathlib, signal, sys
left = [int(sys.argv.pop(1))]
def counted(real):
    def step(self, *arguments, **options):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(self, *arguments, **options)
    return step
pathlib.Path.replace = counted(pathlib.Path.replace)
pathlib.Path.unlink = counted(pathlib.Path.unlink)
from ssn_edge.cli import app
app()
"""


@pytest.mark.parametrize("without", [None, "old", "new"])
def test_a_kill_in_the_middle_leaves_the_one_or_the_other(
    device: Device, tmp_path: Path, without: str | None
) -> None:
    """Neither with the settings of the other, nor without any where it had some."""
    if without is not None:
        judges_alone(device, without)
    new = (device.ids[2], None if without == "new" else device.settings[1][1])
    old = (device.ids[1], None if without == "old" else device.settings[0][1])
    found, refusals = [], 0
    for step in range(40):
        folder = Path(shutil.copytree(device.folder, tmp_path / f"kill-{step}"))
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(step), "package", "rollback"],
            capture_output=True, text=True, check=False, timeout=200, cwd=folder,
        )  # fmt: skip
        try:  # a program of one's own, which finishes nothing and asks for no signature
            settings = folder / "settings.json"
            assert opened(folder / "part.ssn", settings if settings.exists() else None) in (
                new,
                old,
            )
        except SsnEdgeError:
            refusals += 1
        # As `run` does it.
        package, found_settings = find_in_force(
            folder / "part.ssn", None, default=folder / "settings.json"
        )
        trust = Trust(folder / "keys", folder / STATE)
        found.append(opened(package, found_settings, trust))
        copied = Device(folder, device.ids, device.settings)
        with pytest.raises(SignatureError, match="is an older package"):
            Package.open(copied.old, trust=trust).close()
        assert "returning" not in copied.state  # what judged settled it
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        pytest.fail("it never ended")
    assert set(found) == {new, old}
    assert found == sorted(found, key=lambda each: each == old)  # never back and forth
    assert found.count(old) > 2
    assert refusals  # killed between the two files, too


def judges_alone(device: Device, which: str) -> None:
    """Have one of the two judge by its own thresholds, as if it had never had settings."""
    if which == "old":
        path = device.folder / "packages" / "history.json"
        document = json.loads(path.read_bytes())
        document["packages"][0]["settings_version"] = None
    else:
        path = device.folder / STATE
        document = device.state
        del document["settings"][device.ids[2]]
        (device.folder / "settings.json").unlink()
    path.write_text(json.dumps(document))


def opened(
    package: Path, settings: Path | None, trust: Trust | None = None
) -> tuple[str, str | None]:
    """What judges."""
    with Inspector.open(
        package, engine="onnxruntime-cpu", settings=settings, trust=trust
    ) as inspector:
        return inspector.package_id, inspector.settings_id


@contextmanager
def running_line(folder: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", *run(folder, "--control", "control")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    ) as line:  # fmt: skip
        before = len(verdicts(folder))
        try:
            until_s = time.monotonic() + 60
            while len(verdicts(folder)) == before:
                assert time.monotonic() < until_s
                time.sleep(0.05)
            yield
        finally:
            line.terminate()
            _, complaints = line.communicate(timeout=30)
    assert line.returncode == 0, complaints


def test_a_running_line_goes_back_first_and_says_who_wanted_it(device: Device) -> None:
    folder = device.folder
    (name,) = device.state["packages"]
    before = len(verdicts(folder))
    with running_line(folder):
        refused(folder, "name its socket, --control", "package", "rollback", code=2)
        assert id_of(folder / "part.ssn") == device.ids[2]
        done(folder, "package", "rollback", "--control", "control", "--note", "drift")
        until_s = time.monotonic() + 30
        while device.state["packages"] != {name: 5}:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        assert "returning" not in device.state
        with socket.socket(socket.AF_UNIX) as talk:  # an old one from elsewhere, past the command
            talk.connect(str(folder / "control"))
            talk.sendall(f"package {device.old}\n".encode())
            with talk.makefile() as answers:
                answer = answers.readline()
        assert answer.startswith("error: ")
        assert "is an older package" in answer
    judged = verdicts(folder)[before:]
    pairs = [(each["package_id"], each["settings_id"]) for each in judged if each["raw_score"]]
    old, new = (device.ids[1], device.settings[0][1]), (device.ids[2], device.settings[1][1])
    assert set(pairs) == {new, old}
    assert pairs == sorted(pairs, key=lambda each: each == old)
    assert id_of(folder / "part.ssn") == device.ids[1]
    (action,) = user_actions(folder)
    assert (action["action"], action["why"]) == ("package_rollback", "drift")
    swapped = [each["detail"] for each in lines(folder) if each.get("event") == "package"]
    assert any(each.get("previous_package_id") == device.ids[2] for each in swapped)
    assert audit_log(folder / "decisions").is_whole


def test_a_line_that_refuses_leaves_nothing_to_slip_in_by(device: Device) -> None:
    folder = device.folder
    with running_line(folder):
        moved = folder / "elsewhere with blanks"
        shutil.copytree(folder / "packages", moved / "packages")
        shutil.copy(folder / "part.ssn", moved)
        refused(
            folder, "takes paths without blanks", "package", "rollback", "--control", "control",
            "--package", str(moved / "part.ssn"), code=2,
        )  # fmt: skip
    assert "returning" not in device.state
    assert id_of(moved / "part.ssn") == device.ids[2]
