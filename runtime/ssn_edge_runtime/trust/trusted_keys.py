"""The keys that a device trusts: public key files in a folder, and a list of what was revoked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.sinks.device_key import PUBLIC_SUFFIX, PublicKey

REVOKED_NAME = "revoked.txt"
SETTINGS_FOLDER = "settings"
"""Below the folder of trusted keys: those that sign device settings, and never a package."""
LARGEST_KEY_BYTES = 64 * 2**10
LARGEST_LIST_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TrustedKeys:
    """Several keys at once, so that a new one can be trusted before the old one goes.

    Args:
        keys: By id.
        names: What each is called, by id: its file's name.
        revoked: Ids of keys, packages and settings that are refused whatever else holds.
        settings_only: Ids of the keys whose signature counts under device settings alone.
    """

    def __init__(
        self,
        keys: Mapping[str, PublicKey],
        names: Mapping[str, str],
        revoked: frozenset[str],
        settings_only: frozenset[str] = frozenset(),
    ) -> None:
        self.keys = dict(keys)
        self.names = dict(names)
        self.revoked = revoked
        self.settings_only = settings_only

    @classmethod
    def read(cls, path: Path) -> TrustedKeys:
        """Read a folder of ``NAME.pub`` files with ``revoked.txt``, or one such file.

        ``settings/NAME.pub`` in the folder are keys for device settings: one that lies on a device,
        as its live page's does, need not be able to sign a package.

        Raises:
            ConfigError: It is not there, holds no key, or a file in it cannot be used: a revoked
                list that is not understood must not be taken for an empty one.
        """
        if not path.is_dir():
            key = _read_key(path)
            return cls({key.key_id: key}, {key.key_id: _name(path)}, frozenset())
        of_all = _read_keys(path)
        if not of_all:
            raise ConfigError(
                f"{path}: holds no public key (NAME{PUBLIC_SUFFIX}); copy the signer's there"
            )
        folder = path / SETTINGS_FOLDER
        of_settings = _read_keys(folder) if folder.is_dir() else {}
        named = {
            **{f"{SETTINGS_FOLDER}/{name}": key for name, key in of_settings.items()},
            **of_all,  # a key that lies in both places counts for both
        }
        return cls(
            {key.key_id: key for key in named.values()},
            {key.key_id: name for name, key in named.items()},
            _read_revoked(path / REVOKED_NAME),
            frozenset(key.key_id for key in of_settings.values())
            - frozenset(key.key_id for key in of_all.values()),
        )

    def name_of(self, key_id: str) -> str:
        """What a key is called here; empty for one that is not trusted."""
        return self.names.get(key_id, "")


def _read_keys(folder: Path) -> dict[str, PublicKey]:
    """By name."""
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix == PUBLIC_SUFFIX)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror})") from error
    return {_name(file): _read_key(file) for file in files}


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
