"""A device in one file: whole or refused, brought back all at once, never over what is newer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ssn_edge.backup import restore as restore_module
from ssn_edge.backup.content import Backup, read_backup
from ssn_edge.backup.make import BackupRequest, make_backup
from ssn_edge.backup.restore import RestoreRequest, restore_backup
from ssn_edge.packages import unfinished_change
from ssn_edge_runtime.errors import ConfigError, DatasetError, PackageError, StorageError
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import TrustedKeys, TrustState
from tests.end_to_end.chain import Project, shared_project, ssn_edge

FAST = ("--package", "part.ssn", "--engine", "onnxruntime-cpu")
RUN = ("run", *FAST, "--device", "frames", "--keep", "none", "--trust", "keys", "--json")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return shared_project(tmp_path_factory)


@pytest.fixture
def device(project: Project, tmp_path: Path) -> Path:
    """A device whose package and settings are signed, with two versions, a key and a unit."""
    folder = tmp_path / "device"
    folder.mkdir()
    shutil.copy(project.root / "part.ssn", folder)
    shutil.copytree(project.root / "line", folder / "frames")
    (folder / "ssn-edge.toml").write_text('[run]\nkey = "own.key"\n[trust]\nkeys = "keys"\n')
    (folder / "keys").mkdir()
    signer = DeviceKey.make(tmp_path / "release.key")
    (folder / "keys" / "release.pub").write_bytes(signer.public.to_pem())
    (folder / "keys" / "revoked.txt").write_text("")
    DeviceKey.make(folder / "own.key")
    assert ssn_edge("sign", "part.ssn", "--key", "../release.key", cwd=folder).code == 0
    for halt in ("50", "60"):
        assert ssn_edge("settings", "set", "--halt-after", halt, *FAST, cwd=folder).code == 0
    assert ssn_edge("sign", "settings.json", "--key", "../release.key", cwd=folder).code == 0
    assert ssn_edge(*RUN, cwd=folder).code == 0
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "ssn-edge.service").write_text("[Unit]\n")
    return folder


def made(device: Path, **options: object) -> Path:
    target = device.parent / "line.backup"
    units = device.parent / "units"
    make_backup(BackupRequest(target, device, unit_folder=units, **options))  # type: ignore[arg-type]
    return target


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.name.endswith(".lock")
    }


def test_a_new_device_runs_from_a_backup_as_the_old_one_did(device: Path, tmp_path: Path) -> None:
    target = made(device)
    new = tmp_path / "new"
    new.mkdir()
    restore_backup(RestoreRequest(target, new))
    before, after = content(device), content(new)
    assert set(before) - set(after) == {
        "own.key",
        *(name for name in before if name.startswith(("frames/", "decisions/"))),
    } - {"decisions/trust-state.json"}
    assert {name: before[name] for name in after} == after
    assert len([name for name in after if name.startswith("settings")]) == 3
    shutil.copytree(device / "frames", new / "frames")
    assert ssn_edge(*RUN, cwd=new).code == 0
    assert restore_backup(RestoreRequest(target, new)) == ()  # all is as it should be


def test_the_private_key_goes_in_only_on_purpose_and_comes_back_for_its_owner_alone(
    device: Path, tmp_path: Path
) -> None:
    private = (device / "own.key").read_bytes()
    target = made(device)
    assert private not in target.read_bytes()
    target.unlink()
    target = made(device, with_keys=True)
    assert private in target.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    (tmp_path / "new").mkdir()
    restore_backup(RestoreRequest(target, tmp_path / "new"))
    assert (tmp_path / "new" / "own.key").stat().st_mode & 0o777 == 0o600
    assert DeviceKey.read(tmp_path / "new" / "own.key").key_id


def test_the_unit_is_put_in_place_only_on_purpose(device: Path, tmp_path: Path) -> None:
    target = made(device)
    unit = tmp_path / "units" / "ssn-edge.service"
    unit.unlink()
    restore_backup(RestoreRequest(target, device, unit_folder=unit.parent))
    assert not unit.exists()
    restore_backup(RestoreRequest(target, device, with_unit=True, unit_folder=unit.parent))
    assert unit.read_text() == "[Unit]\n"


def test_every_changed_byte_and_every_cut_is_refused(device: Path, tmp_path: Path) -> None:
    target = made(device)
    data = target.read_bytes()
    (tmp_path / "new").mkdir()
    step = len(data) // 150
    for at in range(0, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1
        for bad in (bytes(changed), data[:at], data[:at] + b"x" + data[at:]):
            target.write_bytes(bad)
            with pytest.raises(DatasetError, match="is no whole"):
                restore_backup(RestoreRequest(target, tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(DatasetError, match="cannot be read"):
        read_backup(tmp_path / "absent")


def test_what_is_newer_is_not_overwritten_but_by_force(device: Path) -> None:
    target = made(device)
    assert ssn_edge("settings", "set", "--halt-after", "70", *FAST, cwd=device).code == 0
    before = content(device)
    with pytest.raises(ConfigError, match=r"settings\.json: has version 3, the backup .* 2"):
        restore_backup(RestoreRequest(target, device))
    assert content(device) == before
    restore_backup(RestoreRequest(target, device, is_forced=True))
    assert content(device)["settings.json"] == before["settings-2.json"]
    project_file = device / "ssn-edge.toml"
    project_file.write_text("[run]\n")
    os.utime(project_file, (2**32, 2**32))
    with pytest.raises(ConfigError, match="was written after the backup"):
        restore_backup(RestoreRequest(target, device))


def test_what_was_revoked_since_stays_revoked_and_what_was_taken_stays_taken(
    device: Path,
) -> None:
    target = made(device)
    (device / "keys" / "revoked.txt").write_text("1" * 64 + "  # lost\n")
    state = TrustState(device / "decisions" / "trust-state.json")
    (name,) = state.read().packages
    state.take_package(name, 2**40)
    restore_backup(RestoreRequest(target, device, is_forced=True))
    assert (device / "keys" / "revoked.txt").read_text() == "1" * 64 + "  # lost\n"
    assert state.read().packages == {name: 2**40}


def test_a_fault_in_the_middle_leaves_everything_as_it_was(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = made(device)
    for name in ("part.ssn", "settings.json", "ssn-edge.toml"):
        (device / name).write_bytes(b"other")
    (device / "keys" / "release.pub").unlink()
    before = content(device)
    exchanged: list[Path] = []
    replace = Path.replace

    def failing(self: Path, other: Path) -> Path:
        if self.name.endswith(".new"):
            exchanged.append(self)
            if len(exchanged) == 3:
                raise OSError(5, "Input/output error", str(other))
        return replace(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(restore_module.Path, "replace", failing)
        with pytest.raises(StorageError, match="nothing was restored"):
            restore_backup(RestoreRequest(target, device, is_forced=True))
    assert len(exchanged) == 3
    assert content(device) == before
    restore_backup(RestoreRequest(target, device, is_forced=True))
    assert content(device)["part.ssn"] != b"other"


def test_a_backup_goes_over_nothing_and_holds_only_what_is_sound(device: Path) -> None:
    target = made(device)
    with pytest.raises(ConfigError, match="is there already"):
        made(device)
    target.unlink()
    (device / "settings-1.json").write_text("{")
    with pytest.raises(ConfigError, match="settings-1"):
        made(device)
    (device / "settings-1.json").unlink()
    data = (device / "part.ssn").read_bytes()
    (device / "part.ssn").write_bytes(data[:-1])
    with pytest.raises(PackageError):
        made(device)
    assert not target.exists()


def test_nothing_is_restored_over_a_change_of_the_package_that_was_cut_short(device: Path) -> None:
    target = made(device)
    (device / "part.ssn").write_bytes(b"other")
    unfinished = unfinished_change(device / "part.ssn")
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.write_text("{}")
    with pytest.raises(ConfigError, match="cut short here; finish it"):
        restore_backup(RestoreRequest(target, device, is_forced=True))
    assert (device / "part.ssn").read_bytes() == b"other"
    unfinished.unlink()
    restore_backup(RestoreRequest(target, device, is_forced=True))
    assert (device / "part.ssn").read_bytes() != b"other"


def test_whom_a_device_trusts_stays_together_wherever_its_folder_is(
    device: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "etc" / "keys"
    shutil.copytree(device / "keys", elsewhere)
    (elsewhere / "settings").mkdir()
    page = DeviceKey.make(tmp_path / "page.key").public
    (elsewhere / "settings" / "page.pub").write_bytes(page.to_pem())
    (elsewhere / "revoked.txt").write_text("1" * 64 + "\n")
    target = made(device, trust=elsewhere)
    new = tmp_path / "new"
    new.mkdir()
    restore_backup(RestoreRequest(target, new, unit_folder=tmp_path))
    trusted, before = TrustedKeys.read(new / "keys"), TrustedKeys.read(elsewhere)
    assert (trusted.revoked, trusted.names) == (before.revoked, before.names)
    assert trusted.revoked == {"1" * 64}
    assert trusted.settings_only == {page.key_id}


def test_the_verbs_say_what_they_did(device: Path, tmp_path: Path) -> None:
    outcome = ssn_edge("backup", "../line.backup", cwd=device)
    assert outcome.code == 0, outcome.err
    assert "package   part.ssn" in outcome.out
    assert "trust     keys/release.pub" in outcome.out
    assert isinstance(read_backup(tmp_path / "line.backup"), Backup)
    (tmp_path / "new").mkdir()
    restored = ssn_edge("restore", "../line.backup", "--json", cwd=tmp_path / "new")
    assert restored.code == 0, restored.err
    assert "part.ssn" in restored.json()["restored"]
    (tmp_path / "line.backup").write_bytes(b"x")
    refused = ssn_edge("restore", "../line.backup", cwd=tmp_path / "new")
    assert refused.code == 3
    assert len(refused.err.splitlines()) == 1
