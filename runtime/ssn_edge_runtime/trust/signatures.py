"""The signatures of a package: their file, and the bytes that they are over."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import ConfigError, SignatureError
from ssn_edge_runtime.settings import SIGNATURE_ALGORITHM, DeviceSettings, Signature
from ssn_edge_runtime.strict_json import Fields, canonical_json

if TYPE_CHECKING:
    from ssn_edge_runtime.sinks.device_key import DeviceKey

SIGNATURE_SCHEMA = 1
MAX_SIGNATURES = 16
"""While keys are rotated there are two; each is looked at."""
MAX_SERIAL = 2**53 - 1
"""Beyond it, readers of JSON disagree on what a number is."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class PackageSignature:
    """One signature over a package's id, with a number that only grows.

    Args:
        key_id: SHA-256 of the raw public key (32 bytes), in hexadecimal.
        serial: Of the package among those of its name: a device that has taken one does not go back
            to a lower one. By default the second at which it was signed.
        signed_at: UTC, as in ``2026-11-28T21:00:00Z``; for people, by the signer's clock.
        value: The signature (64 bytes), in hexadecimal.
    """

    key_id: str
    serial: int
    signed_at: str
    value: str

    def __post_init__(self) -> None:
        """Refuse what has not the form of one."""
        Signature(self.key_id, self.value)
        if not 0 <= self.serial <= MAX_SERIAL:
            raise ConfigError(f"serial {self.serial}: 0 to {MAX_SERIAL} is wanted")
        if not _TIME.fullmatch(self.signed_at):
            raise ConfigError(f"signed_at {self.signed_at!r} is not a UTC time")


def package_message(package_id: str, serial: int, signed_at: str) -> bytes:
    """What a package's signature is over: a line that says what is signed, then canonical JSON."""
    document = {"package_id": package_id, "serial": serial, "signed_at": signed_at}
    return b"ssn-edge package 1\n" + canonical_json(document)


def sign_package(
    key: DeviceKey, package_id: str, *, serial: int | None = None, now: datetime | None = None
) -> PackageSignature:
    """Sign a package by its id.

    Args:
        key: Whose signature it becomes.
        package_id: SHA-256 of its manifest.
        serial: None for the second of `now`, counted from 1970: later signed is newer.
        now: None for this moment.

    Raises:
        ConfigError: A serial that none can be.
    """
    now = datetime.now(timezone.utc) if now is None else now.astimezone(timezone.utc)
    signed_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    number = int(now.timestamp()) if serial is None else serial
    value = key.sign(package_message(package_id, number, signed_at)).hex()
    return PackageSignature(key.key_id, number, signed_at, value)


def sign_settings(key: DeviceKey, settings: DeviceSettings) -> Signature:
    """Sign one version of device settings; its version is the number that only grows."""
    return Signature(key.key_id, key.sign(settings.signed_bytes).hex())


def signatures_to_json(signatures: Sequence[PackageSignature]) -> bytes:
    """The content of ``signature.json``, in order of the keys."""
    document = {
        "schema": SIGNATURE_SCHEMA,
        "signatures": [
            {
                "algorithm": SIGNATURE_ALGORITHM,
                "key_id": each.key_id,
                "serial": each.serial,
                "signed_at": each.signed_at,
                "value": each.value,
            }
            for each in sorted(signatures, key=lambda each: each.key_id)
        ],
    }
    return canonical_json(document)


def signatures_from_json(data: bytes) -> tuple[PackageSignature, ...]:
    """Read ``signature.json``, strictly.

    Raises:
        SignatureError: Not canonical JSON, an unknown schema, no or too many signatures, two of one
            key, or a field that is missing, unknown or impossible.
    """
    try:
        document = json.loads(data)
        canonical = canonical_json(document)
    except (ValueError, RecursionError) as error:
        raise _refusal("is not JSON") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SIGNATURE_SCHEMA or isinstance(schema, bool):
        raise SignatureError(
            f"signature.json has schema {schema!r}, this ssn-edge reads {SIGNATURE_SCHEMA}; update "
            "ssn-edge, or sign the package again"
        )
    if canonical != data:
        raise _refusal("is not in its canonical form")
    fields = Fields(document, "the file", refusal=_refusal)
    fields.whole("schema")
    listed = fields.items("signatures")
    fields.done()
    if not 1 <= len(listed) <= MAX_SIGNATURES:
        raise _refusal(f"holds {len(listed)} signatures, 1 to {MAX_SIGNATURES} are wanted")
    try:
        signatures = tuple(_signature(each) for each in listed)
    except ConfigError as error:
        raise _refusal(str(error)) from error
    key_ids = [each.key_id for each in signatures]
    if sorted(set(key_ids)) != key_ids:
        raise _refusal("does not hold one signature of each key, in order")
    return signatures


def _signature(item: object) -> PackageSignature:
    fields = Fields(item, "signatures", refusal=_refusal)
    fields.choice("algorithm", (SIGNATURE_ALGORITHM,))
    signature = PackageSignature(
        key_id=fields.text("key_id"),
        serial=fields.whole("serial"),
        signed_at=fields.text("signed_at"),
        value=fields.text("value"),
    )
    fields.done()
    return signature


def _refusal(what: str) -> SignatureError:
    return SignatureError(f"signature.json: {what}; sign the package again: ssn-edge sign")
