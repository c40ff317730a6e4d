"""The one grammar of `--device`: a text to a `SourceAddress`, with every error told here.

::

    /dev/video0, 0                          a V4L2 camera, with the settings it has
    v4l2:/dev/video0?width=1280&height=720  the same, with settings
    rtsp://USER:PASSWORD@HOST/PATH#transport=udp
    gst:PIPELINE                            or gst:PIPELINE ?stamps=exposure
    genicam:NAME_OR_IP?exposure=500
    watch:FOLDER?existing=yes
    test:?width=640&height=480&fault=frozen@50
    line.avi, pictures/, part.png           recordings
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES
from ssn_edge_runtime.sources.options import (
    SourceOptions,
    TriggerMode,
    did_you_mean,
    parse_options,
)

VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mkv", ".mov", ".mpg", ".mpeg", ".webm", ".wmv")
"""Files that count as videos, in lower case."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_STREAMED = re.compile(r"\brtspsrc\b|\brtsp[a-z]*://", re.IGNORECASE)
_STAMPS = re.compile(r"(.*?)\s\?(stamps=.*)", re.DOTALL)


class Scheme(Enum):
    """Which kind of source an address means."""

    V4L2 = "v4l2"
    RTSP = "rtsp"
    GSTREAMER = "gst"
    GENICAM = "genicam"
    WATCH = "watch"
    TEST = "test"
    VIDEO = "video"
    PICTURES = "pictures"


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A `--device` text, taken apart.

    Args:
        scheme: Which kind of source.
        target: Device, URL, pipeline, camera, folder or file.
        options: What is asked of it.
    """

    scheme: Scheme
    target: str
    options: SourceOptions = field(default_factory=SourceOptions)


def parse_address(text: str) -> SourceAddress:
    """Take a `--device` text apart.

    Raises:
        ConfigError: An unknown scheme, key or value; the message names the nearest known one.
        SourceError: A recording of that name is not there.
    """
    shown = without_password(text)
    match = _SCHEME.fullmatch(text)
    if match is not None:
        scheme, rest = match[1].lower(), match[2]
        if scheme in _PARSERS:
            return _PARSERS[scheme](shown, rest)
        # A file may have a colon in its name; an address with two slashes is never one.
        if rest.startswith("//") or not Path(text).exists():
            raise ConfigError(
                f"--device {shown}: {scheme}: is no source; {did_you_mean(scheme, _PARSERS)}"
            )
    if text.isdecimal():
        return SourceAddress(Scheme.V4L2, f"/dev/video{int(text)}")
    if text.startswith("/dev/"):
        if "?" in text:
            raise ConfigError(f"--device {text}: settings need the scheme: v4l2:{text}")
        return SourceAddress(Scheme.V4L2, text)
    return _recording(text)


def _recording(text: str) -> SourceAddress:
    path = Path(text)
    if text and path.is_dir():
        return SourceAddress(Scheme.PICTURES, text)
    if not text or not path.exists():
        raise SourceError(
            f"--device {text}: there is nothing of that name; use a V4L2 device such as "
            "/dev/video0, a video file, a folder of pictures, one picture, or an address that "
            f"begins with {', '.join(_PARSERS)}"
        )
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return SourceAddress(Scheme.VIDEO, text)
    if suffix in PICTURE_SUFFIXES:
        return SourceAddress(Scheme.PICTURES, text)
    raise ConfigError(
        f"--device {text}: is neither a video ({', '.join(VIDEO_SUFFIXES)}) nor a picture "
        f"({', '.join(PICTURE_SUFFIXES)})"
    )


def _v4l2(text: str, rest: str) -> SourceAddress:
    target, options = _with_query(text, rest, _V4L2_KEYS)
    if target.isdecimal():
        target = f"/dev/video{int(target)}"
    if not target.startswith("/"):
        raise ConfigError(f"--device {text}: a device file is wanted, such as v4l2:/dev/video0")
    return SourceAddress(Scheme.V4L2, target, options)


def _rtsp(text: str, rest: str) -> SourceAddress:
    # What follows a question mark belongs to the camera; only the fragment is ours.
    target, _, fragment = rest.partition("#")
    url = text.partition(":")[0].lower() + ":" + target
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"--device {text}: {error}") from error
    if not rest.startswith("//") or not host:
        raise ConfigError(f"--device {text}: a host is wanted, as in rtsp://192.168.0.20/stream")
    return SourceAddress(Scheme.RTSP, url, parse_options(text, fragment, ("transport",)))


def _gstreamer(text: str, rest: str) -> SourceAddress:
    # A pipeline may hold question marks of its own: only one after a blank, with our key, counts.
    match = _STAMPS.fullmatch(rest)
    pipeline, query = (match[1], match[2]) if match is not None else (rest, "")
    if not pipeline.strip():
        raise ConfigError(f"--device {text}: a pipeline is wanted, as in gst:videotestsrc")
    options = parse_options(text, query, ("stamps",))
    if options.stamps is not None and _STREAMED.search(pipeline):
        raise ConfigError(
            f"--device {text}: what comes over RTSP is for watching, not for triggers: its stamps "
            "are not those of the exposure, and a lost packet smears the picture; leave out "
            "?stamps=exposure"
        )
    return SourceAddress(Scheme.GSTREAMER, pipeline.strip(), options)


def _genicam(text: str, rest: str) -> SourceAddress:
    target, options = _with_query(text, rest, _GENICAM_KEYS)
    if options.line is not None and options.trigger is not TriggerMode.LINE:
        raise ConfigError(f"--device {text}: line={options.line} needs trigger=line beside it")
    return SourceAddress(Scheme.GENICAM, target, options)


def _watch(text: str, rest: str) -> SourceAddress:
    target, options = _with_query(text, rest, ("existing",))
    if not target:
        raise ConfigError(f"--device {text}: a folder is wanted, as in watch:incoming/")
    return SourceAddress(Scheme.WATCH, target, options)


def _test(text: str, rest: str) -> SourceAddress:
    target, options = _with_query(text, rest, _TEST_KEYS)
    if target:
        raise ConfigError(f"--device {text}: options come after a question mark: test:?{target}")
    if options.format not in (None, "bgr", "mono"):
        raise ConfigError(f"--device {text}: format={options.format}: bgr or mono is wanted")
    return SourceAddress(Scheme.TEST, "", options)


_PARSERS: Mapping[str, Callable[[str, str], SourceAddress]] = {
    "v4l2": _v4l2,
    "rtsp": _rtsp,
    "rtsps": _rtsp,
    "gst": _gstreamer,
    "genicam": _genicam,
    "watch": _watch,
    "test": _test,
}
_V4L2_KEYS = ("width", "height", "format", "fps", "exposure", "gain")
_GENICAM_KEYS = (*_V4L2_KEYS, "packet_size", "trigger", "line")
_TEST_KEYS = ("width", "height", "format", "fps", "frames", "defect_every", "seed", "fault")


def _with_query(text: str, rest: str, keys: tuple[str, ...]) -> tuple[str, SourceOptions]:
    target, _, query = rest.partition("?")
    return target, parse_options(text, query, keys)


def without_password(url: str) -> str:
    """An address as it may be written down: records and messages hold no password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
