"""The text of a line's systemd unit: written for its options, and hardened."""

from __future__ import annotations

import grp
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError

GPUS = ("none", "nvidia", "jetson")
MARK = "# Written by ssn-edge service install; what follows has the SHA-256 "
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
    return f"{MARK}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


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
        *([f"SupplementaryGroups={' '.join(named)}"] if (named := groups(options)) else []),
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


def groups(options: ServiceOptions) -> list[str]:
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
    words = [*options.arguments, *(each.partition("=")[2] for each in options.arguments)]
    paths += [Path(word) for word in words if word.startswith("/")]
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


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
