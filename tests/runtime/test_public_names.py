"""What `import ssn_edge_runtime` gives, and what it must not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssn_edge_runtime
from ssn_edge_runtime import errors
from ssn_edge_runtime.errors import SsnEdgeError

PUBLIC = [
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


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    root = str(Path(ssn_edge_runtime.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert ssn_edge_runtime.__all__ == PUBLIC == sorted(PUBLIC)
    for name in PUBLIC:
        assert hasattr(ssn_edge_runtime, name)


def test_the_runtime_needs_no_training_stack_and_no_engine_before_one_is_opened() -> None:
    loaded = python(
        "import sys, ssn_edge_runtime, ssn_edge_runtime.inspector, ssn_edge_runtime.engines\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    assert "cv2" in loaded
    assert not {"torch", "timm", "onnx", "typer", "onnxruntime", "tensorrt"} & set(loaded)


def test_no_module_of_the_runtime_imports_the_training_stack() -> None:
    loaded = python(
        "import importlib, pkgutil, sys, ssn_edge_runtime\n"
        "for each in pkgutil.walk_packages(ssn_edge_runtime.__path__, 'ssn_edge_runtime.'):\n"
        "    importlib.import_module(each.name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    assert not {"torch", "torchvision", "timm", "onnx", "typer"} & set(loaded)


def test_importing_logs_nothing_and_sets_up_no_logging() -> None:
    assert python("import logging, ssn_edge_runtime; print(logging.getLogger().handlers)") == "[]\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.SsnEdgeError, 1),
        (errors.ConfigError, 2),
        (errors.DatasetError, 3),
        (errors.PictureError, 3),
        (errors.CheckpointError, 3),
        (errors.PackageError, 3),
        (errors.ScoreError, 3),
        (errors.ExportError, 4),
        (errors.CalibrationError, 4),
        (errors.AuditError, 4),
        (errors.CertificateError, 4),
        (errors.EngineError, 5),
        (errors.SourceError, 5),
        (errors.StorageError, 5),
        (errors.ListenError, 5),
    ],
)
def test_each_error_has_its_exit_code(error: type[SsnEdgeError], exit_code: int) -> None:
    assert issubclass(error, SsnEdgeError)
    assert error.exit_code == exit_code
    assert error.__name__ in errors.__all__
