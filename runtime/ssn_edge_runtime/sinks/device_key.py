"""Ed25519 keys: a device's own signs what it publishes of its journal, a signer's its packages.

Needs ``cryptography`` (the extra ``sign``); without it a journal is chained but not signed.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import read_private, write_private, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PUBLIC_SUFFIX = ".pub"
_NEEDS = "signing needs the package cryptography; install it: pip install 'ssn-edge[sign]'"


class PublicKey:
    """A device's public key.

    Args:
        raw: Its 32 bytes.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.key_id = hashlib.sha256(raw).hexdigest()
        self._key: Ed25519PublicKey | None = None

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a PEM file.

        Raises:
            ConfigError: It is no Ed25519 public key, or ``cryptography`` is not installed.
        """
        try:
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import ed25519
        except ModuleNotFoundError as error:
            raise ConfigError(_NEEDS) from error
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ConfigError(f"{path}: is no public key in PEM form") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ConfigError(f"{path}: is no Ed25519 public key")
        return cls(key.public_bytes_raw())

    def to_pem(self) -> bytes:
        """The key as a PEM file, which OpenSSL and others read."""
        der = bytes.fromhex("302a300506032b6570032100") + self.raw  # RFC 8410, section 4
        text = b64encode(der).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n".encode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the key's owner signed the message.

        Raises:
            ConfigError: ``cryptography`` is not installed.
        """
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ModuleNotFoundError as error:
            raise ConfigError(_NEEDS) from error
        if self._key is None:
            self._key = Ed25519PublicKey.from_public_bytes(self.raw)
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class DeviceKey:
    """A device's private key, with its public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key's 32 bytes."""
        return self.public.key_id

    @classmethod
    def open(cls, path: Path) -> DeviceKey:
        """Read the key, or make it on first use; its public half is written beside it.

        Args:
            path: The private key, PEM, for its owner alone (mode 0600); ``path.pub`` is public.

        Raises:
            ConfigError: Others may read it, it is no Ed25519 key, or ``cryptography`` is not
                installed.
            StorageError: It cannot be written.
        """
        if not path.exists():
            write_private(path, _new_private())  # unless another process was first
        key = cls.read(path)
        public = _public_path(path)
        if not public.exists():
            write_whole(public, key.public.to_pem())
        return key

    @classmethod
    def make(cls, path: Path) -> DeviceKey:
        """Make a new key and its public half, ``path.pub``; nothing is overwritten.

        Raises:
            ConfigError: One of the two is there already, or ``cryptography`` is not installed.
            StorageError: It cannot be written.
        """
        public = _public_path(path)
        for each in (path, public):
            if each.exists():
                raise ConfigError(f"{each}: is there already; name another file for a new key")
        made = _new_private()
        write_private(path, made)
        if read_private(path) != made:  # another process was first: its key stands
            raise ConfigError(f"{path}: is there already; name another file for a new key")
        key = cls.read(path)
        write_whole(public, key.public.to_pem(), durable=True)
        return key

    @classmethod
    def read(cls, path: Path) -> DeviceKey:
        """Read a key that is there.

        Raises:
            ConfigError: It is not there, others may read it, it is no Ed25519 key, or
                ``cryptography`` is not installed.
        """
        try:
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import ed25519
        except ModuleNotFoundError as error:
            raise ConfigError(_NEEDS) from error
        try:
            private = serialization.load_pem_private_key(_read_private(path), None)
        except (ValueError, TypeError) as error:  # cut, damaged, or under a password
            raise ConfigError(
                f"{path}: is no private key that can be read; a password is not asked for"
            ) from error
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"{path}: is no Ed25519 key; move it away, and make a new one")
        return cls(private)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private.sign(message)


def _public_path(path: Path) -> Path:
    return path.with_name(path.name + PUBLIC_SUFFIX)


def _new_private() -> bytes:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise ConfigError(_NEEDS) from error
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_private(path: Path) -> bytes:
    data = read_private(path)
    if b"PRIVATE KEY" not in data:
        raise ConfigError(
            f"{path}: is no private key in PEM form; move it away, and make a new one"
        )
    return data
