"""The folder of evidence: pictures in, within a quota, and out again, what is worth least first."""

from __future__ import annotations

import heapq
import os
import re
from contextlib import suppress
from pathlib import Path
from threading import Lock

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.sinks.evidence_policy import (
    EVIDENCE_FOLDER,
    EvidenceName,
    EvidencePolicy,
    Worth,
)
from ssn_edge_runtime.sinks.pictures import PICTURES_FOLDER

_NUMBERED = re.compile(r"(\d{9,})_\w+\.(?:png|jpg)")


class EvidenceFolder:
    """``evidence/<sequence>_<why>.png`` in a journal's folder; safe from several threads.

    One at a time may write to a folder. Others may delete from it.

    Args:
        folder: The journal's folder.
        policy: Its quota and reserve.
    """

    def __init__(self, folder: Path, policy: EvidencePolicy) -> None:
        self.path = folder / EVIDENCE_FOLDER
        self.evicted = 0
        """Pictures that were deleted again, for the quota, the disk or the end of their record."""
        self._policy = policy
        self._lock = Lock()
        self._held: list[tuple[Worth, int, str, int]] = []  # a heap: what goes first is first
        self._bytes = 0
        self._retired_to = 0

    @property
    def held_bytes(self) -> int:
        """Size of the pictures that are there."""
        return self._bytes

    def open(self) -> None:
        """Make the folder and find what is there.

        Raises:
            StorageError: The folder cannot be made or read.
        """
        self._held, self._bytes = [], 0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for path in self.path.iterdir():
                name = EvidenceName.read(path.name)
                if name is not None:
                    self._hold(name, path.stat().st_size)
                elif path.name.endswith(".png.tmp"):
                    path.unlink()  # half a picture of a run that was killed
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be used ({error.strerror})") from error

    def trim(self) -> None:
        """Keep the quota, which may be a smaller one than the last run's."""
        with self._lock:
            self._make_room(0)

    def keep(self, name: EvidenceName, image: ByteImage) -> int:
        """Encode and write a frame; returns the size of its picture in bytes.

        It appears under its name only when it is whole; it is not synced.

        Raises:
            StorageError: There is no room for it, or it is no picture.
            OSError: The disk does not take it.
        """
        data = encode_png(image)
        with self._lock:
            if name.sequence <= self._retired_to:
                raise StorageError("its record was retired")
            self._make_room(len(data))
            if self._bytes + len(data) > self._policy.quota_bytes or self._is_disk_full():
                raise StorageError("there is no room for it")
        path = self.path / str(name)
        unfinished = path.with_name(f"{name}.tmp")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise
        with self._lock:
            self._hold(name, len(data))
            if name.sequence <= self._retired_to:  # its record went while it was written
                self._drop_up_to(self._retired_to)
        return len(data)

    def evict_up_to(self, sequence: int) -> None:
        """Delete the pictures of all parts up to this number, and take none of them any more."""
        with self._lock:
            self._retired_to = max(self._retired_to, sequence)
            self._drop_up_to(sequence)

    def _hold(self, name: EvidenceName, size: int) -> None:
        heapq.heappush(self._held, (name.worth, name.sequence, str(name), size))
        self._bytes += size

    def _drop_up_to(self, sequence: int) -> None:
        gone = [each for each in self._held if each[1] <= sequence]
        self._held = [each for each in self._held if each[1] > sequence]
        heapq.heapify(self._held)
        for each in gone:
            self._delete(each)

    def _make_room(self, size: int) -> None:
        while self._held and (
            self._bytes + size > self._policy.quota_bytes or self._is_disk_full()
        ):
            self._delete(heapq.heappop(self._held))

    def _delete(self, held: tuple[Worth, int, str, int]) -> None:
        _, _, name, size = held
        with suppress(OSError):  # someone else was first
            (self.path / name).unlink()
        self._bytes -= size
        self.evicted += 1

    def _is_disk_full(self) -> bool:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize < self._policy.reserve_bytes


def delete_pictures_up_to(folder: Path, sequence: int) -> int:
    """Delete evidence, masks and overlays of all parts up to a number; returns how many went.

    For records that are about to go: nobody writes pictures of them any more.

    Args:
        folder: The journal's folder.
        sequence: Of the last part whose pictures go.

    Raises:
        StorageError: One cannot be deleted.
    """
    count = 0
    for place in (folder / EVIDENCE_FOLDER, folder / PICTURES_FOLDER):
        try:
            for path in place.iterdir() if place.is_dir() else ():
                match = _NUMBERED.fullmatch(path.name)
                if match is not None and int(match[1]) <= sequence:
                    path.unlink(missing_ok=True)
                    count += 1
        except OSError as error:
            raise StorageError(f"{place}: cannot be cleared ({error.strerror})") from error
    return count
