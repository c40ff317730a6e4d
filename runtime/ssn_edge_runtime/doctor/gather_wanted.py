"""What `run` would want here: cameras, addresses to listen on, a package's engine.

The line's own code answers, so that the doctor and `run` agree. That code needs NumPy and OpenCV;
where they are broken the answer is "not known", and why is another finding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ssn_edge_runtime.doctor.facts import Camera, PythonFacts, Wanted
from ssn_edge_runtime.doctor.host import Host
from ssn_edge_runtime.doctor.parsing import parse_formats, parse_v4l2_ctl
from ssn_edge_runtime.errors import SourceError

ARGUS_SOCKET = "tmp/argus_socket"
_NOT_TRIED = "not tried: NumPy and OpenCV must work first"
_RTSP_PORTS = {"rtsp": 554, "rtsps": 322}
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(?=\S)(.*)", re.DOTALL)


def gather_cameras(host: Host) -> tuple[Camera, ...]:
    """V4L2 devices, with what they offer."""
    cameras = []
    folders = host.files.folders("sys/class/video4linux/video[0-9]*")
    for folder in sorted(folders, key=lambda each: int(re.sub(r"\D", "", each.name) or 0)):
        path = f"/dev/{folder.name}"
        may_open = host.may_open(path)
        formats, error = _formats(host, path) if may_open else (None, None)
        cameras.append(Camera(path, host.files.line(folder / "name"), may_open, formats, error))
    return tuple(cameras)


def _formats(host: Host, path: str) -> tuple[tuple[str, ...] | None, str | None]:
    told = parse_formats(host.camera(path) or "")
    if isinstance(told, tuple):
        return told, None
    listed = host.run(("v4l2-ctl", "--list-formats-ext", "-d", path))
    if listed is not None:
        return parse_v4l2_ctl(listed), None
    return None, told or "its driver did not answer in time"


def gather_wanted_cameras(
    host: Host,
    python: PythonFacts,
    cameras: Sequence[Camera],
    texts: Sequence[str],
    *,
    loads: bool,
) -> tuple[Wanted, ...]:
    """Whether the cameras can be had that were asked for.

    Args:
        host: What is asked.
        python: For what sources need.
        cameras: V4L2 devices that are there.
        texts: As `run --device` takes them.
        loads: Whether the runtime can be imported here.

    Raises:
        ConfigError: An address that means nothing.
    """
    if not texts:
        return ()
    if not loads:
        return tuple(
            Wanted(re.sub(r"//[^/@]*@", "//", text), _NOT_TRIED, is_known=False) for text in texts
        )
    from ssn_edge_runtime.sources.address import without_password

    found = []
    for text in texts:
        named = _NAMED.fullmatch(text)  # as `run` takes several: NAME=CAMERA
        address = named[2] if named else text
        problem = _camera_problem(host, python, cameras, address)
        found.append(Wanted(without_password(text), problem))
    return tuple(found)


def _camera_problem(
    host: Host, python: PythonFacts, cameras: Sequence[Camera], text: str
) -> str | None:
    from ssn_edge_runtime.sources.address import Scheme, parse_address

    try:
        address = parse_address(text)
    except SourceError as error:
        return str(error)
    if address.scheme is Scheme.V4L2:
        path = "/" + str((host.root / address.target.lstrip("/")).resolve().relative_to(
            host.root.resolve()
        ))  # fmt: skip
        device = next((each for each in cameras if each.path == path), None)
        if device is None:
            there = ", ".join(each.path for each in cameras) or "none"
            return f"there is no camera {address.target}; there are: {there}"
        return None if device.may_open else f"{device.path} may not be opened by {host.user()}"
    if address.scheme is Scheme.RTSP:
        url = urlsplit(address.target)
        return host.cannot_reach(url.hostname or "", url.port or _RTSP_PORTS[url.scheme])
    if address.scheme in (Scheme.GSTREAMER, Scheme.GENICAM):
        if "gi" not in python.places:
            return "needs the distribution's gi, which this Python does not find"
        if "nvarguscamerasrc" in address.target and not (host.root / ARGUS_SOCKET).exists():
            return "needs NVIDIA's camera service, which does not run (/tmp/argus_socket)"
    if address.scheme is Scheme.WATCH and not Path(address.target).is_dir():
        return f"there is no folder {address.target}"
    return None


def gather_wanted_addresses(host: Host, texts: Sequence[str], *, loads: bool) -> tuple[Wanted, ...]:
    """Whether the addresses are free that `run --listen` would listen on.

    Raises:
        ConfigError: An address that may not be listened on.
    """
    return tuple(
        Wanted(text, host.cannot_listen(text)) if loads else Wanted(text, _NOT_TRIED, False)
        for text in dict.fromkeys(texts)
    )
