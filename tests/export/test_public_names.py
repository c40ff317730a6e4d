"""What `ssn_edge_export` hands on, and what it takes to import it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import ssn_edge_export


def run_without(modules: list[str], code: str) -> str:
    """Run Python where some distributions are not installed."""
    blocked = f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    finished = subprocess.run(
        [sys.executable, "-c", blocked + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("name", ssn_edge_export.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(ssn_edge_export, name).__name__ == name


def test_another_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="'ssn_edge_export' has no attribute 'export_pakage'"):
        ssn_edge_export.export_pakage  # noqa: B018


def test_training_needs_neither_onnx_nor_an_engine() -> None:
    printed = run_without(
        ["onnx", "onnxscript", "onnxruntime"],
        """
        from ssn_edge_export.spatial_matrices import upscaled_and_pooled
        import ssn_edge.training.split_step
        print(tuple(upscaled_and_pooled(2, 4, align_corners=True).shape))
        """,
    )
    assert printed.strip() == "(4, 2)"
