"""The Python that would run the line: what is installed, where it lies, and what can be imported.

Metadata is read from the search path and not through this process's imports, so that recorded
file trees can be looked at in the same way. Two distributions that share a folder, or one folder
that hides another, are found by that and not by what happens to be imported.
"""

from __future__ import annotations

import importlib.metadata
import re
from functools import partial
from pathlib import Path

from ssn_edge_runtime.doctor.facts import Distribution, Import, PythonFacts
from ssn_edge_runtime.doctor.host import Host, PythonProbe
from ssn_edge_runtime.kernel_files import quietly

MODULES = (
    *("numpy", "cv2", "tensorrt", "tensorrt_rtx", "onnxruntime", "openvino"),
    *("pycuda", "cuda", "linuxpy", "gi"),
)
"""Whose places are told."""
IMPORTED = ("numpy", "cv2", "tensorrt", "tensorrt_rtx", "onnxruntime", "openvino")
"""That are imported to see whether they work. NumPy is named first: OpenCV stands on it."""

_DISTRIBUTIONS = re.compile(
    r"ssn-edge|numpy|opencv-.*|onnxruntime.*|ort-.*|openvino|tensorrt.*|pycuda|cuda-(python|bindings)"
    r"|linuxpy|torch"
)


def gather_python(host: Host) -> PythonFacts:
    """The interpreter that this runs in, or the one that the host plays."""
    probe = host.python()
    is_environment = probe.prefix != probe.base_prefix
    places = {name: found for name in MODULES if (found := _places(host, probe, name))}
    imports: dict[str, Import] = {}
    for name in IMPORTED:
        if name in places:
            imports[name] = host.import_module(name)
    return PythonFacts(
        version=probe.version,
        executable=probe.executable,
        is_environment=is_environment,
        sees_system=_sees_system(host, probe) if is_environment else None,
        is_system=probe.base_prefix == "/usr",
        distributions=_distributions(host, probe),
        places=places,
        imports=imports,
    )


def _sees_system(host: Host, probe: PythonProbe) -> bool | None:
    text = host.files.text(f"{probe.prefix.lstrip('/')}/pyvenv.cfg")
    found = re.search(r"^include-system-site-packages\s*=\s*(\w+)", text or "", re.MULTILINE)
    return None if found is None else found[1].lower() == "true"


def _distributions(host: Host, probe: PythonProbe) -> tuple[Distribution, ...]:
    found = []
    for folder in probe.path:
        there = host.root / folder.lstrip("/")
        for each in quietly(partial(_installed_in, there)) or []:
            found.append(Distribution(*each, folder))
    return tuple(found)


def _installed_in(folder: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        return []
    found = set()
    for each in importlib.metadata.distributions(path=[str(folder)]):
        # A damaged installation has an entry without a name or a version.
        name, version = each.metadata["Name"], each.metadata["Version"]
        plain = re.sub(r"[-_.]+", "-", str(name or "")).lower()
        if _DISTRIBUTIONS.fullmatch(plain):
            found.add((plain, str(version or "?")))
    return sorted(found)


def _places(host: Host, probe: PythonProbe, module: str) -> tuple[str, ...]:
    """Folders on the path that hold a module, in order; several where one hides the others."""
    found = []
    for folder in probe.path:
        there = host.root / folder.lstrip("/")
        if quietly(partial(_holds, there, module)):
            found.append(folder)
    return tuple(dict.fromkeys(found))


def _holds(folder: Path, module: str) -> bool:
    if not folder.is_dir():
        return False
    if any(folder.glob(f"{module}.*.so")) or (folder / f"{module}.so").is_file():
        return True
    inside = folder / module
    if (inside / "__init__.py").is_file():
        return True
    # `cuda` is a namespace: cuda-python puts packages below it.
    return module == "cuda" and any(inside.glob("*/__init__.py"))
