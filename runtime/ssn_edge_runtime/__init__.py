"""All that runs on the controller: a model package and camera frames in, decisions out."""

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
