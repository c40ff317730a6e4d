"""Frames in: cameras and recordings behind one word on the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ssn_edge_runtime.sources.address import Scheme, SourceAddress, parse_address
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet, Source
from ssn_edge_runtime.sources.folder import FolderSource
from ssn_edge_runtime.sources.genicam import GenicamSource
from ssn_edge_runtime.sources.gstreamer import GStreamerSource
from ssn_edge_runtime.sources.missing_library import missing_library
from ssn_edge_runtime.sources.options import SourceOptions, TriggerMode
from ssn_edge_runtime.sources.pattern import TestPatternSource
from ssn_edge_runtime.sources.reopening import ReopenBudget, Reopening
from ssn_edge_runtime.sources.rtsp import RtspSource
from ssn_edge_runtime.sources.v4l2 import V4l2Source
from ssn_edge_runtime.sources.v4l2_kernel import KernelV4l2Source
from ssn_edge_runtime.sources.video_file import VideoFileSource
from ssn_edge_runtime.sources.watched_folder import WatchedFolderSource, watch_folder

__all__ = [
    "DamagedFrame",
    "FolderSource",
    "Frame",
    "GStreamerSource",
    "GenicamSource",
    "KernelV4l2Source",
    "NoFrameYet",
    "ReopenBudget",
    "Reopening",
    "RtspSource",
    "Scheme",
    "Source",
    "SourceAddress",
    "SourceOptions",
    "TestPatternSource",
    "TriggerMode",
    "V4l2Source",
    "VideoFileSource",
    "WatchedFolderSource",
    "open_source",
    "parse_address",
]


def open_source(device: str, *, recursive: bool = False) -> Source:
    """Find the source that a `--device` text means; entering it opens it.

    Args:
        device: See `ssn_edge_runtime.sources.address` for the grammar. A folder named like a
            number is ``./0``.
        recursive: For a folder: whether pictures in folders below count.

    Raises:
        ConfigError: An address that means nothing here.
        SourceError: There is nothing of that name, or a library that it needs is missing.
    """
    address = parse_address(device)
    target, options = address.target, address.options
    if address.scheme is Scheme.V4L2:
        return _v4l2(target, options)
    if address.scheme is Scheme.RTSP:
        return RtspSource(target, transport=options.transport)
    if address.scheme is Scheme.GSTREAMER:
        return GStreamerSource(target, stamps=options.stamps)
    if address.scheme is Scheme.GENICAM:
        return GenicamSource(target, options)
    if address.scheme is Scheme.WATCH:
        return watch_folder(target, existing=options.existing)
    if address.scheme is Scheme.TEST:
        return TestPatternSource(options)
    if address.scheme is Scheme.VIDEO:
        return VideoFileSource(Path(target))
    if address.scheme is Scheme.PICTURES:
        return FolderSource(Path(target), recursive=recursive)
    raise AssertionError(address.scheme)


def _v4l2(target: str, options: SourceOptions) -> Source:
    if find_spec("linuxpy") is not None:
        return KernelV4l2Source(target, options)
    if not options.is_default:
        raise missing_library(
            f"--device v4l2:{target}", "linuxpy for its settings", "pip install 'ssn-edge[v4l2]'"
        )
    return V4l2Source(target)
