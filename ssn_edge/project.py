"""A project directory: where runs and packages are, and which is meant when none is named."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import CheckpointError, ConfigError, PackageError

if TYPE_CHECKING:
    from ssn_edge_runtime.trust import Trust

RUNS = "runs"
CHECKPOINT_NAME = "checkpoint.safetensors"
UNFINISHED_NAME = "unfinished.safetensors"
PACKAGE_SUFFIX = ".ssn"
PACKAGE_NAME = "part.ssn"


def new_run_folder(name: str, *, runs: Path = Path(RUNS)) -> Path:
    """A folder for a new run, named by time and data set; not made yet."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{stamp}-{plain}"
    number = 2
    while folder.exists():
        folder = runs / f"{stamp}-{plain}-{number}"
        number += 1
    return folder


def find_checkpoint(named: Path | None, *, runs: Path = Path(RUNS)) -> Path:
    """The checkpoint that is meant: the one named (a file or a run's folder), or the newest.

    Raises:
        CheckpointError: There is none.
    """
    if named is not None:
        path = named / CHECKPOINT_NAME if named.is_dir() else named
        if path.is_file():
            return path
        if (path.parent / UNFINISHED_NAME).is_file():
            raise CheckpointError(f"{path.parent} is not finished; {_go_on(path.parent)}")
        raise CheckpointError(
            f"there is no checkpoint {path}; name a run's folder, or train: ssn-edge train DATA"
        )
    if (newest := _newest(runs, CHECKPOINT_NAME)) is not None:
        return newest
    if (unfinished := _newest(runs, UNFINISHED_NAME)) is not None:
        raise CheckpointError(f"no finished run under {runs}/; {_go_on(unfinished.parent)}")
    raise CheckpointError(
        f"no finished run under {runs}/; train first: ssn-edge train DATA, or name one: "
        "--checkpoint PATH"
    )


def _newest(runs: Path, name: str) -> Path | None:
    found = [path for path in runs.glob(f"*/{name}") if path.is_file()]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path), default=None)


def _go_on(folder: Path) -> str:
    return f"go on with it: ssn-edge train --resume {folder}"


def find_package(named: Path | None, *, folder: Path = Path()) -> Path:
    """The package that is meant: the one named, or the only one in the project directory.

    Raises:
        PackageError: There is none, or more than one to choose from.
    """
    if named is not None:
        if not named.is_file():
            raise PackageError(f"there is no package {named}; make one: ssn-edge export")
        return named
    found = sorted(
        path for path in folder.glob(f"*{PACKAGE_SUFFIX}") if path.name[0] != "." and path.is_file()
    )
    if not found:
        raise PackageError(
            f"no package ({PACKAGE_SUFFIX}) in this directory; make one: ssn-edge export, or name "
            "one: --package FILE"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise PackageError(f"more than one package here ({names}); name one: --package FILE")
    return found[0]


def refuse_untrusted(package: Path, trust: Trust | None) -> None:
    """Refuse a package before anything is said of what is done with it.

    Args:
        package: The package.
        trust: Who must have signed it; None takes it signed or not.

    Raises:
        PackageError: Nobody who is trusted has, or it is not a whole, unchanged package.
    """
    from ssn_edge_runtime.package import Package

    if trust is not None:
        Package.open(package, trust=trust).close()


def are_for(settings: Path, package: Path, trust: Trust | None = None) -> bool:
    """Whether device settings are for a package.

    Args:
        settings: Their file.
        package: The package.
        trust: Who must have signed it; None takes it signed or not.

    Raises:
        ConfigError: The settings cannot be read.
        PackageError: Nor can the package.
    """
    from ssn_edge_runtime.package import Package
    from ssn_edge_runtime.settings_store import read_settings

    with Package.open(package, trust=trust) as opened:
        return read_settings(settings).package_id == opened.package_id


def find_settings(named: Path | None, *, default: Path) -> Path | None:
    """The device settings that are meant: the file named, or the default one if it is there.

    Raises:
        ConfigError: The named one is not there.
    """
    if named is None:
        return default if default.is_file() else None
    if not named.is_file():
        raise ConfigError(f"there are no settings {named}; make them: ssn-edge settings set")
    return named
