"""All that runs on the controller: a model package and camera frames in, decisions out.

Names are loaded when they are first used: `ssn-edge doctor` must start where NumPy or OpenCV is
broken, to say so.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssn_edge_runtime.decision import (
        Decision,
        Reason,
        ScoringMethod,
        ScoringRule,
        Thresholds,
        Verdict,
    )
    from ssn_edge_runtime.defects import Defect
    from ssn_edge_runtime.errors import (
        ConfigError,
        EngineError,
        PackageError,
        PictureError,
        ScoreError,
        SourceError,
        SsnEdgeError,
        StorageError,
    )
    from ssn_edge_runtime.inspector import Inspector
    from ssn_edge_runtime.manifest import Manifest
    from ssn_edge_runtime.package import Package
    from ssn_edge_runtime.pictures import read_picture
    from ssn_edge_runtime.preprocess import FrameError, Geometry
    from ssn_edge_runtime.settings import DeviceSettings

__all__ = [
    "ConfigError",
    "Decision",
    "Defect",
    "DeviceSettings",
    "EngineError",
    "FrameError",
    "Geometry",
    "Inspector",
    "Manifest",
    "Package",
    "PackageError",
    "PictureError",
    "Reason",
    "ScoreError",
    "ScoringMethod",
    "ScoringRule",
    "SourceError",
    "SsnEdgeError",
    "StorageError",
    "Thresholds",
    "Verdict",
    "read_picture",
]

_HOMES = {
    "decision": ("Decision", "Reason", "ScoringMethod", "ScoringRule", "Thresholds", "Verdict"),
    "defects": ("Defect",),
    "errors": (
        *("ConfigError", "EngineError", "PackageError", "PictureError", "ScoreError"),
        *("SourceError", "SsnEdgeError", "StorageError"),
    ),
    "inspector": ("Inspector",),
    "manifest": ("Manifest",),
    "package": ("Package",),
    "pictures": ("read_picture",),
    "preprocess": ("FrameError", "Geometry"),
    "settings": ("DeviceSettings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
