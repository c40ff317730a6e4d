"""The reader of a model package: one file, refused unless it is whole, canonical and unchanged."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from ssn_edge_runtime.archive import ArchiveEntry, read_directory
from ssn_edge_runtime.errors import PackageError
from ssn_edge_runtime.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest
from ssn_edge_runtime.manifest_json import manifest_from_json
from ssn_edge_runtime.onnx_scan import check_onnx

if TYPE_CHECKING:
    from ssn_edge_runtime.trust import SignedBy, Trust

MAX_MANIFEST_BYTES = 8 * 2**20
"""4096 entries take about a megabyte."""
MAX_SIGNATURE_BYTES = 64 * 2**10
"""Several signatures and their certificates; it lies outside the hashes, so it is kept small."""

LONGEST_REFUSAL = 500
"""Characters: a refusal quotes what the package holds, and goes into records and on screens."""


class Package:
    """A model package, open for reading; safe to read from several threads.

    The file stays open, so that replacing it by another (by renaming) changes nothing for who
    reads. Open it with `Package.open`, close it with `close` or `with`.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        manifest: Manifest,
        package_id: str,
        entries: Mapping[str, ArchiveEntry],
    ) -> None:
        self._path = path
        self._file = file
        self._manifest = manifest
        self._package_id = package_id
        self._entries = entries
        self._lock = threading.Lock()
        self._signed_by: SignedBy | None = None

    @classmethod
    def open(cls, path: str | Path, *, trust: Trust | None = None) -> Package:
        """Open a package after checking every byte of it.

        Args:
            path: The file.
            trust: Whose signature it must carry; None takes it signed or not.

        Raises:
            PackageError: Missing, or not a whole, canonical, unchanged package of a known schema
                whose models keep to themselves.
            SignatureError: A `PackageError`: unsigned, changed after signing, signed by a key that
                does not count here, or older than one that this device has taken.
            ConfigError: The trusted keys cannot be read.
        """
        path = Path(path)
        try:
            file = path.open("rb")
        except OSError as error:
            raise PackageError(f"{path}: cannot be opened ({error.strerror})") from error
        try:
            package = cls._checked(path, file, trust)
        except BaseException as error:
            file.close()
            if isinstance(error, PackageError):
                raise type(error)(f"{path}: {_told(str(error))}") from error
            if isinstance(error, OSError):
                raise PackageError(f"{path}: cannot be read ({error.strerror})") from error
            raise
        return package

    @classmethod
    def _checked(cls, path: Path, file: BinaryIO, trust: Trust | None) -> Package:
        listed = read_directory(file)
        names = [entry.name for entry in listed]
        name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise PackageError(f"it holds {name} {count} times; export the package again")
        if not names or names[0] != MANIFEST_NAME:
            raise PackageError(f"its first entry is not {MANIFEST_NAME}; export the package again")
        _refuse_above(listed[0], MAX_MANIFEST_BYTES)
        data = _content(file, listed[0])
        package_id = hashlib.sha256(data).hexdigest()
        entries = {entry.name: entry for entry in listed}
        # Before anything of it is understood: what a stranger wrote is not even parsed.
        signed_by = None if trust is None else _signed_by(file, entries, package_id, trust)
        manifest = manifest_from_json(data)
        _check_names(names, manifest)
        if trust is not None and signed_by is not None:
            trust.refuse_older_package(manifest.name, package_id, signed_by)
        package = cls(path, file, manifest, package_id, entries)
        package._signed_by = signed_by
        for name in names:
            package._read_checked(name, scan=True)
        return package

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """What the package says of itself."""
        return self._manifest

    @property
    def package_id(self) -> str:
        """SHA-256 of the manifest, in hexadecimal; the manifest hashes all else."""
        return self._package_id

    @property
    def is_signed(self) -> bool:
        """Whether it carries a signature, checked or not."""
        return SIGNATURE_NAME in self._entries

    @property
    def signed_by(self) -> SignedBy | None:
        """Whose signature was checked when it was opened; None where none was asked for."""
        return self._signed_by

    def read(self, name: str) -> bytes:
        """The content of an entry, checked again: the file may have been written to since.

        Raises:
            PackageError: There is no such entry, or it was changed.
            RuntimeError: The package is closed.
        """
        if name not in self._entries:
            raise PackageError(f"{self._path}: holds no {name}; export the package again")
        try:
            return self._read_checked(name)
        except PackageError as error:
            raise PackageError(f"{self._path}: {error}") from error
        except OSError as error:
            raise PackageError(f"{self._path}: cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Package:
        """Return the package itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _read_checked(self, name: str, *, scan: bool = False) -> bytes:
        entry = self._entries[name]
        digest = self._manifest.entries.get(name)
        if name == SIGNATURE_NAME:
            _refuse_above(entry, MAX_SIGNATURE_BYTES)
        if digest is not None and entry.size_bytes != digest.size_bytes:
            raise PackageError(
                f"{name} has {entry.size_bytes} bytes, its manifest states {digest.size_bytes}; "
                "export the package again"
            )
        with self._lock:
            if self._file.closed:
                raise RuntimeError(f"the package {self._path} is closed")
            data = _content(self._file, entry)
        sha256 = None if name == SIGNATURE_NAME else hashlib.sha256(data).hexdigest()
        if sha256 not in (None, self._package_id if digest is None else digest.sha256):
            raise PackageError(f"{name} was changed after the export; {_COPY_AGAIN}")
        if scan and name.endswith(".onnx"):
            check_onnx(data, name)
        return data


_COPY_AGAIN = "copy the package again"


def _content(file: BinaryIO, entry: ArchiveEntry) -> bytes:
    file.seek(entry.data_offset)
    data = file.read(entry.size_bytes)
    if len(data) != entry.size_bytes or zlib.crc32(data) != entry.crc32:
        raise PackageError(f"{entry.name} is damaged; {_COPY_AGAIN}")
    return data


def _told(text: str) -> str:
    """One short line, whatever a stranger's package made of it."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= LONGEST_REFUSAL else f"{plain[:LONGEST_REFUSAL]}..."


def _signed_by(
    file: BinaryIO, entries: Mapping[str, ArchiveEntry], package_id: str, trust: Trust
) -> SignedBy:
    entry = entries.get(SIGNATURE_NAME)
    if entry is not None:
        _refuse_above(entry, MAX_SIGNATURE_BYTES)
    return trust.verify_package(package_id, None if entry is None else _content(file, entry))


def _refuse_above(entry: ArchiveEntry, limit: int) -> None:
    if entry.size_bytes > limit:
        raise PackageError(f"{entry.name} has {entry.size_bytes} bytes, {limit} are the most")


def _check_names(names: list[str], manifest: Manifest) -> None:
    wanted = [MANIFEST_NAME, *sorted(manifest.entries)]
    if SIGNATURE_NAME in names:
        wanted.append(SIGNATURE_NAME)
    for name in sorted(set(names) - set(wanted)):
        raise PackageError(f"it holds {name}, which its manifest does not list; {_COPY_AGAIN}")
    for name in sorted(set(wanted) - set(names)):
        raise PackageError(f"it lacks {name}, which its manifest lists; {_COPY_AGAIN}")
    if names != wanted:
        raise PackageError("its entries are not in alphabetical order; export the package again")
