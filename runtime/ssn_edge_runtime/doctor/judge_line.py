"""What the line wants: its package, cameras, addresses, and the systemd unit."""

from __future__ import annotations

import re

from ssn_edge_runtime.doctor.facts import Camera, Facts
from ssn_edge_runtime.doctor.findings import Finding, Level

FORMATS_SHOWN = 4
"""Of a camera, for people; the facts have all."""
READ = ("GREY", "BGR3", "RGB3", "YUYV", "UYVY", "MJPG", "JPEG")
"""That `sources.v4l2_pixels` makes frames of. A test holds both equal."""
_RAW = re.compile(r"BA81|GBRG|GRBG|RGGB|BYR2|(BG|GB|BA|RG|GR)1[0246]")
"""FourCCs of a sensor's own pixels, of which somebody must make colours."""


def judge_package(facts: Facts) -> list[Finding]:
    """Whether `run` would take the package."""
    package, area = facts.package, "package"
    if package is None:
        return []
    if package.problem is None:
        return [Finding(area, Level.OK, f"{package.path}: {package.engine}")]
    level = Level.PROBLEM if package.is_known else Level.NOTE
    fix = (f"ssn-edge info {package.path}",)
    found = f"{package.path}: {package.problem.removeprefix(f'{package.path}: ')}"
    return [Finding(area, level, found, "one that runs here", fix)]


def judge_cameras(facts: Facts) -> list[Finding]:
    """Cameras that are there, and those that were asked for."""
    area = "camera"
    findings = [_camera(each) for each in facts.cameras]
    if not findings:
        found = "no V4L2 camera (/dev/video*)"
        if facts.wanted_cameras:
            findings = [Finding(area, Level.OK, found)]
        else:
            fix = (
                "plug one in and look: ls /dev/video*, or name it: ssn-edge doctor --camera ...",
            )
            findings = [Finding(area, Level.NOTE, found, "one, unless it is in the network", fix)]
    for wanted in facts.wanted_cameras:
        if wanted.problem is None:
            findings.append(Finding(area, Level.OK, f"{wanted.what}: can be opened"))
            continue
        level = Level.PROBLEM if wanted.is_known else Level.NOTE
        told = f"{wanted.what}: {wanted.problem}"
        findings.append(Finding(area, level, told, "a camera that answers", _mend(wanted.problem)))
    return findings


def _camera(camera: Camera) -> Finding:
    fix: tuple[str, ...]
    area, told = "camera", camera.path + (f" ({camera.name})" if camera.name else "")
    if camera.may_open is False:
        fix = ("sudo usermod -aG video $USER", "log out and in again")
        return Finding(area, Level.WARNING, f"{told}: may not be opened", "group video", fix)
    if camera.formats is None:
        told += f": formats not known ({camera.error})"
        fix = ("python3 -m pip install 'ssn-edge[v4l2]'", "sudo apt install v4l-utils")
        return Finding(area, Level.NOTE, told, "", fix)
    if not camera.formats:
        return Finding(area, Level.NOTE, f"{told}: offers no format (not a device that captures)")
    if all(_RAW.fullmatch(each.partition(" ")[0]) for each in camera.formats):
        told += f": raw sensor data only ({camera.formats[0]})"
        fix = (
            "ssn-edge run --device 'gst:nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx'",
        )
        return Finding(area, Level.NOTE, told, "NVIDIA's camera service, which makes colours", fix)
    # Those that a line reads come first.
    formats = sorted(camera.formats, key=lambda each: each.partition(" ")[0] not in READ)
    more = len(formats) - FORMATS_SHOWN
    told += f": {'; '.join(formats[:FORMATS_SHOWN])}" + (f"; and {more} more" if more > 0 else "")
    if formats[0].partition(" ")[0] not in READ:
        fix = (f"ssn-edge run --device 'gst:v4l2src device={camera.path} ! videoconvert'",)
        return Finding(area, Level.NOTE, told, f"one of {', '.join(READ)}", fix)
    return Finding(area, Level.OK, told)


def _mend(problem: str) -> tuple[str, ...]:
    if "distribution's gi" in problem:
        return (
            "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0",
            "python3 -m venv --system-site-packages ~/ssn-edge",
        )
    if "argus" in problem:
        return ("sudo systemctl restart nvargus-daemon",)
    if "may not be opened" in problem:
        return ("sudo usermod -aG video $USER", "log out and in again")
    if "does not answer" in problem:
        return ("look at cable, power and address of the camera: ping it",)
    return ("ls -l /dev/v4l/by-id /dev/video*",)


def judge_addresses(facts: Facts) -> list[Finding]:
    """Whether addresses are free that `run --listen` would take."""
    area, findings = "address", []
    state = (facts.service.properties or {}).get("ActiveState")
    for wanted in facts.wanted_addresses:
        if wanted.problem is None:
            findings.append(Finding(area, Level.OK, f"{wanted.what}: free"))
            continue
        told = f"{wanted.what}: {wanted.problem}"
        if not wanted.is_known:
            findings.append(Finding(area, Level.NOTE, told))
        elif state == "active":
            told += f"; {facts.service.name}.service runs, and may be who listens"
            findings.append(Finding(area, Level.NOTE, told))
        else:
            fix = ("sudo ss --listening --processes --tcp --unix",)
            findings.append(Finding(area, Level.PROBLEM, told, "free", fix))
    return findings


def judge_service(facts: Facts) -> list[Finding]:
    """The systemd unit."""
    fix: tuple[str, ...]
    service, area = facts.service, "service"
    name, told = f"{service.name}.service", service.properties
    if told is None:
        found = "not known: systemd cannot be asked here"
        return [Finding(area, Level.NOTE, found)]
    if told.get("LoadState") != "loaded" and not service.is_there:
        fix = ("sudo ssn-edge service install --device /dev/video0",)
        return [Finding(area, Level.NOTE, f"{name} is not installed", "", fix)]
    if told.get("LoadState") not in ("loaded", None):
        fix = ("sudo systemctl daemon-reload", f"systemd-analyze verify {name}")
        found = f"{name} is not loaded ({told.get('LoadState')})"
        return [Finding(area, Level.WARNING, found, "loaded", fix)]
    state = f"{told.get('ActiveState', '?')} ({told.get('SubState', '?')})"
    if told.get("ActiveState") == "failed" or told.get("Result", "success") != "success":
        found = f"{name} is {state}, result {told.get('Result')}"
        fix = (f"journalctl -u {name} -n 50", f"sudo systemctl restart {name}")
        return [Finding(area, Level.WARNING, found, "active", fix)]
    if told.get("UnitFileState") == "disabled":
        fix = (f"sudo systemctl enable {name}",)
        found = f"{name} is {state}, and does not start with the device"
        return [Finding(area, Level.WARNING, found, "enabled", fix)]
    restarts = told.get("NRestarts", "0")
    if restarts not in ("0", ""):
        fix = (f"journalctl -u {name} -n 50",)
        found = f"{name} is {state}, restarted {restarts} times"
        return [Finding(area, Level.NOTE, found, "never", fix)]
    return [Finding(area, Level.OK, f"{name} is {state}")]
