"""A machine that is played from one text file, in the form that `tail -n +1 FILE...` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssn_edge_runtime.device_parsing import CUDA_PROBE
from ssn_edge_runtime.doctor import Host
from ssn_edge_runtime.doctor.facts import Import, PackageHere
from ssn_edge_runtime.doctor.host import PythonProbe, read_import

RECORDED = Path(__file__).parent / "recorded"
_HEADING = re.compile(r"^==> (.+) <==\n", re.MULTILINE)


@dataclass
class Recording:
    """What one machine says. Keys of `files` are paths; one with `` -> `` is a symbolic link."""

    python: PythonProbe
    files: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    groups: tuple[str, ...] = ("user", "sudo", "video", "render")

    def install(self, folder: str, name: str, version: str, *files: str) -> None:
        """Put a distribution into a folder of the search path, with its modules."""
        plain = name.replace("-", "_")
        self.files[f"{folder}/{plain}-{version}.dist-info/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        for each in files:
            self.files[f"{folder}/{each}"] = ""

    def remove(self, start: str) -> None:
        """Take away all files whose path begins so."""
        self.files = {path: text for path, text in self.files.items() if not path.startswith(start)}

    def imports(self, module: str, **answer: str) -> None:
        """What comes of importing a module."""
        self.commands[f"import {module}"] = json.dumps(answer)


def read_recording(name: str) -> Recording:
    parts = _HEADING.split((RECORDED / f"{name}.txt").read_text(encoding="utf-8"))
    files, commands = {}, {}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        text = text.removesuffix("\n")  # the blank line before the next heading
        if heading.startswith("$ "):
            commands[heading[2:]] = text.removesuffix("\n")
        else:
            files[heading.lstrip("/")] = text
    python = json.loads(commands.pop("python3 -c 'import sys, platform'"))
    return Recording(PythonProbe(**{**python, "path": tuple(python["path"])}), files, commands)


class RecordedHost(Host):
    """Plays a recording under a folder; the rest of this machine is not seen."""

    def __init__(self, recording: Recording, root: Path) -> None:
        super().__init__(root)
        self.recording = recording
        self.free = (40 * 10**9, 120 * 10**9)
        self.asked: list[str] = []
        for path, text in recording.files.items():
            name, arrow, target = path.partition(" -> ")
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if arrow:
                file.symlink_to(target)
            else:
                file.write_text(text, encoding="utf-8")

    def run(self, command: Sequence[str], *, timeout_s: float = 5.0) -> str | None:
        words = ["cuda-probe"] if command[-1] == CUDA_PROBE else list(command)
        told = " ".join(words)
        self.asked.append(told)
        if told.startswith(("systemctl show", "nvidia-smi")):
            told = told.split(" --")[0]
        return self.recording.commands.get(told)

    def python(self) -> PythonProbe:
        return self.recording.python

    def import_module(self, name: str) -> Import:
        printed = self.recording.commands.get(f"import {name}")
        return (
            Import(error="the recording says nothing") if printed is None else read_import(printed)
        )

    def camera(self, path: str) -> str | None:
        return self.recording.commands.get(f"formats {path}")

    def look_into(self, package: Path) -> PackageHere:
        return PackageHere(str(package), package_id="p1", engine="tensorrt (int8)")

    def cache_folder(self, *, loads: bool) -> Path:
        return self.root / "home/user/.cache/ssn-edge"

    def user(self) -> str:
        return "user"

    def groups(self) -> tuple[str, ...]:
        return self.recording.groups

    def may_open(self, path: str) -> bool:
        return path not in self.recording.denied

    def may_write_in(self, folder: Path) -> bool:
        return str(folder) not in self.recording.denied

    def free_and_total(self, folder: Path) -> tuple[int, int] | None:
        return self.free

    def device_number(self, folder: Path) -> str | None:
        return self.recording.commands.get("stat -c %Hd:%Ld /")

    def year(self) -> int:
        return 2026
