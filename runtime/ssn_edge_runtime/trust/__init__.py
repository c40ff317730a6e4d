"""Whose packages and settings this device takes: signatures, trusted keys, and no way back unasked.

Needs ``cryptography`` (the extra ``sign``) as soon as a signature is made or checked.
"""

from __future__ import annotations

from ssn_edge_runtime.trust.signatures import (
    PackageSignature,
    sign_package,
    sign_settings,
    signatures_from_json,
    signatures_to_json,
)
from ssn_edge_runtime.trust.state import Returning, TrustState
from ssn_edge_runtime.trust.trust import SignatureReport, SignedBy, Trust
from ssn_edge_runtime.trust.trusted_keys import TrustedKeys

__all__ = [
    "PackageSignature",
    "Returning",
    "SignatureReport",
    "SignedBy",
    "Trust",
    "TrustState",
    "TrustedKeys",
    "sign_package",
    "sign_settings",
    "signatures_from_json",
    "signatures_to_json",
]
