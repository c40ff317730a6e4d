"""Settings that are taken while parts come are noted behind them, and before anything older."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SignatureError, StorageError
from ssn_edge_runtime.files import locked
from ssn_edge_runtime.settings import DeviceSettings, LineSettings
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.trust import TrustState, sign_settings


@pytest.fixture
def versions(signers: Any, own_package: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three signed versions of settings; the package is signed, too."""
    key = signers.make("release")
    sign_package_file(own_package, key)
    with Inspector.open(own_package, engine="onnxruntime-cpu") as inspector:
        package_id = inspector.package_id
    store = SettingsStore(tmp_path / "settings" / "settings.json")
    made = []
    for number in (1, 2, 3):
        line = LineSettings(halt_after=number)
        store.save(lambda _, line=line: DeviceSettings(package_id, line=line))  # type: ignore[misc]
        made.append(store.kept(store.sign(lambda each: sign_settings(key, each)).version))
    return (made[0], made[1], made[2])


@pytest.fixture
def opened(signers: Any, own_package: Path, versions: tuple[Path, Path, Path]) -> Inspector:
    return Inspector.open(
        own_package, engine="onnxruntime-cpu", settings=versions[0], trust=signers.trust()
    )


def noted(signers: Any) -> set[int]:
    return set(TrustState(signers.folder / "state.json").read().settings.values())


def test_parts_are_judged_while_the_note_waits_for_the_disk_and_older_ones_wait_for_it(
    signers: Any,
    versions: tuple[Path, Path, Path],
    opened: Inspector,
    part: Callable[..., ByteImage],
) -> None:
    refusals: list[Exception] = []

    def go_back() -> None:
        try:
            opened.apply_settings(versions[0])
        except SignatureError as error:
            refusals.append(error)

    older = threading.Thread(target=go_back)
    with opened:
        with locked(signers.folder / ".state.json.lock"):  # the disk does not answer
            opened.apply_settings(versions[1])
            decision = opened.inspect(part(1))
            assert decision.settings_id == opened.settings_id
            assert noted(signers) == {1}
            older.start()
            older.join(0.5)
            assert older.is_alive()  # nothing is decided on an age that is not on disk
            assert opened.inspect(part(1)).settings_id == decision.settings_id
        older.join(30)
        assert noted(signers) == {2}
        assert "are older than version 2" in str(refusals[0])
        assert opened.inspect(part(1)).settings_id == decision.settings_id


def test_closing_waits_for_the_note(
    signers: Any, versions: tuple[Path, Path, Path], opened: Inspector
) -> None:
    with opened:
        opened.apply_settings(versions[2])
    assert noted(signers) == {3}


def test_while_one_cannot_be_noted_no_other_settings_are_taken(
    signers: Any, versions: tuple[Path, Path, Path], opened: Inspector
) -> None:
    lock = signers.folder / ".state.json.lock"
    lock.unlink()
    lock.mkdir()  # nothing can be written under it
    with opened:
        opened.apply_settings(versions[1])
        in_force = opened.settings_id
        for each in (versions[0], versions[2]):
            with pytest.raises(StorageError, match="cannot be opened"):
                opened.apply_settings(each)
            assert opened.settings_id == in_force
        lock.rmdir()
        with pytest.raises(SignatureError, match="are older than version 2"):
            opened.apply_settings(versions[0])
        opened.apply_settings(versions[2])
    assert noted(signers) == {3}


def test_what_is_opened_is_noted_before_the_first_part(
    signers: Any, own_package: Path, versions: tuple[Path, Path, Path]
) -> None:
    with Inspector.open(
        own_package, engine="onnxruntime-cpu", settings=versions[1], trust=signers.trust()
    ):
        assert noted(signers) == {2}


def test_a_trial_takes_unsigned_settings_and_notes_nothing(
    signers: Any, own_package: Path, versions: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    store = SettingsStore(versions[0].with_name("settings.json"))
    store.save(lambda before: replace(before, line=LineSettings(halt_after=9)))
    trial = signers.trust().for_a_trial()
    with Inspector.open(own_package, engine="onnxruntime-cpu", settings=store.path, trust=trial):
        pass
    assert not (signers.folder / "state.json").exists()
    with pytest.raises(SignatureError, match="are not signed"):
        Inspector.open(
            own_package, engine="onnxruntime-cpu", settings=store.path, trust=signers.trust()
        )
