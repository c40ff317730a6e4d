"""The server's own certificate: made on first use, beside the file of users."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ssn_edge_runtime.files import read_private, write_private, write_whole

APPLICATION = "urn:ssn-edge:opcua"
YEARS = 10


def own_certificate(users: Path) -> tuple[Path, Path]:
    """Certificate and private key of this server (PEM); both are made if they are not there.

    Clients pin it: it is signed by nobody else. Remove both files for new ones.

    Args:
        users: File of users; theirs lie beside it.

    Raises:
        ConfigError: Others may read the key.
        StorageError: They cannot be written.
    """
    certificate, key = users.with_suffix(".cert.pem"), users.with_suffix(".key.pem")
    if not certificate.exists() or not key.exists():
        _make(certificate, key)
    read_private(key)  # refuses one that others may read
    return certificate, key


def _make(certificate: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ssn-edge")])
    now = datetime.now(timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        # A device without a battery may believe that it is 1970 and be right tomorrow.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(APPLICATION),
                    x509.DNSName(socket.gethostname()[:63] or "localhost"),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    key.unlink(missing_ok=True)
    write_private(
        key,
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    write_whole(certificate, made.public_bytes(serialization.Encoding.PEM))
