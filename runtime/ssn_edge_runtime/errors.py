"""The one tree of errors, on the ground floor so that every room can raise from it.

::

    SsnEdgeError                exit code
    ├── ConfigError             2   a setting is missing, unknown or impossible with another
    ├── DatasetError            3   no pictures, a mask that does not fit, no normal part
    │   └── PictureError        3   one picture that cannot be used, by name
    ├── CheckpointError         3   keys, shapes or checksum do not fit
    ├── PackageError            3   not a whole, canonical, unchanged model package
    │   └── SignatureError      3   not signed by whom this device trusts, or outdated
    ├── ScoreError              3   a network gave NaN or infinity
    ├── ExportError             4   tracing failed, or the exported graph decides differently
    ├── CalibrationError        4   too few pictures for the promise
    ├── AuditError              4   a decision log is not whole and unaltered
    ├── EngineError             5   cannot be loaded or run on this device
    │   └── CertificateError    4   decides differently from what its package was certified for
    ├── SourceError             5   a camera that does not open, stalls or changes its size
    ├── StorageError            5   decisions can no longer be written
    └── ListenError             5   nobody could reach a server at this address

Each message says what was found, what was wanted and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AuditError",
    "CalibrationError",
    "CertificateError",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "EngineError",
    "ExportError",
    "ListenError",
    "PackageError",
    "PictureError",
    "ScoreError",
    "SignatureError",
    "SourceError",
    "SsnEdgeError",
    "StorageError",
]


class SsnEdgeError(Exception):
    """Anything that ssn-edge raises on purpose; `exit_code` is the command line's."""

    exit_code: ClassVar[int] = 1


class ConfigError(SsnEdgeError):
    """A setting is missing, unknown or impossible together with another."""

    exit_code = 2


class DatasetError(SsnEdgeError):
    """The data cannot be used: no pictures, a mask that does not fit, no normal part."""

    exit_code = 3


class PictureError(DatasetError):
    """One picture file that cannot be used; the message names it."""


class CheckpointError(SsnEdgeError):
    """A checkpoint's keys, shapes or checksum do not fit."""

    exit_code = 3


class PackageError(SsnEdgeError):
    """A file is not a whole, canonical, unchanged model package."""

    exit_code = 3


class SignatureError(PackageError):
    """A package, or settings, not signed by whom this device trusts, or older than it has taken."""


class ScoreError(SsnEdgeError):
    """A network gave NaN or infinity."""

    exit_code = 3


class ExportError(SsnEdgeError):
    """Tracing failed, or the exported graph decides differently from the checkpoint."""

    exit_code = 4


class CalibrationError(SsnEdgeError):
    """Too few pictures, or scores that cannot carry a threshold."""

    exit_code = 4


class AuditError(SsnEdgeError):
    """A decision log is not whole and unaltered."""

    exit_code = 4


class EngineError(SsnEdgeError):
    """An engine cannot be loaded or run on this device."""

    exit_code = 5


class CertificateError(EngineError):
    """An engine decides differently from what its package was certified for."""

    exit_code = 4


class SourceError(SsnEdgeError):
    """A camera or recording that does not open, stalls or changes its size."""

    exit_code = 5


class StorageError(SsnEdgeError):
    """Decisions can no longer be written."""

    exit_code = 5


class ListenError(SsnEdgeError):
    """An address that cannot be listened on: taken, or not allowed."""

    exit_code = 5
