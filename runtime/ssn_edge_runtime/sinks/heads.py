"""Heads of a chain: signed statements of how far it has come, published beyond its reach.

A chain alone cannot show that its tail was cut or that the whole was written anew. A statement
that lies elsewhere can: `audit --head` checks against it.
"""

from __future__ import annotations

import binascii
import json
import logging
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from errno import ENOSPC
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import boot_id, canonical_json, utc_text
from ssn_edge_runtime.sinks.device_key import DeviceKey, PublicKey
from ssn_edge_runtime.sinks.group_sync import Position

HEAD_NAME = "decisions.head.json"
PUBLIC_KEY_NAME = "decisions.key.pub"
HEAD_EVERY = 1000
_WAITING = 64
_CLOSE_TIMEOUT_S = 10.0
_DOMAIN = b"ssn-edge journal head 1\n"
"""So that no other signature of this key can be taken for that of a head."""
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)

OnHead = Callable[["HeadStatement"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStatement:
    """How far a chain had come at a moment.

    Args:
        line: Number of the last line.
        sha256: Its hash.
        sequence: Number of the last part that was accepted.
        at: UTC, as text.
        boot_id: Which boot of the machine.
        key_id: SHA-256 of the public key; None where there is no signature.
        signature: Ed25519, base64; None where there is none.
    """

    line: int
    sha256: str
    sequence: int
    at: str
    boot_id: str | None
    key_id: str | None = None
    signature: str | None = None

    @classmethod
    def of(cls, position: Position, key: DeviceKey | None) -> HeadStatement:
        """State a position, signed if there is a key."""
        plain = cls(
            line=position.line,
            sha256=position.sha256,
            sequence=position.next_sequence - 1,
            at=str(utc_text(datetime.now(timezone.utc))),
            boot_id=boot_id(),
            key_id=None if key is None else key.key_id,
        )
        if key is None:
            return plain
        signature = b64encode(key.sign(plain._message())).decode()
        return cls(**(plain.to_dict() | {"signature": signature}))  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> HeadStatement:
        """Read a statement.

        Raises:
            ValueError: It is none.
        """
        if set(document) != {"line", "sha256", "sequence", "at", "boot_id", "key_id", "signature"}:
            raise ValueError("is no head of a journal")
        line, sha256, sequence = document["line"], document["sha256"], document["sequence"]
        at, boot = document["at"], document["boot_id"]
        key_id, signature = document["key_id"], document["signature"]
        if (
            type(line) is not int
            or type(sequence) is not int
            or not isinstance(sha256, str)
            or not _SHA256.fullmatch(sha256)
            or not isinstance(at, str)
            or not (boot is None or isinstance(boot, str))
            or not (key_id is None or isinstance(key_id, str))
            or not (signature is None or isinstance(signature, str))
        ):
            raise ValueError("is no head of a journal")
        return cls(
            line=line,
            sha256=sha256,
            sequence=sequence,
            at=at,
            boot_id=boot,
            key_id=key_id,
            signature=signature,
        )

    def to_dict(self) -> dict[str, object]:
        """The statement as a JSON object."""
        return asdict(self)

    def is_signed_by(self, key: PublicKey) -> bool:
        """Whether the signature is that key's, and for this very statement.

        Raises:
            ConfigError: ``cryptography`` is not installed.
        """
        if self.signature is None or self.key_id != key.key_id:
            return False
        try:
            signature = b64decode(self.signature, validate=True)
        except binascii.Error:
            return False
        return key.verifies(signature, self._message())

    def _message(self) -> bytes:
        content = self.to_dict()
        del content["signature"]
        return _DOMAIN + canonical_json(content)


def read_heads(path: Path) -> list[HeadStatement]:
    """Read published heads: one, or one a line, as they were collected.

    Raises:
        StorageError: The file cannot be read, or holds none, or something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    heads = []
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
            if not isinstance(document, dict):
                raise ValueError("is no head of a journal")
            heads.append(HeadStatement.from_dict(document))
        except ValueError as error:
            raise StorageError(f"{path}:{number}: is no head of a journal") from error
    if not heads:
        raise StorageError(f"{path}: is no head of a journal")
    return heads


def read_head(path: Path) -> HeadStatement:
    """Read the last of the published heads in a file; see `read_heads`."""
    return read_heads(path)[-1]


class HeadPublisher:
    """Writes the head into ``decisions.head.json``, and hands it on, every so many lines.

    Only what is synced is published: a head that power loss took back would accuse an honest log.
    That file lies beside the journal and falls with it; what proves something is the copy that
    `on_head` takes elsewhere.

    Args:
        folder: Of the journal.
        key: Signs the statements; None leaves them unsigned.
        every: Lines from one statement to the next.
        on_head: Takes each statement, in a thread of its own; may be slow. Of more than `_WAITING`
            that wait for it, the oldest are left out.
    """

    def __init__(
        self, folder: Path, key: DeviceKey | None, *, every: int, on_head: OnHead | None
    ) -> None:
        self._path = folder / HEAD_NAME
        self._key = key
        self._every = every
        self._on_head = on_head
        self._waiting: Queue[HeadStatement | None] = Queue(_WAITING)
        self._teller: Thread | None = None
        self._line = 0
        self._is_due = False
        self._failed = 0

    def open(self) -> None:
        """Write the public key beside the journal, for whoever has no other copy of it.

        Starts the thread that hands statements on, if there is whom to hand them to.

        Raises:
            OSError: It cannot be written.
        """
        if self._key is not None:
            path = self._path.with_name(PUBLIC_KEY_NAME)
            pem = self._key.public.to_pem()
            if not path.exists() or path.read_bytes() != pem:
                _replace(path, pem)
        if self._on_head is not None:
            self._teller = Thread(target=self._tell, name="ssn-edge-heads", daemon=True)
            self._teller.start()

    def close(self) -> None:
        """Hand on what waits, and end the thread."""
        teller, self._teller = self._teller, None
        if teller is not None:
            self._put(None)
            teller.join(_CLOSE_TIMEOUT_S)
            if teller.is_alive():
                logger.warning("whoever takes the journal's heads does not come back")

    def published(self) -> HeadStatement | None:
        """The statement that lies beside the journal, if it can be read."""
        try:
            return read_head(self._path)
        except StorageError:
            return None

    def ask(self) -> None:
        """Publish at the next sync, however few lines there are: a segment was closed."""
        self._is_due = True

    def synced(self, position: Position) -> None:
        """Publish if it is due; never raises."""
        if not self._is_due and position.line < self._line + self._every:
            return
        self._is_due = False
        self._line = position.line
        statement = HeadStatement.of(position, self._key)
        try:
            _replace(self._path, canonical_json(statement.to_dict()) + b"\n")
        except OSError as error:
            self._failed += 1
            log = logger.warning if self._failed == 1 else logger.debug
            log("the journal's head cannot be published: %s", error)
        if self._teller is not None:
            self._put(statement)

    def _put(self, statement: HeadStatement | None) -> None:
        while True:
            try:
                self._waiting.put_nowait(statement)
            except Full:
                with suppress(Empty):
                    self._waiting.get_nowait()
            else:
                return

    def _tell(self) -> None:
        assert self._on_head is not None
        failed = 0
        while (statement := self._waiting.get()) is not None:
            try:
                self._on_head(statement)
            except Exception:
                failed += 1
                if failed == 1:
                    logger.exception("the journal's head cannot be handed on")


def _replace(path: Path, data: bytes) -> None:
    """Write a file that is whole or as it was; unlike `write_whole`, beside threads that do, too.

    That one asks for the umask by setting it, which is the whole process's for that moment.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    fd = os.open(
        unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
    )
    try:
        if os.write(fd, data) != len(data):
            raise OSError(ENOSPC, "No space left on device")
        os.fsync(fd)
    finally:
        os.close(fd)
    unfinished.replace(path)
