"""The one error of a source whose library or system package is not installed."""

from __future__ import annotations

from ssn_edge_runtime.errors import SourceError


def missing_library(what: str, needs: str, install: str) -> SourceError:
    """The error of a camera that is not available here until something is installed.

    A `SourceError`, exit code 5: what was asked for is right, this device lacks a part of it.

    Args:
        what: The camera, or the kind of cameras.
        needs: What is not there.
        install: What to do.
    """
    return SourceError(f"{what} needs {needs}: {install}")
