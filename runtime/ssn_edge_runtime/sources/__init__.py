"""Frames in: cameras and recordings behind one word on the command line."""

from __future__ import annotations

import re
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, Source
from ssn_edge_runtime.sources.folder import FolderSource
from ssn_edge_runtime.sources.v4l2 import V4l2Source
from ssn_edge_runtime.sources.video_file import VIDEO_SUFFIXES, VideoFileSource

__all__ = [
    "DamagedFrame",
    "FolderSource",
    "Frame",
    "Source",
    "V4l2Source",
    "VideoFileSource",
    "open_source",
]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_source(device: str, *, recursive: bool = False) -> Source:
    """Find the source that a `--device` text means; entering it opens it.

    Args:
        device: A V4L2 device (``/dev/video0``, or its number), a video file, a folder of pictures,
            or one picture. A folder named like a number is ``./0``.
        recursive: For a folder: whether pictures in folders below count.

    Raises:
        ConfigError: An address or a file that no source here reads.
        SourceError: There is nothing of that name.
    """
    if scheme := _SCHEME.match(device):
        raise ConfigError(
            f"--device {device}: {scheme[1]}:// sources are not in this version; use a V4L2 "
            "device, a video file, a folder of pictures or one picture"
        )
    if device.isdecimal() or device.startswith("/dev/"):
        return V4l2Source(device)
    path = Path(device)
    if device and path.is_dir():
        return FolderSource(path, recursive=recursive)
    if not device or not path.exists():
        raise SourceError(
            f"--device {device}: there is nothing of that name; use a V4L2 device such as "
            "/dev/video0, a video file, a folder of pictures or one picture"
        )
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VideoFileSource(path)
    if suffix in PICTURE_SUFFIXES:
        return FolderSource(path)
    raise ConfigError(
        f"--device {device}: is neither a video ({', '.join(VIDEO_SUFFIXES)}) nor a picture "
        f"({', '.join(PICTURE_SUFFIXES)})"
    )
