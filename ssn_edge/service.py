"""The systemd unit of a line, installed and taken away; never over someone else's."""

from __future__ import annotations

import grp
import hashlib
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ssn_edge.service_unit import MARK, ServiceOptions, given, groups, unit_text
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.files import write_whole

UNIT_FOLDER = Path("/etc/systemd/system")


def install_unit(options: ServiceOptions, *, folder: Path = UNIT_FOLDER) -> Path:
    """Write the unit; one that is not ours, or was changed since, is left alone.

    Returns:
        The file.

    Raises:
        ConfigError: There is one that `ssn-edge service install` did not write as it stands.
        StorageError: It cannot be written.
    """
    path = folder / options.unit_name
    if path.exists():
        _require_ours(path)
    if not folder.is_dir():
        raise StorageError(f"{folder}: is not there; this machine does not run systemd")
    write_whole(path, unit_text(options).encode(), durable=True)
    return path


def uninstall_unit(name: str = "ssn-edge", *, folder: Path = UNIT_FOLDER) -> Path:
    """Take a unit of ours away. It is not stopped: see `ssn-edge service uninstall`.

    Raises:
        ConfigError: There is none, or it is not as we wrote it.
        StorageError: It cannot be removed.
    """
    path = folder / f"{name}.service"
    if not path.exists():
        raise ConfigError(f"there is no unit {path}")
    _require_ours(path)
    try:
        path.unlink()
    except OSError as error:
        raise StorageError(f"{path}: cannot be removed ({error.strerror})") from error
    return path


def next_steps(options: ServiceOptions) -> list[str]:
    """Commands to run after the unit is written, as root, in order."""
    steps = []
    if not _is_known(options.user):
        steps.append(f"useradd --system --no-create-home --shell /usr/sbin/nologin {options.user}")
    missing = [name for name in groups(options) if not _is_member(options.user, name)]
    if missing:
        steps.append(f"usermod --append --groups {','.join(missing)} {options.user}")
    steps.append(f"install -d -o {options.user} -g {options.user} -m 0750 {_word(options.output)}")
    steps += _device_rules(options)
    # The unit's user has a cache of its own: what someone else built and certified is not seen.
    cache = f"/var/cache/{options.name}"
    as_user = f"runuser -u {options.user} -- env SSN_EDGE_CACHE={cache} {_word(options.executable)}"
    steps.append(f"install -d -o {options.user} -g {options.user} -m 0700 {cache}")
    if options.gpu != "none":
        steps.append(f"{as_user} build {_word(options.package)}")
    return [
        *steps,
        f"{as_user} verify {_word(options.package)}",
        "systemctl daemon-reload",
        f"systemctl enable --now {options.unit_name}",
        f"systemctl status {options.unit_name}",
    ]


def _word(path: Path) -> str:
    return shlex.quote(str(path))


def _device_rules(options: ServiceOptions) -> list[str]:
    """Commands that give the unit's user what is root's alone on most boards."""
    rules = []
    if options.hardware_watchdog:
        rules.append(f'KERNEL=="watchdog", GROUP="{options.user}", MODE="0660"')
    if given(options, "--gpio") and "gpio" not in groups(options):
        rules.append(f'KERNEL=="gpiochip*", GROUP="{options.user}", MODE="0660"')
    if not rules:
        return []
    file = f"/etc/udev/rules.d/60-{options.name}.rules"
    words = " ".join(f"'{rule}'" for rule in rules)
    return [f"printf '%s\\n' {words} > {file}", "udevadm control --reload", "udevadm trigger"]


def unit_status(name: str = "ssn-edge") -> dict[str, str]:
    """What systemd says of the unit.

    Raises:
        ConfigError: There is no systemd to ask.
    """
    wanted = ("LoadState", "ActiveState", "SubState", "StatusText", "MainPID", "NRestarts",
              "Result", "ActiveEnterTimestamp", "WatchdogUSec", "FragmentPath")  # fmt: skip
    command = shutil.which("systemctl")
    if command is None:
        raise ConfigError("there is no systemctl: this machine does not run systemd")
    done = subprocess.run(
        [command, "show", f"{name}.service", f"--property={','.join(wanted)}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it does not answer"])[0]
        raise ConfigError(f"systemd cannot be asked: {reason}")
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def found_gpu(root: Path = Path("/")) -> str:
    """Which of `GPUS` this machine has."""
    if (root / "etc/nv_tegra_release").exists():
        return "jetson"
    return "nvidia" if (root / "dev/nvidiactl").exists() else "none"


def found_executable() -> Path:
    """The ``ssn-edge`` command that is installed beside this interpreter.

    Raises:
        ConfigError: There is none.
    """
    beside = Path(sys.executable).parent / "ssn-edge"
    found = beside if beside.is_file() else Path(shutil.which("ssn-edge") or "")
    if not found.is_file():
        raise ConfigError("the ssn-edge command is not installed here; name it: --executable")
    return found.absolute()


def _require_ours(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    first, _, body = text.partition("\n")
    if not first.startswith(MARK):
        raise ConfigError(
            f"{path}: was not written by ssn-edge; choose another name: --name, or move it away"
        )
    if first.removeprefix(MARK) != hashlib.sha256(body.encode()).hexdigest():
        raise ConfigError(
            f"{path}: was changed since ssn-edge wrote it; put changes into a drop-in (systemctl "
            f"edit {path.name}) and move this file away"
        )


def _is_known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _is_member(user: str, group: str) -> bool:
    try:
        return user in grp.getgrnam(group).gr_mem
    except KeyError:
        return False
