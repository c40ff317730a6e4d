"""The keys that a device trusts: public key files in a folder, and a list of what was revoked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sinks.device_key import PUBLIC_SUFFIX, PublicKey

REVOKED_NAME = "revoked.txt"
LARGEST_KEY_BYTES = 64 * 2**10
LARGEST_LIST_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TrustedKeys:
    """Several keys at once, so that a new one can be trusted before the old one goes.

    Args:
        keys: By id.
        names: What each is called, by id: its file's name.
        revoked: Ids of keys, packages and settings that are refused whatever else holds.
    """

    def __init__(
        self, keys: Mapping[str, PublicKey], names: Mapping[str, str], revoked: frozenset[str]
    ) -> None:
        self.keys = dict(keys)
        self.names = dict(names)
        self.revoked = revoked

    @classmethod
    def read(cls, path: Path) -> TrustedKeys:
        """Read a folder of ``NAME.pub`` files with ``revoked.txt``, or one such file.

        Raises:
            ConfigError: It is not there, holds no key, or a file in it cannot be used: a revoked
                list that is not understood must not be taken for an empty one.
        """
        if not path.is_dir():
            key = _read_key(path)
            return cls({key.key_id: key}, {key.key_id: _name(path)}, frozenset())
        try:
            files = sorted(each for each in path.iterdir() if each.suffix == PUBLIC_SUFFIX)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        if not files:
            raise ConfigError(
                f"{path}: holds no public key (NAME{PUBLIC_SUFFIX}); copy the signer's there"
            )
        keys, names = {}, {}
        for file in files:
            key = _read_key(file)
            keys[key.key_id] = key
            names[key.key_id] = _name(file)
        return cls(keys, names, _read_revoked(path / REVOKED_NAME))

    def name_of(self, key_id: str) -> str:
        """What a key is called here; empty for one that is not trusted."""
        return self.names.get(key_id, "")


def _name(path: Path) -> str:
    return path.name.removesuffix(PUBLIC_SUFFIX)


def _read_key(path: Path) -> PublicKey:
    try:
        is_small = path.stat().st_size <= LARGEST_KEY_BYTES
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name the trusted keys: --trust FOLDER"
        ) from error
    if not is_small:
        raise ConfigError(f"{path}: is larger than {LARGEST_KEY_BYTES} bytes: no public key")
    return PublicKey.read(path)


def _read_revoked(path: Path) -> frozenset[str]:
    if not path.exists():
        return frozenset()
    try:
        if path.stat().st_size > LARGEST_LIST_BYTES:
            raise ConfigError(f"{path}: is larger than {LARGEST_LIST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    revoked = set()
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip().lower()
        if not word:
            continue
        if not _SHA256.fullmatch(word):
            raise ConfigError(
                f"{path}:{number}: {word[:70]!r} is no id; the 64 hexadecimal digits of a key, a "
                "package or settings are wanted, # begins a remark"
            )
        revoked.add(word)
    return frozenset(revoked)
