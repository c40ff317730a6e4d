"""Python and what it would import: environments, NumPy, OpenCV, ONNX Runtime, TensorRT.

Sources:
    NVIDIA TensorRT documentation, installation (JetPack's TensorRT is for the system's Python; from
    JetPack 7 on pip has one that fits); NumPy 2.0 migration guide (modules built for NumPy 1);
    ONNX Runtime documentation (install one distribution only); opencv-python's README (the four
    distributions exclude each other).
"""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Distribution, Facts
from ssn_edge_runtime.doctor.findings import Finding, Level
from ssn_edge_runtime.doctor.parsing import version_numbers

OLDEST_PYTHON = (3, 10)
JETPACK_7 = (38,)
"""Jetson Linux 38 and newer: CUDA 13, and TensorRT's wheels for servers with ARM fit, too."""
OPENCV_WHEELS = (
    *("opencv-python-headless", "opencv-python"),
    *("opencv-contrib-python-headless", "opencv-contrib-python"),
)
NUMPY_1_OPENCV = "JetPack's OpenCV was built for NumPy 1"


def pip(words: str) -> str:
    """A command for this very Python, whatever else is on the search path of commands."""
    return f"python3 -m pip {words}"


def new_environment(facts: Facts) -> tuple[str, ...]:
    """Commands that make the environment that a Jetson needs; see runtime/jetson/README.md."""
    cuda = "<13" if facts.jetson and version_numbers(facts.jetson.l4t) < JETPACK_7 else ">=13"
    return (
        "/usr/bin/python3 -m venv --system-site-packages ~/ssn-edge",
        f"~/ssn-edge/bin/pip install 'ssn-edge[cpu,cuda,v4l2]' 'numpy<2' 'cuda-python{cuda}'",
    )


def judge_python(facts: Facts) -> list[Finding]:
    """The interpreter, and the environment on a Jetson."""
    python, area = facts.python, "Python"
    kind = "an environment" if python.is_environment else "not in an environment"
    told = f"Python {python.version} ({kind}, {python.executable})"
    if version_numbers(python.version)[:2] < OLDEST_PYTHON:
        return [Finding(area, Level.PROBLEM, told, "Python 3.10 or newer", _update(facts))]
    findings = [Finding(area, Level.OK, told)]
    if facts.jetson is None:
        return findings
    area = "environment"
    if not python.is_system:
        findings.append(
            Finding(
                area,
                Level.WARNING,
                "this Python is not the system's, so it never sees JetPack's TensorRT and OpenCV",
                "an environment of /usr/bin/python3 with --system-site-packages",
                new_environment(facts),
            )
        )
    elif python.is_environment and python.sees_system is False:
        findings.append(
            Finding(
                area,
                Level.WARNING,
                "made without --system-site-packages: JetPack's TensorRT and OpenCV are hidden",
                "an environment with --system-site-packages",
                new_environment(facts),
            )
        )
    elif python.is_environment:
        findings.append(Finding(area, Level.OK, "sees the system's packages"))
    else:
        findings.append(
            Finding(
                area,
                Level.NOTE,
                "packages are installed into the system's Python",
                "an environment, which an update of the system leaves alone",
                new_environment(facts),
            )
        )
    return findings


def _update(facts: Facts) -> tuple[str, ...]:
    if facts.jetson is not None:
        return ("update this Jetson to JetPack 6.2 or newer, which brings Python 3.10 or 3.12",)
    return ("sudo apt install python3.10 python3.10-venv",)


def judge_numpy(facts: Facts) -> list[Finding]:
    """NumPy, which everything stands on."""
    fix: tuple[str, ...]
    python, area = facts.python, "NumPy"
    found = python.imports.get("numpy")
    if found is None or found.error is not None:
        told = "is not installed" if found is None else f"cannot be imported ({found.error})"
        fix = (pip("install --force-reinstall --no-deps 'numpy>=1.23'"),)
        if _opencv_is_of_numpy_1(facts):
            fix = (pip("install --force-reinstall --no-deps 'numpy>=1.23,<2'"),)
        return [Finding(area, Level.PROBLEM, told, "NumPy 1.23 or newer", fix)]
    told = f"NumPy {found.version or '?'}"
    if version_numbers(found.version) < (1, 23):
        fix = (pip("install 'numpy>=1.23,<2'"),)
        return [Finding(area, Level.PROBLEM, told, "NumPy 1.23 or newer", fix)]
    return [Finding(area, Level.OK, told)]


def _opencv_is_of_numpy_1(facts: Facts) -> bool:
    """Whether the `cv2` that counts is JetPack's own, all of which were built for NumPy 1."""
    places = facts.python.places.get("cv2", ())
    return bool(facts.jetson and places and places[0].startswith("/usr/lib/"))


def judge_opencv(facts: Facts) -> list[Finding]:
    """OpenCV: one, that works, and with this NumPy."""
    fix: tuple[str, ...]
    python, area = facts.python, "OpenCV"
    on_jetson = facts.jetson is not None
    wheels = python.named(*OPENCV_WHEELS)
    places = python.places.get("cv2", ())
    found = python.imports.get("cv2")
    numpy = python.imports.get("numpy")
    findings = []
    if found is None:
        fix = (
            ("sudo apt install nvidia-opencv",)
            if on_jetson
            else (pip("install 'ssn-edge[opencv]'"),)
        )
        if on_jetson and python.sees_system is False:
            fix = new_environment(facts)
        return [Finding(area, Level.PROBLEM, "is not installed", "cv2 4.5 or newer", fix)]
    numpy_is_2 = numpy is not None and version_numbers(numpy.version)[:1] >= (2,)
    if found.error is not None:
        fix = (pip("install --force-reinstall opencv-python-headless"),)
        wanted = "a cv2 that can be imported"
        if _opencv_is_of_numpy_1(facts) and numpy_is_2:
            fix, wanted = (pip("install 'numpy<2'"),), f"NumPy 1: {NUMPY_1_OPENCV}"
        told = f"{places[0]}: cannot be imported ({found.error})"
        findings.append(Finding(area, Level.PROBLEM, told, wanted, fix))
    elif _opencv_is_of_numpy_1(facts) and numpy_is_2:
        told = f"OpenCV {found.version} of JetPack beside NumPy {numpy.version if numpy else '?'}"
        findings.append(
            Finding(
                area,
                Level.WARNING,
                told,
                f"NumPy 1, for {NUMPY_1_OPENCV} and may crash",
                (pip("install 'numpy<2'"),),
            )
        )
    else:
        findings.append(Finding(area, Level.OK, f"OpenCV {found.version or '?'} in {places[0]}"))
    if len(wheels) > 1:
        findings.append(
            Finding(
                area,
                Level.WARNING,
                f"{_listed(wheels)} write into one folder, cv2, and the last one wins",
                "one of them",
                (
                    pip(f"uninstall -y {' '.join(each.name for each in wheels)}"),
                    *(() if on_jetson else (pip("install opencv-python-headless"),)),
                ),
            )
        )
    elif on_jetson and wheels and len(places) > 1:
        findings.append(
            Finding(
                area,
                Level.WARNING,
                f"{_listed(wheels)} hides JetPack's own in {places[-1]}, and has no GStreamer",
                "JetPack's alone",
                (pip(f"uninstall -y {wheels[0].name}"),),
            )
        )
    elif len(places) > 1:
        told = f"two cv2 on the search path, {places[0]} hides {', '.join(places[1:])}"
        fix = (f"remove the one in {places[1]}, unless it is meant for others",)
        findings.append(Finding(area, Level.NOTE, told, "one", fix))
    elif any("headless" not in each.name for each in wheels):
        findings.append(
            Finding(
                area,
                Level.NOTE,
                f"{_listed(wheels)} brings a window system that a line does not need",
                "opencv-python-headless",
                (
                    pip(f"uninstall -y {wheels[0].name}"),
                    pip("install opencv-python-headless"),
                ),
            )
        )
    return findings


def judge_onnxruntime(facts: Facts) -> list[Finding]:
    """ONNX Runtime: one distribution, and the right one for a Jetson."""
    python, area = facts.python, "ONNX Runtime"
    there = python.named(
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn"),
        *("onnxruntime-directml", "ort-nightly", "ort-nightly-gpu"),
    )
    found = python.imports.get("onnxruntime")
    if len(there) > 1:
        names = " ".join(each.name for each in there)
        extra = "gpu" if facts.device.gpu is not None and facts.jetson is None else "cpu"
        return [
            Finding(
                area,
                Level.WARNING,
                f"{_listed(there)} share one folder: the one that was installed last counts, "
                "removing one breaks the other, and no line runs on both",
                "one of them",
                (pip(f"uninstall -y {names}"), pip(f"install 'ssn-edge[{extra}]'")),
            )
        ]
    if found is None:
        return [
            Finding(
                area,
                Level.NOTE,
                "is not installed",
                "it, for the engine onnxruntime-cpu",
                (pip("install 'ssn-edge[cpu]'"),),
            )
        ]
    if found.error is not None:
        fix = (pip("install --force-reinstall --no-deps onnxruntime"),)
        told = f"cannot be imported ({found.error})"
        return [Finding(area, Level.WARNING, told, "one that works", fix)]
    told = _listed(there) if there else f"onnxruntime {found.version or '?'}"
    if facts.jetson is not None and any(each.name.endswith("gpu") for each in there):
        return [
            Finding(
                area,
                Level.WARNING,
                f"{told}: wheels from the public index have no code for a Jetson Orin's GPU",
                "onnxruntime on the processor; the GPU is TensorRT's",
                (pip("uninstall -y onnxruntime-gpu"), pip("install 'ssn-edge[cpu]'")),
            )
        ]
    return [Finding(area, Level.OK, told)]


def _listed(there: tuple[Distribution, ...]) -> str:
    return " and ".join(f"{each.name} {each.version}" for each in there)
