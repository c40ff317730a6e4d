"""An authority of the test's own, and what it signs: right, of another name, expired."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; its own lies in `path` (PEM)."""

    def __init__(self, folder: Path, name: str = "plant") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {name}")])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        built = (
            self._begun(self._name, self._key, is_expired=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
        )
        self.path = folder / f"{name}.ca.pem"
        self.path.write_bytes(
            built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def issue(self, name: str, *hosts: str, is_expired: bool = False) -> Path:
        """Certificate and private key, in one file of mode 0600.

        Args:
            name: Of the file, and the common name.
            hosts: Names and addresses that it holds for.
            is_expired: Whether its time is over.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [_general_name(each) for each in hosts]
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        built = self._begun(subject, key, is_expired=is_expired).add_extension(
            signer, critical=False
        )
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        path = self._folder / f"{name}.pem"
        path.touch(0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_expired: bool
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now - DAY if is_expired else now + DAY)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def wrong_certificate(kind: str, authority: Authority, other: Authority) -> Path:
    """Of a server on 127.0.0.1: ``unknown``, ``name`` or ``expired``."""
    if kind == "unknown":
        return other.issue("wrong", "127.0.0.1")
    if kind == "name":
        return authority.issue("wrong", "broker.example", "10.0.0.1")
    return authority.issue("wrong", "127.0.0.1", is_expired=True)


WRONG = {
    "unknown": ("its certificate is refused: ", "-ca FILE names a plant's own authority"),
    "name": ("its certificate is refused: IP address mismatch",),
    "expired": ("its certificate is refused: certificate has expired", "clock is wrong"),
}
"""What is said of it."""
