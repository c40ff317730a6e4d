"""Who may do what on the page: three roles, and a file of token hashes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import IntEnum
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.strict_json import Fields

TOKENS_NAME = "page-tokens.json"
TOKENS_SCHEMA = 1
MOST_TOKENS = 256
LARGEST_FILE_BYTES = 2**18
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Role(IntEnum):
    """Each may do what the ones before it may."""

    VIEWER = 1
    """Sees all, changes nothing."""
    OPERATOR = 2
    """Acknowledges alarms, switches the recipe."""
    ENGINEER = 3
    """Moves the threshold."""

    def __str__(self) -> str:
        """The name, as files and people spell it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Token:
    """One person's token, as a hash.

    A token is 32 random bytes: no list of words holds it, so one round of SHA-256 is enough to
    keep it from whoever reads the file.

    Args:
        name: Whose it is; stands in the log beside what was done with it.
        role: What it allows.
        sha256: Of the token's text, in hexadecimal.
        made_at: UTC, as in ``2026-11-28T21:00:00Z``.
    """

    name: str
    role: Role
    sha256: str
    made_at: str


def parse_role(text: str) -> Role:
    """A role by its name.

    Raises:
        ConfigError: There is no such role.
    """
    roles = {str(each): each for each in Role}
    if text not in roles:
        raise ConfigError(f"--role {text}: one of {', '.join(roles)} is wanted")
    return roles[text]


def read_tokens(path: Path) -> tuple[Token, ...]:
    """All tokens of a file.

    Raises:
        ConfigError: It cannot be read or is none, or others than its owner may write to it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); make it: ssn-edge page token --role "
            f"operator --name NAME --tokens {path}"
        ) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path}: others may write to it, and make themselves engineers: "
                          f"chmod go-w {path}")  # fmt: skip
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {LARGEST_FILE_BYTES} bytes: no file of tokens")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no JSON") from error
    fields = Fields(document, str(path), refusal=ConfigError)
    if fields.whole("schema") != TOKENS_SCHEMA:
        raise ConfigError(f"{path}: is of another schema than {TOKENS_SCHEMA}")
    tokens = tuple(
        _token(each, f"{path}: token {number}")
        for number, each in enumerate(fields.items("tokens"), 1)
    )
    fields.done()
    if len({each.name for each in tokens}) < len(tokens):
        raise ConfigError(f"{path}: has a name twice")
    return tokens


def new_token(path: Path, name: str, role: Role) -> str:
    """Add a token to a file, which is made if it is not there.

    Returns:
        The token itself; it is kept nowhere.

    Raises:
        ConfigError: A name that is none or is taken, or a file that is none.
        StorageError: The file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name}: 1 to 32 letters, digits and _.- are wanted")
    tokens = read_tokens(path) if path.exists() else ()
    if any(each.name == name for each in tokens):
        raise ConfigError(
            f"{path}: {name} has a token; take it back first: ssn-edge page revoke --name {name}"
        )
    if len(tokens) >= MOST_TOKENS:
        raise ConfigError(f"{path}: holds {MOST_TOKENS} tokens, and no more; revoke some")
    text = secrets.token_urlsafe(32)
    made_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    _write(path, (*tokens, Token(name, role, token_sha256(text), made_at)))
    return text


def revoke_token(path: Path, name: str) -> None:
    """Take a token back; who is logged in with it is logged out within seconds.

    Raises:
        ConfigError: There is none of that name, or the file is none.
        StorageError: The file cannot be written.
    """
    tokens = read_tokens(path)
    left = tuple(each for each in tokens if each.name != name)
    if len(left) == len(tokens):
        held = ", ".join(each.name for each in tokens) or "none"
        raise ConfigError(f"{path}: {name} has no token there; {held} have")
    _write(path, left)


def token_sha256(text: str) -> str:
    """What a file keeps of a token."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


class TokenBook:
    """A file of tokens, read again whenever it was replaced. For one thread at a time.

    Args:
        path: None where there are no tokens: then nobody is more than a viewer.

    Raises:
        ConfigError: It cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}
        if path is not None:
            self._take(read_tokens(path), path)

    def find(self, text: str) -> Token | None:
        """Whose token a text is."""
        digest = token_sha256(text)
        for token in self.tokens:
            if hmac.compare_digest(token.sha256, digest):
                return token
        return None

    def holds(self, token: Token) -> bool:
        """Whether a token still counts."""
        return token in self.tokens

    @property
    def tokens(self) -> tuple[Token, ...]:
        """In force now; none where the file was damaged or deleted since."""
        if self._path is not None:
            try:
                if self._state != _state(self._path):
                    self._take(read_tokens(self._path), self._path)
            except (ConfigError, OSError):
                self._tokens = {}
                self._state = None
        return tuple(self._tokens.values())

    def _take(self, tokens: tuple[Token, ...], path: Path) -> None:
        self._tokens = {each.name: each for each in tokens}
        self._state = _state(path)


def _token(document: object, where: str) -> Token:
    fields = Fields(document, where, refusal=ConfigError)
    name, role = fields.text("name"), fields.text("role")
    sha256, made_at = fields.text("sha256"), fields.text("made_at")
    fields.done()
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(sha256):
        raise ConfigError(f"{where} has no sound name or hash")
    return Token(name, parse_role(role), sha256, made_at)


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    document = {
        "schema": TOKENS_SCHEMA,
        "tokens": [
            {"name": each.name, "role": str(each.role), "sha256": each.sha256,
             "made_at": each.made_at}
            for each in tokens
        ],
    }  # fmt: skip
    before = os.umask(0o077)
    try:
        write_whole(path, (json.dumps(document, indent=2) + "\n").encode(), durable=True)
    finally:
        os.umask(before)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
