"""The device certificate: this very engine gave on this device what its package was certified for.

It lies in the engine's slot of the cache, one for each package, and is bound to everything that it
speaks of. Who would run an engine without one that fits gets an error instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ssn_edge_runtime.engines.cache import EngineSlot
from ssn_edge_runtime.errors import CertificateError, EngineError

CERTIFICATE_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """What was run, where, and how far it was from what is certified.

    Args:
        package_id: SHA-256 of the package's manifest.
        precision: Which of its models.
        model_sha256: SHA-256 of that ONNX file.
        engine: The engine's name.
        engine_sha256: The engine's identity: of the plan where there is one.
        key_sha256: Of the cache's key: everything the engine depends on.
        pictures: How many were run, all of them within the tolerance.
        score_difference: Largest of a logit.
        mask_share: Largest share of a mask's pixels that differed.
        near_threshold: Verdicts that differed, each with a score within the tolerance of the
            threshold.
        score_tolerance: What was allowed.
        mask_tolerance: What was allowed.
        certified_at: UTC, as in ``2026-11-22T21:00:00Z``.
        data: The same for a user's own pictures, where they were run: how many, how far from
            the reference engine, which verdicts differed; None where only golden ones were.
        device: What `describe_device` says: processor, GPU, power mode, clocks, versions.
        schema: Of this document.
    """

    package_id: str
    precision: str
    model_sha256: str
    engine: str
    engine_sha256: str
    key_sha256: str
    pictures: int
    score_difference: float
    mask_share: float
    near_threshold: int
    score_tolerance: float
    mask_tolerance: float
    certified_at: str
    device: Mapping[str, object]
    data: Mapping[str, object] | None = None
    schema: int = CERTIFICATE_SCHEMA

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a certificate must speak of to count for an engine.

    Args:
        package_id: Of the package that is to run.
        precision: Of the model that is to run.
        model_sha256: Of its ONNX file, by the package's manifest.
        engine: The engine's name.
        key_sha256: Of the cache's key here and now.
    """

    package_id: str
    precision: str
    model_sha256: str
    engine: str
    key_sha256: str


def certificate_from_dict(document: Mapping[str, object]) -> DeviceCertificate:
    """Read a certificate, strictly: every field there, none besides, each of its type.

    Raises:
        CertificateError: It is none of this version's.
    """
    kinds = {each.name: _KINDS.get(str(each.type), object) for each in fields(DeviceCertificate)}
    if set(document) != set(kinds) or not all(
        isinstance(document[name], kind) and not isinstance(document[name], bool)
        for name, kind in kinds.items()
    ):
        raise CertificateError("the device certificate is damaged or of another version")
    if document["schema"] != CERTIFICATE_SCHEMA:
        raise CertificateError("the device certificate is of another version")
    certificate = DeviceCertificate(**document)  # type: ignore[arg-type]
    within = (
        certificate.pictures >= 1
        # False for NaN, too.
        and certificate.mask_share <= certificate.mask_tolerance
        and certificate.score_difference >= 0
    )
    if not within:
        raise CertificateError("the device certificate shows no engine that passed")
    return certificate


_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "Mapping[str, object]": dict,
    "Mapping[str, object] | None": (dict, type(None)),
}


def why_not_certified(slot: EngineSlot, wanted: Binding) -> str:
    """What is wrong with a slot's certificate for a package; empty if it fits.

    Raises:
        EngineError: Someone else may write to the cache.
    """
    document = slot.read_certificate(wanted.package_id)
    if document is None:
        return "it has no device certificate for this package"
    try:
        certificate = certificate_from_dict(document)
    except CertificateError as error:
        return str(error)
    for name in Binding.__slots__:
        if getattr(certificate, name) != getattr(wanted, name):
            return f"its device certificate is for another {_NAMES[name]}"
    return ""


_NAMES = {
    "package_id": "package",
    "precision": "precision",
    "model_sha256": "model",
    "engine": "engine",
    "key_sha256": "device, driver or library version",
}


def require_certificate(slot: EngineSlot, wanted: Binding, identity: str, *, mend: str) -> None:
    """Refuse an engine that was loaded and is not the one that the certificate speaks of.

    Args:
        slot: The engine's.
        wanted: What the certificate must be about.
        identity: `Engine.identity` of the loaded engine.
        mend: The command that makes a certificate.

    Raises:
        EngineError: There is no certificate, or it is about another engine.
    """
    problem = why_not_certified(slot, wanted)
    if not problem:
        document = slot.read_certificate(wanted.package_id) or {}
        if document.get("engine_sha256") == identity:
            return
        problem = "its device certificate is for an engine that was built before this one"
    raise EngineError(
        f"engine {wanted.engine} ({wanted.precision}) may not decide: {problem}; run {mend}"
    )
