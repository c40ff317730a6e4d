"""The systemd unit of a line: written for its options, hardened, and never over someone else's."""

from __future__ import annotations

import grp
import hashlib
import pwd
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.files import write_whole

UNIT_FOLDER = Path("/etc/systemd/system")
GPUS = ("none", "nvidia", "jetson")
_MARK = "# Written by ssn-edge service install; what follows has the SHA-256 "
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NETWORK_SOURCES = ("rtsp:", "rtsps:", "genicam:")
_RUN_OPTIONS_OF_THE_UNIT = ("--device", "--package", "--output", "--settings", "--realtime")

_GPU_DEVICES = {
    "none": (),
    # Names in /proc/devices; which of them there are depends on the driver.
    "nvidia": ("char-nvidia", "char-nvidia-frontend", "char-nvidia-uvm", "char-nvidia-caps"),
    # A Jetson's integrated GPU; after its device nodes as people list them, not run on one.
    "jetson": (
        *("/dev/nvmap", "/dev/nvsciipc"),
        *("char-nvhost*", "char-host1x*", "char-drm", "char-nvgpu*"),
    ),
}


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the unit is for.

    Args:
        executable: The ``ssn-edge`` command, absolute.
        package: The model package, absolute.
        device: As `ssn-edge run --device` takes it.
        output: Folder of the journal, absolute; the only one besides the cache that is written to.
        settings: This device's settings, absolute; None for none.
        user: Whom it runs as; made by hand, see `next_steps`.
        name: Of the unit.
        gpu: One of `GPUS`.
        needs_network: Whether it may speak to others: network cameras, MQTT, OPC UA, Modbus.
        realtime: Real-time priority to grant and ask for; None for none.
        watchdog_s: Silence after which it is killed and restarted, in seconds.
        hardware_watchdog: Whether it may open the board's watchdog.
        arguments: More options of `ssn-edge run`.
    """

    executable: Path
    package: Path
    device: str
    output: Path
    settings: Path | None = None
    user: str = "ssn-edge"
    name: str = "ssn-edge"
    gpu: str = "none"
    needs_network: bool = False
    realtime: int | None = None
    watchdog_s: float = 30.0
    hardware_watchdog: bool = False
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would only fail when the machine boots."""
        for what, path in (
            ("command", self.executable),
            ("package", self.package),
            ("output folder", self.output),
            *((("settings", self.settings),) if self.settings is not None else ()),
        ):
            if not path.is_absolute():
                raise ConfigError(f"the unit's {what} is {path}; an absolute path is wanted")
        for what, name in (("unit", self.name), ("user", self.user)):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"the {what} is named {name!r}; letters, digits, _- are wanted")
        if self.gpu not in GPUS:
            raise ConfigError(f"--gpu {self.gpu}: one of {', '.join(GPUS)} is wanted")
        if self.realtime is not None and not 1 <= self.realtime <= 99:
            raise ConfigError(f"--realtime {self.realtime}: 1 to 99 is wanted")
        if not 2 <= self.watchdog_s <= 3600:
            raise ConfigError(f"--watchdog {self.watchdog_s:g}: 2 to 3600 seconds are wanted")
        if self.user == "root":
            raise ConfigError("the line does not run as root; name a user of its own: --user")
        for argument in self.arguments:
            if argument.split("=")[0] in _RUN_OPTIONS_OF_THE_UNIT:
                raise ConfigError(
                    f"{argument} is an option of ssn-edge service itself; give it before the --"
                )
        for text in (self.device, *self.arguments, str(self.package), str(self.output)):
            if any(ord(letter) < 32 for letter in text):
                raise ConfigError(f"{text!r}: a unit holds no control characters")

    @property
    def unit_name(self) -> str:
        """Of the file."""
        return f"{self.name}.service"


def unit_text(options: ServiceOptions) -> str:
    """The whole unit file."""
    body = "\n".join(_lines(options)) + "\n"
    return f"{_MARK}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


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
    groups = [name for name in _groups(options) if not _is_member(options.user, name)]
    if groups:
        steps.append(f"usermod --append --groups {','.join(groups)} {options.user}")
    steps.append(f"install -d -o {options.user} -g {options.user} -m 0750 {options.output}")
    return [
        *steps,
        "systemctl daemon-reload",
        f"systemctl enable --now {options.unit_name}",
        f"systemctl status {options.unit_name}",
    ]


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


def _lines(options: ServiceOptions) -> list[str]:
    order = "network-online.target" if options.needs_network else "local-fs.target"
    lines = [
        "[Unit]",
        f"Description=ssn-edge: {_plain(options.device)} by {_plain(options.package.name)}",
        f"After={order} time-sync.target",
        *([f"Wants={order}"] if options.needs_network else []),
        "# Ten restarts in five minutes, then it stays failed: silence rejects every part.",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=10",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(_command(options))}",
        f"WorkingDirectory={_path(options.output)}",
        f"User={options.user}",
        f"WatchdogSec={options.watchdog_s:g}",
        "Restart=on-failure",
        "RestartSec=2",
        "# Wrong options, an unusable package and a line that halted itself are for a person.",
        "RestartPreventExitStatus=2 3 4",
        "# Loading and testing an engine takes its time; building one is done before, by hand.",
        "TimeoutStartSec=300",
        "TimeoutStopSec=30",
        "KillSignal=SIGTERM",
        "",
        "# Even timing: never swapped out, spared when memory is short.",
        "LimitMEMLOCK=infinity",
        f"LimitRTPRIO={options.realtime or 0}",
        "MemorySwapMax=0",
        "OOMScoreAdjust=-500",
        "LimitCORE=0",
        "",
        "# Files: all read-only but the journal and the cache of engines.",
        "ProtectSystem=strict",
        f"ProtectHome={_protect_home(options)}",
        f"ReadWritePaths={_path(options.output)}",
        f"CacheDirectory={options.name}",
        "CacheDirectoryMode=0700",
        f"Environment=SSN_EDGE_CACHE=%C/{options.name} PYTHONDONTWRITEBYTECODE=1",
        "PrivateTmp=yes",
        # A Jetson's camera service (Argus) listens in /tmp; not run on one.
        *(["BindPaths=-/tmp/argus_socket"] if options.gpu == "jetson" else []),
        "UMask=0027",
        "",
        "# Devices: the camera, the GPU, and nothing else.",
        "DevicePolicy=closed",
        *(f"DeviceAllow={each} rw" for each in _devices(options)),
        *([f"SupplementaryGroups={' '.join(groups)}"] if (groups := _groups(options)) else []),
        "",
        "# Network.",
        *_network(options),
        "",
        "# Rights and system calls.",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @obsolete",
        "SystemCallFilter=@memlock sched_setscheduler",
        "SystemCallErrorNumber=EPERM",
        f"RestrictRealtime={'no' if options.realtime else 'yes'}",
        "RestrictNamespaces=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "KeyringMode=private",
        "RemoveIPC=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible",
        "# Engines compile code while they load: MemoryDenyWriteExecute stays off.",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return lines


def _command(options: ServiceOptions) -> list[str]:
    words = [str(options.executable), "run", "--device", options.device]
    words += ["--package", str(options.package), "--output", str(options.output), "--lock-memory"]
    if options.settings is not None:
        words += ["--settings", str(options.settings)]
    if options.realtime is not None:
        words += ["--realtime", str(options.realtime)]
    if options.hardware_watchdog:
        words += ["--hardware-watchdog", "/dev/watchdog"]
    return [_quoted(word) for word in (*words, *options.arguments)]


def _devices(options: ServiceOptions) -> list[str]:
    devices = []
    device = options.device
    if device.isdecimal() or device.startswith(("/dev/video", "/dev/v4l/", "v4l2:", "gst:")):
        # By its kind, not by its node: a camera that comes back may get another number.
        devices += ["char-video4linux", "char-media"]
    elif device.startswith("/dev/"):
        devices += [device]
    devices += _GPU_DEVICES[options.gpu]
    if options.hardware_watchdog:
        devices += ["/dev/watchdog"]
    return devices


def _groups(options: ServiceOptions) -> list[str]:
    """Groups that may open the devices; those that this machine has, since others stop a unit."""
    wanted = ["video"] if _devices(options) else []
    wanted += ["render"] if options.gpu != "none" else []
    return [name for name in wanted if _has_group(name)]


def _network(options: ServiceOptions) -> list[str]:
    if options.needs_network or options.device.startswith(_NETWORK_SOURCES):
        return ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"]
    # Air-gapped: not even the loopback of others.
    return ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"]


def _protect_home(options: ServiceOptions) -> str:
    paths = [options.executable, options.package, options.output]
    paths += [options.settings] if options.settings is not None else []
    homes = (Path("/home"), Path("/root"))
    return "read-only" if any(home in path.parents for path in paths for home in homes) else "yes"


def _quoted(word: str) -> str:
    """One word of a command line, as systemd reads it."""
    word = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{word}"' if re.search(r"[\s'\";]", word) or not word else word


def _path(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if " " in text else text


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _require_ours(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    first, _, body = text.partition("\n")
    if not first.startswith(_MARK):
        raise ConfigError(
            f"{path}: was not written by ssn-edge; choose another name: --name, or move it away"
        )
    if first.removeprefix(_MARK) != hashlib.sha256(body.encode()).hexdigest():
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


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _is_member(user: str, group: str) -> bool:
    try:
        return user in grp.getgrnam(group).gr_mem
    except KeyError:
        return False
