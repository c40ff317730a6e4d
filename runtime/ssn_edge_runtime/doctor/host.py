"""What is asked of a machine: its files, its commands, its rights. A test plays another one."""

from __future__ import annotations

import grp
import json
import os
import platform
import pwd
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from ssn_edge_runtime.device_info import COMMAND_TIMEOUT_S, run_command
from ssn_edge_runtime.doctor.facts import Import, PackageHere
from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.kernel_files import KernelFiles, quietly

IMPORT_TIMEOUT_S = 60.0
"""A first import of TensorRT or OpenVINO reads hundreds of megabytes, on a device from an SD card.
"""
CAMERA_TIMEOUT_S = 30.0
"""Most of it for loading OpenCV; a driver that hangs takes no longer."""
CONNECT_TIMEOUT_S = 3.0

IMPORT_PROBE = """
import importlib, json, sys
sys.path[:1] = []
answer = {}
try:
    module = importlib.import_module(sys.argv[1])
    answer["file"] = getattr(module, "__file__", None)
    answer["version"] = str(module.__version__) if hasattr(module, "__version__") else None
except BaseException as error:
    lines = str(error).strip().splitlines()
    answer["error"] = type(error).__name__ + ": " + (lines[0] if lines else "no reason given")
print("\\n" + json.dumps(answer))
"""
"""Imports a module in a process of its own: one that crashes or hangs takes only that with it."""


@dataclass(frozen=True, slots=True)
class PythonProbe:
    """An interpreter, as `sys` tells.

    Args:
        version: Such as ``3.10.12``.
        machine: Instruction set.
        executable: Its path.
        prefix: Of the environment.
        base_prefix: Of the interpreter below.
        path: Folders that modules are searched in.
    """

    version: str
    machine: str
    executable: str
    prefix: str
    base_prefix: str
    path: tuple[str, ...]


class Host:
    """This machine. Nothing here raises, and every command has a time limit.

    Args:
        root: What stands for ``/``.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.files = KernelFiles(root)

    def run(self, command: Sequence[str], *, timeout_s: float = COMMAND_TIMEOUT_S) -> str | None:
        """What a command prints; None if it is not there, fails, or takes too long."""
        return run_command(command, timeout_s=timeout_s)

    def python(self) -> PythonProbe:
        """The interpreter that this runs in."""
        return PythonProbe(
            version=platform.python_version(),
            machine=platform.machine(),
            executable=sys.executable,
            prefix=sys.prefix,
            base_prefix=sys.base_prefix,
            path=tuple(dict.fromkeys(each for each in sys.path if each)),
        )

    def import_module(self, name: str) -> Import:
        """What comes of importing a module, in a process of its own."""
        printed = self.run((sys.executable, "-c", IMPORT_PROBE, name), timeout_s=IMPORT_TIMEOUT_S)
        if printed is None:
            return Import(
                error=f"importing it crashed, or took longer than {IMPORT_TIMEOUT_S:.0f} s"
            )
        return read_import(printed)

    def camera(self, path: str) -> str | None:
        """What `ssn_edge_runtime.doctor.camera_probe` prints of a V4L2 device."""
        command = (sys.executable, "-m", "ssn_edge_runtime.doctor.camera_probe", path)
        return self.run(command, timeout_s=CAMERA_TIMEOUT_S)

    def user(self) -> str:
        """Who asks."""
        return quietly(lambda: pwd.getpwuid(os.geteuid()).pw_name) or str(os.geteuid())

    def groups(self) -> tuple[str, ...]:
        """Names of the groups that this process is in."""
        numbers = sorted({os.getegid(), *os.getgroups()})
        groups = [quietly(partial(grp.getgrgid, number)) for number in numbers]
        return tuple(
            str(number) if group is None else group.gr_name
            for group, number in zip(groups, numbers, strict=True)
        )

    def may_open(self, path: str) -> bool:
        """Whether this user may read and write a device node."""
        return os.access(self.root / path.lstrip("/"), os.R_OK | os.W_OK)

    def may_write_in(self, folder: Path) -> bool:
        """Whether this user may make files in a folder."""
        return os.access(folder, os.W_OK | os.X_OK)

    def free_and_total(self, folder: Path) -> tuple[int, int] | None:
        """Bytes that are free for this user, and all, of the file system of a folder."""
        found = quietly(lambda: shutil.disk_usage(folder))
        return None if found is None else (found.free, found.total)

    def device_number(self, folder: Path) -> str | None:
        """Major and minor number of the device below a folder, as ``179:1``."""
        number = quietly(lambda: folder.stat().st_dev)
        return None if number is None else f"{os.major(number)}:{os.minor(number)}"

    def nearest(self, folder: Path) -> Path | None:
        """A folder, or the nearest above it that is there."""
        folder = folder.absolute()
        return next((each for each in (folder, *folder.parents) if each.is_dir()), None)

    def year(self) -> int:
        """That the clock shows."""
        return datetime.now(timezone.utc).year

    def cache_folder(self, *, loads: bool) -> Path:
        """Of the engines that were built here.

        Args:
            loads: Whether the runtime can be imported; if not, the usual folder is looked at.
        """
        if not loads:
            return Path(os.environ.get("SSN_EDGE_CACHE") or "~/.cache/ssn-edge").expanduser()
        from ssn_edge_runtime.engines.cache import default_root

        return default_root()

    def look_into(self, package: Path) -> PackageHere:
        """Open a package and ask for the engine that `run` would take, in a process of its own."""
        command = (sys.executable, "-m", "ssn_edge_runtime.doctor.package_probe", str(package))
        printed = self.run(command, timeout_s=IMPORT_TIMEOUT_S)
        return read_package(str(package), printed)

    def cannot_listen(self, address: str) -> str | None:
        """Why `run --listen` could not have an address; None if it could.

        Raises:
            ConfigError: It is none to listen on.
        """
        # Not at the top: the server needs NumPy and OpenCV, and both may be what is broken.
        from ssn_edge_runtime.server.address import bind, parse_listen

        try:
            bind(parse_listen(address)).close()
        except ListenError as error:
            return str(error)
        return None

    def cannot_reach(self, host: str, port: int) -> str | None:
        """Why there is no connection to a camera in the network; None if there is one."""
        try:
            socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            return f"{host}:{port} does not answer ({error.strerror or error})"
        return None


def read_import(printed: str) -> Import:
    """What `IMPORT_PROBE` printed; modules may print lines of their own before."""
    lines = printed.strip().splitlines()
    answer = quietly(lambda: json.loads(lines[-1]))
    if not isinstance(answer, dict):
        return Import(error="importing it gave no answer")
    texts = {key: value for key, value in answer.items() if isinstance(value, str)}
    return Import(texts.get("version"), texts.get("file"), texts.get("error"))


def read_package(path: str, printed: str | None) -> PackageHere:
    """What `ssn_edge_runtime.doctor.package_probe` printed."""
    answer = quietly(lambda: json.loads((printed or "").strip().splitlines()[-1]))
    if not isinstance(answer, dict):
        problem = "looking into it crashed, or took too long"
        return PackageHere(path, problem=problem, is_known=False)
    texts = {key: value for key, value in answer.items() if isinstance(value, str)}
    return PackageHere(path, texts.get("package_id"), texts.get("engine"), texts.get("problem"))
