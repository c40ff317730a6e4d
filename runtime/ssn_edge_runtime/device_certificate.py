"""Certify an engine on this device: all golden pictures through it, and what came out on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.cache import EngineKey
from ssn_edge_runtime.engines.certificates import DeviceCertificate
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.self_test import GoldenOutcome, check_golden

__all__ = ["DeviceCertificate", "certify"]


def certify(
    package: Package,
    engine: Engine,
    precision: str,
    *,
    key: EngineKey,
    on_picture: Callable[[GoldenOutcome], None] = lambda outcome: None,
) -> DeviceCertificate:
    """Run every golden picture and say how far this engine is from what is certified.

    Write it with `EngineSlot.write_certificate(package.package_id, certificate.to_dict())`, while
    the engine's plan is the one that was run.

    Args:
        package: An open package.
        engine: Its model of this precision, loaded.
        precision: A name of the manifest's `precisions`.
        key: The engine's, from its slot.
        on_picture: Told each outcome.

    Raises:
        CertificateError: A picture comes out differently.
        EngineError: The engine failed.
        PackageError: The package holds no golden pictures, or they do not fit it.
    """
    outcomes: list[GoldenOutcome] = []

    def keep(outcome: GoldenOutcome) -> None:
        outcomes.append(outcome)
        on_picture(outcome)

    check_golden(package, engine, precision, on_picture=keep)
    entry = package.manifest.precisions[precision]
    return DeviceCertificate(
        package_id=package.package_id,
        precision=precision,
        model_sha256=package.manifest.entries[entry.model].sha256,
        engine=engine.name,
        engine_sha256=engine.identity,
        key_sha256=key.sha256,
        pictures=len(outcomes),
        score_difference=max(each.score_difference for each in outcomes),
        mask_share=max(each.mask_share for each in outcomes),
        near_threshold=sum(each.verdict is not each.expected for each in outcomes),
        score_tolerance=entry.tolerance.score,
        mask_tolerance=entry.tolerance.mask_share,
        certified_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        device=describe_device().to_dict(),
    )
