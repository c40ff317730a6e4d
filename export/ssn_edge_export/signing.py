"""Signatures into a package: the same bytes but for ``signature.json``, and so the same id."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

from ssn_edge_runtime.archive import (
    ArchiveEntry,
    directory_record,
    end_record,
    local_header,
    read_directory,
)
from ssn_edge_runtime.errors import PackageError, SignatureError, StorageError
from ssn_edge_runtime.files import sync_folder
from ssn_edge_runtime.manifest import SIGNATURE_NAME
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.trust import (
    PackageSignature,
    sign_package,
    signatures_from_json,
    signatures_to_json,
)

COPY_BYTES = 2**20


def sign_package_file(
    path: Path, key: DeviceKey, *, serial: int | None = None
) -> tuple[PackageSignature, ...]:
    """Sign a package in its place, all at once; signatures of other keys stay.

    Args:
        path: The package; checked as a controller would before it is signed.
        key: Whose signature it gets; one that this key made before is replaced.
        serial: See `sign_package`.

    Returns:
        All signatures that it has now.

    Raises:
        PackageError: Not a whole, unchanged package, or its ``signature.json`` is none; the file is
            as it was.
        StorageError: It cannot be written, likewise.
    """
    with Package.open(path) as package:
        package_id = package.package_id
        others: tuple[PackageSignature, ...] = ()
        if package.is_signed:
            try:
                others = signatures_from_json(package.read(SIGNATURE_NAME))
            except SignatureError as error:
                raise PackageError(f"{path}: {error}") from error
    own = sign_package(key, package_id, serial=serial)
    signatures = (*(each for each in others if each.key_id != own.key_id), own)
    _put_signature(path, package_id, signatures_to_json(signatures))
    return tuple(sorted(signatures, key=lambda each: each.key_id))


def _put_signature(path: Path, package_id: str, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with path.open("rb") as old, temporary.open("xb") as new:
            kept = [each for each in read_directory(old) if each.name != SIGNATURE_NAME]
            body_bytes = kept[-1].end_offset
            old.seek(0)
            left = body_bytes
            while left and (piece := old.read(min(COPY_BYTES, left))):
                new.write(piece)
                left -= len(piece)
            entry = ArchiveEntry(SIGNATURE_NAME, len(data), zlib.crc32(data), body_bytes)
            records = b"".join(directory_record(each) for each in (*kept, entry))
            new.write(local_header(entry) + data + records)
            new.write(end_record(len(kept) + 1, len(records), entry.end_offset))
            new.flush()
            os.fsync(new.fileno())
        with Package.open(temporary) as package:
            if package.package_id != package_id:
                raise PackageError(f"{path}: was replaced while it was signed; sign it again")
        temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):  # it must not hide what went wrong
            temporary.unlink(missing_ok=True)
