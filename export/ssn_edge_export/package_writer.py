"""The writer of model packages: same content, same bytes, and never half a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ssn_edge_runtime.archive import archive_pieces
from ssn_edge_runtime.errors import ExportError, PackageError, StorageError
from ssn_edge_runtime.manifest import MANIFEST_NAME, EntryDigest, Manifest
from ssn_edge_runtime.manifest_json import manifest_to_dict
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.strict_json import canonical_json


def write_package(path: Path, manifest: Manifest, entries: Mapping[str, bytes]) -> str:
    """Write a model package, and open it once as a controller would before it gets its name.

    Args:
        path: The package; a file of this name is replaced at the very end, all at once.
        manifest: What the package says of itself; its `entries` are filled in here.
        entries: Content by name: models, certificates, golden pictures, report.

    Returns:
        The package id, the SHA-256 of the manifest in hexadecimal.

    Raises:
        ExportError: The package would be refused; `path` is as it was.
        StorageError: It cannot be written, likewise.
    """
    digests = {
        name: EntryDigest(len(data), hashlib.sha256(data).hexdigest())
        for name, data in entries.items()
    }
    document = manifest_to_dict(replace(manifest, entries=digests))
    try:
        contents = {MANIFEST_NAME: canonical_json(document)}
    except ValueError as error:
        raise ExportError(f"{path}: the manifest holds a number that is not finite") from error
    contents.update((name, entries[name]) for name in sorted(entries))

    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("xb") as file:
            for piece in archive_pieces(contents):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        with Package.open(temporary) as package:
            package_id = package.package_id
        temporary.replace(path)
        _sync_folder(path.parent)
    except PackageError as error:
        reason = str(error).removeprefix(f"{temporary}: ")
        raise ExportError(f"{path}: not written, a controller would refuse it: {reason}") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):  # it must not hide what went wrong
            temporary.unlink(missing_ok=True)
    return package_id


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut; a file's own `fsync` does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
