"""The one byte form of a package's zip archive: stored entries, and not a byte that could vary.

A package is hashed and signed, so there is one right way to write it: every header follows from the
entries' names, sizes, CRCs and order. The reader rebuilds each header and compares; whatever else a
zip can hold (compression, comments, extra fields, gaps) is thereby refused. Any zip tool reads it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ssn_edge_runtime.errors import PackageError

MAX_ENTRIES = 4096
"""Some fifty times what 64 golden pictures need; a zip without zip64 ends at 65535."""
MAX_ENTRY_BYTES = 2**31 - 1
"""Also the limit of an ONNX file: protobuf ends there."""
MAX_ARCHIVE_BYTES = 2**32 - 1
"""Where offsets of a zip without zip64 end."""
MAX_NAME_BYTES = 256

_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_START = b"PK\x03\x04"
_DIRECTORY_START = b"PK\x01\x02"
_END_START = b"PK\x05\x06"

_MADE_BY = 3 << 8 | 20  # Unix, zip 2.0
_NEEDED = 20
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00, the first that a zip can hold
_ATTRIBUTES = 0o100644 << 16  # a plain file, rw-r--r--

_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """Where one stored entry lies.

    Args:
        name: ASCII, with `/` between folder and file.
        size_bytes: Of the content; nothing is compressed.
        crc32: The zip's own checksum of the content.
        offset: Of the entry's header from the archive's first byte.
    """

    name: str
    size_bytes: int
    crc32: int
    offset: int

    @property
    def data_offset(self) -> int:
        """Of the first content byte."""
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end_offset(self) -> int:
        """Of the first byte beyond the content."""
        return self.data_offset + self.size_bytes


def local_header(entry: ArchiveEntry) -> bytes:
    """The bytes before an entry's content."""
    name = entry.name.encode("ascii")
    size = entry.size_bytes
    fields = (_NEEDED, 0, 0, _TIME, _DATE, entry.crc32, size, size, len(name), 0)
    return _LOCAL.pack(_LOCAL_START, *fields) + name


def directory_record(entry: ArchiveEntry) -> bytes:
    """An entry's line in the directory after the last content."""
    name = entry.name.encode("ascii")
    size = entry.size_bytes
    fields = (_MADE_BY, _NEEDED, 0, 0, _TIME, _DATE, entry.crc32, size, size, len(name))
    return _DIRECTORY.pack(_DIRECTORY_START, *fields, 0, 0, 0, 0, _ATTRIBUTES, entry.offset) + name


def end_record(entries: int, directory_bytes: int, directory_offset: int) -> bytes:
    """The archive's last bytes."""
    return _END.pack(_END_START, 0, 0, entries, entries, directory_bytes, directory_offset, 0)


def archive_pieces(contents: Mapping[str, bytes]) -> Iterator[bytes]:
    """An archive's bytes, piece by piece, in the order of its entries; no content is copied.

    Raises:
        PackageError: A name that is not ASCII, or more than an archive holds.
    """
    directory = []
    offset = 0
    for name, data in contents.items():
        if not name.isascii() or len(data) > MAX_ENTRY_BYTES:
            raise PackageError(f"{name!r} is not ASCII, or has more than {MAX_ENTRY_BYTES} bytes")
        entry = ArchiveEntry(name, len(data), zlib.crc32(data), offset)
        if entry.end_offset > MAX_ARCHIVE_BYTES:
            raise PackageError(f"{name} would end beyond {MAX_ARCHIVE_BYTES} bytes")
        yield local_header(entry)
        yield data
        directory.append(directory_record(entry))
        offset = entry.end_offset
    records = b"".join(directory)
    yield records
    yield end_record(len(directory), len(records), offset)


def read_directory(file: BinaryIO) -> tuple[ArchiveEntry, ...]:
    """List an archive's entries after checking every byte that is not content.

    Raises:
        PackageError: Not a zip, not whole, or not in the one form that `local_header`,
            `directory_record` and `end_record` give. The message does not name the file.
        OSError: The file cannot be read.
    """
    directory, count, directory_offset = _directory_bytes(file)
    entries: list[ArchiveEntry] = []
    position = expected_offset = 0
    for _ in range(count):
        entry, length = _directory_entry(directory, position)
        if entry.offset != expected_offset:
            raise PackageError(
                f"{entry.name} begins at byte {entry.offset} and {expected_offset} is where it "
                "would follow; nothing may lie before, between or after entries"
            )
        header = local_header(entry)
        file.seek(entry.offset)
        if file.read(len(header)) != header:
            raise PackageError(
                f"the header of {entry.name} disagrees with the directory; {_REWRITTEN}"
            )
        entries.append(entry)
        position += length
        expected_offset = entry.end_offset
    if position != len(directory) or expected_offset != directory_offset:
        raise PackageError(f"there are bytes between its entries and its directory; {_REWRITTEN}")
    return tuple(entries)


_REWRITTEN = "only the file as it was exported is a package, copy that again"


def _directory_bytes(file: BinaryIO) -> tuple[bytes, int, int]:
    """The directory with its number of entries and its offset."""
    archive_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(_LOCAL_START)) != _LOCAL_START:
        raise PackageError("it does not begin as a model package does; export one with ssn-edge")
    if archive_bytes > MAX_ARCHIVE_BYTES:
        raise PackageError(f"it has {archive_bytes} bytes, {MAX_ARCHIVE_BYTES} are the most")
    file.seek(max(0, archive_bytes - _END.size))
    end = file.read(_END.size)
    if len(end) != _END.size or not end.startswith(_END_START):
        raise PackageError(
            "it is cut short, or has bytes or a comment after its end; copy it again"
        )
    _, _, _, _, count, directory_bytes, directory_offset, _ = _END.unpack(end)
    if end != end_record(count, directory_bytes, directory_offset):
        raise PackageError(f"its end names a comment or a second volume; {_REWRITTEN}")
    if count > MAX_ENTRIES or directory_bytes > MAX_ENTRIES * (_DIRECTORY.size + MAX_NAME_BYTES):
        raise PackageError(f"it holds {count} entries, {MAX_ENTRIES} are the most")
    if directory_offset + directory_bytes + _END.size != archive_bytes:
        raise PackageError("its directory is not where its end says; copy it again")
    file.seek(directory_offset)
    return file.read(directory_bytes), count, directory_offset


def _directory_entry(directory: bytes, position: int) -> tuple[ArchiveEntry, int]:
    """One entry with the length of its record."""
    if len(directory) - position < _DIRECTORY.size:
        raise PackageError("its directory is shorter than its number of entries; copy it again")
    fields = _DIRECTORY.unpack_from(directory, position)
    flags, method, crc32, size = fields[3], fields[4], fields[7], fields[9]
    name_bytes, extra_bytes, comment_bytes, offset = *fields[10:13], fields[16]
    name_at = position + _DIRECTORY.size
    try:
        name = directory[name_at : name_at + name_bytes].decode("ascii")
    except UnicodeDecodeError as error:
        raise PackageError("an entry's name is not ASCII; export the package again") from error
    if not 0 < name_bytes <= MAX_NAME_BYTES or not name.isprintable():
        raise PackageError(f"an entry's name has {name_bytes} bytes or odd ones; export it again")
    for found, what in (
        (flags & _ENCRYPTED, "is encrypted"),
        (flags & _DESCRIPTOR, "has its size after its content"),
        (method, "is compressed"),
        (extra_bytes, "has extra fields"),
        (comment_bytes, "has a comment"),
        (size > MAX_ENTRY_BYTES, f"has {size} bytes, {MAX_ENTRY_BYTES} are the most"),
    ):
        if found:
            raise PackageError(f"{name} {what}; {_REWRITTEN}")
    entry = ArchiveEntry(name, size, crc32, offset)
    record = directory_record(entry)
    if directory[position : position + len(record)] != record:
        raise PackageError(f"the directory's record of {name} is not as exported; {_REWRITTEN}")
    return entry, len(record)
