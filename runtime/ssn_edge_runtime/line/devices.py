"""Cameras by name: what `--device`, given once or several times, means to a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sources.address import parse_address, without_password

ONLY_CAMERA = "camera"
"""The name of a camera that was given none."""
_NAMED = re.compile(r"([a-z][a-z0-9_-]*)=(.*)", re.DOTALL)


def cameras_of(devices: Sequence[str]) -> dict[str, str]:
    """The source of each camera by its name, in the order given.

    Args:
        devices: Each ``NAME=SOURCE``, or a single ``SOURCE``, whose camera is then `ONLY_CAMERA`.
            A source has ``=`` in its options only, behind a ``:`` or ``?``, which no name has; a
            file of such a name is that file.

    Raises:
        ConfigError: None, a name twice, or several without a name; or what follows is no source.
        SourceError: A recording of that name is not there.
    """
    cameras: dict[str, str] = {}
    for text in devices:
        name, source = named_source(text)
        if name is None:
            if len(devices) > 1:
                raise ConfigError(
                    f"--device {without_password(text)}: of several cameras each has a name, as in "
                    "--device left=/dev/video0 --device right=/dev/video1"
                )
            name = ONLY_CAMERA
        else:
            parse_address(source)
        if name in cameras:
            raise ConfigError(f"--device {name}=: stands there twice; give each camera its name")
        cameras[name] = source
    if not cameras:
        raise ConfigError("a line needs a camera: --device /dev/video0")
    return cameras


def named_source(text: str) -> tuple[str | None, str]:
    """A `--device` text as name and source; None where it has no name."""
    match = _NAMED.fullmatch(text)
    if match is None or Path(text).exists():
        return None, text
    return match[1], match[2]
