"""Does this device trust a package, or settings: signed by a known key, not revoked, not older."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import SignatureError
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.trust.signatures import (
    PackageSignature,
    package_message,
    signatures_from_json,
)
from ssn_edge_runtime.trust.state import Accepted, TrustState

if TYPE_CHECKING:
    from ssn_edge_runtime.trust.trusted_keys import TrustedKeys


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Whose signature holds.

    Args:
        key_id: SHA-256 of the public key.
        name: What the key is called here.
        serial: The package's serial, or the settings' version.
        signed_at: UTC, by the signer's clock; empty for settings.
    """

    key_id: str
    name: str
    serial: int
    signed_at: str = ""

    def __str__(self) -> str:
        """For people."""
        when = f" at {self.signed_at}" if self.signed_at else ""
        return f"{self.name} (key {self.key_id[:16]}){when}, serial {self.serial}"


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """One signature of a package, looked at.

    Args:
        signature: It itself.
        name: What its key is called here; empty for one that is not known.
        refusal: Why it does not count; empty where it does.
    """

    signature: PackageSignature
    name: str
    refusal: str

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "key_id": self.signature.key_id,
            "name": self.name or None,
            "serial": self.signature.serial,
            "signed_at": self.signature.signed_at,
            "is_trusted": not self.refusal,
            "refusal": self.refusal or None,
        }


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a device trusts. The keys are read at each check: one that is revoked counts at once.

    Args:
        keys: Folder of public keys (``NAME.pub``) with ``revoked.txt``, or one key file.
        state: File of the newest that was taken; None to notice no older ones.
        minimum_serial: Packages below it are refused, whatever their name.
        allows_older: Someone said that an older one may come back.
        notes_taken: Whether what is opened is noted; else `Inspector.note_taken` does so, later.
    """

    keys: Path
    state: Path | None = None
    minimum_serial: int = 0
    allows_older: bool = False
    notes_taken: bool = True

    def verify_package(self, package_id: str, data: bytes | None) -> SignedBy:
        """Who signed a package, with the highest serial of those who count.

        Args:
            package_id: SHA-256 of its manifest.
            data: Its ``signature.json``; None where it has none.

        Raises:
            SignatureError: Unsigned, or no signature of a trusted key holds.
            ConfigError: The trusted keys cannot be read, or ``cryptography`` is not installed.
        """
        keys = self._read_keys()
        if package_id in keys.revoked:
            raise SignatureError(f"package {package_id[:16]} is revoked; {_SIGNED_ONE}")
        if data is None:
            raise SignatureError(f"it is not signed; {_SIGNED_ONE}")
        reports = _looked_at(keys, package_id, signatures_from_json(data), self.minimum_serial)
        holding = [each for each in reports if not each.refusal]
        if not holding:
            raise SignatureError(f"{reports[0].refusal}; {_SIGNED_ONE}")
        best = max(holding, key=lambda each: each.signature.serial)
        signature = best.signature
        return SignedBy(signature.key_id, best.name, signature.serial, signature.signed_at)

    def refuse_older_package(self, name: str, signed_by: SignedBy) -> None:
        """Refuse a package that is older than one that was taken.

        Raises:
            SignatureError: It is, and nobody said that it may come back.
            ConfigError: What was taken cannot be read.
        """
        taken = self._accepted().packages.get(name, 0)
        if signed_by.serial < taken and not self.allows_older:
            raise SignatureError(
                f"it is an older package {name!r} (serial {signed_by.serial}) than one that this "
                f"device has taken (serial {taken}); {_GO_BACK}"
            )

    def check_settings(self, settings: DeviceSettings) -> SignedBy:
        """Who signed settings.

        Raises:
            SignatureError: Unsigned, by a key that does not count, or older than some that were
                taken for the same package.
            ConfigError: Trusted keys, or what was taken, cannot be read.
        """
        keys = self._read_keys()
        name = f"settings version {settings.version} ({settings.settings_id[:12]})"
        signature = settings.signature
        if settings.settings_id in keys.revoked:
            raise SignatureError(f"{name} are revoked; {_SIGNED_SETTINGS}")
        if signature is None:
            raise SignatureError(f"{name} are not signed; {_SIGNED_SETTINGS}")
        refusal = _refused_key(keys, signature.key_id)
        if not refusal and not keys.keys[signature.key_id].verifies(
            bytes.fromhex(signature.value), settings.signed_bytes
        ):
            refusal = f"have a signature that key {keys.name_of(signature.key_id)!r} did not make"
        if refusal:
            raise SignatureError(f"{name} {refusal}; {_SIGNED_SETTINGS}")
        taken = self._accepted().settings.get(settings.package_id, 0)
        if settings.version < taken and not self.allows_older:
            raise SignatureError(
                f"{name} are older than version {taken}, which this device has taken; bring them "
                "back on purpose: ssn-edge settings rollback"
            )
        return SignedBy(signature.key_id, keys.name_of(signature.key_id), settings.version)

    def refusal_of_key(self, key_id: str) -> str:
        """Why nothing counts that a key signs, as in "signed by the unknown key 0a1b"; else empty.

        Args:
            key_id: SHA-256 of the public key.

        Raises:
            ConfigError: The trusted keys cannot be read, or ``cryptography`` is not installed.
        """
        return _refused_key(self._read_keys(), key_id)

    def refuse_missing_settings(self, package_id: str) -> None:
        """Refuse a package's own thresholds where signed settings were in force for it.

        Raises:
            SignatureError: They were, and nobody said that it may go without them.
            ConfigError: What was taken cannot be read.
        """
        taken = self._accepted().settings.get(package_id, 0)
        if taken and not self.allows_older:
            raise SignatureError(
                f"this device has taken settings version {taken} for package {package_id[:16]}, "
                "and now there are none; bring them back, or go without on purpose: ssn-edge run "
                "--allow-older"
            )

    def look_at(self, package_id: str, data: bytes) -> tuple[SignatureReport, ...]:
        """Each signature of a package, and whether it counts here; for people.

        Raises:
            SignatureError: ``signature.json`` cannot be read.
            ConfigError: The trusted keys cannot be read.
        """
        signatures = signatures_from_json(data)
        return _looked_at(self._read_keys(), package_id, signatures, self.minimum_serial)

    def take_package(self, name: str, signed_by: SignedBy) -> None:
        """Note that a package judges now: from here on an older one is refused.

        Raises:
            ConfigError: What was taken before cannot be read.
            StorageError: It cannot be noted.
        """
        if self.state is not None and self.notes_taken:
            state = TrustState(self.state)
            state.take_package(name, signed_by.serial, goes_back=self.allows_older)

    def take_settings(self, package_id: str, signed_by: SignedBy) -> None:
        """Note that settings are in force now; see `take_package`."""
        if self.state is not None and self.notes_taken:
            state = TrustState(self.state)
            state.take_settings(package_id, signed_by.serial, goes_back=self.allows_older)

    def to_dict(self) -> dict[str, object]:
        """For another process."""
        return {
            "keys": str(self.keys.absolute()),
            "state": None if self.state is None else str(self.state.absolute()),
            "minimum_serial": self.minimum_serial,
            "allows_older": self.allows_older,
            "notes_taken": self.notes_taken,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Trust:
        """The reverse of `to_dict`."""
        state = document["state"]
        return cls(
            Path(str(document["keys"])),
            None if state is None else Path(str(state)),
            int(str(document["minimum_serial"])),
            document["allows_older"] is True,
            document["notes_taken"] is True,
        )

    def _accepted(self) -> Accepted:
        return Accepted({}, {}) if self.state is None else TrustState(self.state).read()

    def _read_keys(self) -> TrustedKeys:
        # Here, so that who checks no signature loads nothing of it.
        from ssn_edge_runtime.trust.trusted_keys import TrustedKeys

        return TrustedKeys.read(self.keys)


_SIGNED_ONE = "only packages of a trusted key may run here: ssn-edge sign PACKAGE --key FILE"
_SIGNED_SETTINGS = (
    "only settings of a trusted key may be used here: ssn-edge sign SETTINGS --key FILE"
)
_GO_BACK = "go back on purpose: ssn-edge run --allow-older"


def _refused_key(keys: TrustedKeys, key_id: str) -> str:
    if key_id in keys.revoked:
        name = keys.name_of(key_id)
        return f"signed by the revoked key {key_id[:16]}" + (f" ({name})" if name else "")
    if key_id not in keys.keys:
        return f"signed by the unknown key {key_id[:16]}"
    return ""


def _looked_at(
    keys: TrustedKeys,
    package_id: str,
    signatures: tuple[PackageSignature, ...],
    minimum_serial: int,
) -> tuple[SignatureReport, ...]:
    reports = []
    for each in signatures:
        name = keys.name_of(each.key_id)
        refusal = _refused_key(keys, each.key_id)
        if not refusal:
            message = package_message(package_id, each.serial, each.signed_at)
            if not keys.keys[each.key_id].verifies(bytes.fromhex(each.value), message):
                refusal = (
                    f"the signature of key {name!r} is of something else: the package was changed "
                    "after it was signed, or the signature was"
                )
            elif each.serial < minimum_serial:
                refusal = f"serial {each.serial} is below the least one here, {minimum_serial}"
        reports.append(SignatureReport(each, name, refusal))
    return tuple(reports)
