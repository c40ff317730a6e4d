"""A trust folder, signers, and a package of our own that each test may sign."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import Trust


class Signers:
    """Keys by name, whose public halves are trusted where a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = folder / "trusted"
        self.trusted.mkdir()

    def make(self, name: str, *, trusted: bool = True, settings_only: bool = False) -> DeviceKey:
        key = DeviceKey.make(self.folder / f"{name}.key")
        if trusted:
            folder = self.trusted / "settings" if settings_only else self.trusted
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.pub").write_bytes(key.public.to_pem())
        return key

    def revoke(self, *ids: str) -> None:
        text = "# no longer\n" + "".join(f"{each}  # lost\n" for each in ids)
        (self.trusted / "revoked.txt").write_text(text)

    def trust(self, *, minimum_serial: int = 0, allows_older: bool = False) -> Trust:
        return Trust(self.trusted, self.folder / "state.json", minimum_serial, allows_older)


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    return Signers(tmp_path)


@pytest.fixture
def own_package(package_path: Path, tmp_path: Path) -> Path:
    """The tiny package, to be written to."""
    return Path(shutil.copy(package_path, tmp_path / "part.ssn"))
