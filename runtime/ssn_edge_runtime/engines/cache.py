"""What this device made for itself: engine plans and device certificates, a folder for each key.

::

    <root>/                               0700, owned by who runs
        <SHA-256 of the key>/
            lock                          held while a plan is built
            plan.json                     the key in clear, SHA-256, size and name of the plan
            <SHA-256 of the plan>.plan
            certificates/<package id>.json
            aside/                        what was found damaged, the latest only

`plan.json` is what makes a plan valid, and it is written last: a reader needs no lock, and one that
is killed at any moment leaves either the old plan or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ssn_edge_runtime.errors import EngineError, StorageError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.strict_json import canonical_json

logger = logging.getLogger(__name__)

SLOT_SCHEMA = 1
CACHE_VARIABLE = "SSN_EDGE_CACHE"
PLAN_NOTE = "plan.json"
_HOMELESS_ROOT = Path("/var/cache/ssn-edge")
MAX_NOTE_BYTES = 4 * 2**20
"""A plan's JSON lists its layers; anything larger is not one of ours."""

_SHA256 = re.compile(r"[0-9a-f]{64}")

KeyValue: TypeAlias = "str | int | float | None"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that a plan, or a certificate, depends on: another value of any field is another one."""

    fields: Mapping[str, KeyValue]

    @property
    def sha256(self) -> str:
        """SHA-256 over the fields' canonical JSON, in hexadecimal."""
        return hashlib.sha256(canonical_json(dict(self.fields))).hexdigest()


def default_root() -> Path:
    """The cache's folder: $SSN_EDGE_CACHE, else ssn-edge in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ssn-edge"
    try:
        return Path.home() / ".cache" / "ssn-edge"
    except RuntimeError:  # a user without a home, as in some containers
        return _HOMELESS_ROOT


class EngineCache:
    """Plans and certificates of this device; nothing is made until something is written.

    Args:
        root: Its folder; None for `default_root`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = default_root() if root is None else root

    @property
    def root(self) -> Path:
        """Its folder."""
        return self._root

    def slot(self, key: EngineKey) -> EngineSlot:
        """The place of one key's plan and certificates."""
        return EngineSlot(self._root, key)


class EngineSlot:
    """One key's plan and certificates; see the module for its files."""

    def __init__(self, root: Path, key: EngineKey) -> None:
        self._root = root
        self._key = key
        self._folder = root / key.sha256

    @property
    def key(self) -> EngineKey:
        """What everything in it depends on."""
        return self._key

    @property
    def folder(self) -> Path:
        """Where it lies; it may not be there yet."""
        return self._folder

    @contextlib.contextmanager
    def lock(self, on_message: Callable[[str], None] = lambda message: None) -> Iterator[None]:
        """Hold this slot for writing, against every other process and thread of this device.

        Args:
            on_message: Told once, if another one holds it, before the wait.

        Raises:
            StorageError: The folder cannot be written to.
        """
        self._make_folder()
        path = self._folder / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_message("another process builds this engine; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)  # gives the lock back; so does the end of the process

    def read_note(self) -> dict[str, object] | None:
        """What stands beside the plan: key, hash, size, details; None without a valid one.

        Raises:
            EngineError: Someone else may write to the folder.
        """
        note = self._read_json(self._folder / PLAN_NOTE)
        if note is None:
            return None
        if note.get("schema") != SLOT_SCHEMA or note.get("key") != dict(self._key.fields):
            self.discard("its plan.json belongs to another engine or version")
            return None
        return note

    def read_plan(self) -> bytes | None:
        """The plan, unchanged since it was written; None if there is none.

        A damaged or foreign one is moved aside and logged.

        Raises:
            EngineError: Someone else may write to the folder: a plan is executable content.
        """
        for _attempt in range(2):  # a writer may have replaced it between note and plan
            note = self.read_note()
            if note is None:
                return None
            sha256 = str(note.get("plan_sha256"))
            if not _SHA256.fullmatch(sha256):  # it names a file
                break
            with contextlib.suppress(FileNotFoundError):
                return self._checked(sha256, note.get("plan_bytes"))
        self.discard("its plan is gone")
        return None

    def write_plan(self, plan: bytes, details: Mapping[str, object]) -> None:
        """Put a plan in the place of the one before; hold the lock.

        Args:
            plan: The serialised engine.
            details: For people: build seconds, power mode, layer precisions.

        Raises:
            StorageError: The disk is full or the folder cannot be written to; the old one stays.
        """
        self._make_folder()
        sha256 = hashlib.sha256(plan).hexdigest()
        note = {
            "schema": SLOT_SCHEMA,
            "key": dict(self._key.fields),
            "plan_sha256": sha256,
            "plan_bytes": len(plan),
            "details": dict(details),
        }
        text = json.dumps(note, sort_keys=True, indent=1, allow_nan=False).encode()
        write_whole(self._plan_path(sha256), plan)
        write_whole(self._folder / PLAN_NOTE, text)
        for old in self._folder.glob("*.plan"):
            if old.stem != sha256:
                old.unlink(missing_ok=True)

    def read_certificate(self, package_id: str) -> dict[str, object] | None:
        """A package's device certificate; None if there is none or it is no JSON object.

        Raises:
            EngineError: Someone else may write to the folder.
        """
        return self._read_json(self._certificate_path(package_id))

    def write_certificate(self, package_id: str, certificate: Mapping[str, object]) -> Path:
        """Put a certificate in the place of the one before.

        Returns:
            Where it lies.

        Raises:
            StorageError: The disk is full or the folder cannot be written to; the old one stays.
        """
        self._make_folder()
        text = json.dumps(dict(certificate), sort_keys=True, indent=1, allow_nan=False).encode()
        path = self._certificate_path(package_id)
        write_whole(path, text)
        return path

    def remove_certificate(self, package_id: str) -> None:
        """Take a certificate back: what it says is not so any more.

        Raises:
            StorageError: It is there and cannot be removed.
        """
        path = self._certificate_path(package_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path} must go and cannot be removed: {error.strerror}; remove it"
            ) from error

    def discard(self, reason: str) -> None:
        """Move the plan with its note aside, over what was put aside before, and log it."""
        logger.warning("engine cache %s: %s; moved aside", self._folder, reason)
        aside = self._folder / "aside"
        try:
            aside.mkdir(mode=0o700, exist_ok=True)
            for old in aside.iterdir():
                old.unlink()
            for path in (*self._folder.glob("*.plan"), self._folder / PLAN_NOTE):
                with contextlib.suppress(FileNotFoundError):
                    path.replace(aside / path.name)
        except OSError as error:
            # It is not used in any case: who reads it finds the same fault again.
            logger.warning("engine cache %s: cannot be changed: %s", self._folder, error.strerror)

    def _plan_path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.plan"

    def _certificate_path(self, package_id: str) -> Path:
        if not _SHA256.fullmatch(package_id):  # it names a file
            raise EngineError(f"{package_id!r} is no package id; the SHA-256 of a manifest is one")
        return self._folder / "certificates" / f"{package_id}.json"

    def _checked(self, sha256: str, size_bytes: object) -> bytes | None:
        path = self._plan_path(sha256)
        try:
            plan = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}") from error
        if len(plan) != size_bytes or hashlib.sha256(plan).hexdigest() != sha256:
            self.discard("its plan is damaged")
            return None
        return plan

    def _make_folder(self) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the engine cache {self._root} cannot be written to: {error.strerror}; make it "
                f"writable or set {CACHE_VARIABLE} to another folder"
            ) from error
        _refuse_shared(self._root)

    def _read_json(self, path: Path) -> dict[str, object] | None:
        """A JSON object, or None for whatever is not one: it is made anew."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("engine cache: %s cannot be read: %s", path, error.strerror)
            return None
        _refuse_shared(self._root)
        _refuse_shared(self._folder)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if len(data) > MAX_NOTE_BYTES or not isinstance(document, dict):
            logger.warning("engine cache: %s is damaged; it counts as missing", path)
            return None
        return document


def _refuse_shared(folder: Path) -> None:
    """A plan is executable content: only who runs it, or root, may be able to write it."""
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(
            f"the engine cache {folder} can be written to by others than this user, and a plan is "
            f"executable content; run chown and chmod 700 on it, or set {CACHE_VARIABLE} to a "
            "folder of your own"
        )
