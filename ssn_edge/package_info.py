"""What a package says of itself, what its export measured, and what may run it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.risk_words import risk_words
from ssn_edge_runtime import Manifest, Package
from ssn_edge_runtime.engines import ENGINES, EngineCache, choose_engine
from ssn_edge_runtime.engines.certificates import certificate_from_dict
from ssn_edge_runtime.errors import EngineError, SignatureError
from ssn_edge_runtime.manifest import SIGNATURE_NAME
from ssn_edge_runtime.manifest_json import manifest_to_dict
from ssn_edge_runtime.trust import SignatureReport, Trust, signatures_from_json


@dataclass(frozen=True, slots=True)
class EngineHere:
    """Whether an engine may decide on this device.

    Args:
        engine: Its name.
        may_run: In which precision; empty for none.
        why: Why that one, or why none.
    """

    engine: str
    may_run: str
    why: str


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """A package, looked into.

    Args:
        path: The file.
        package_id: SHA-256 of its manifest.
        manifest: The same as objects.
        is_signed: Whether it carries a signature.
        signatures: Whose they are, and whether they count here; a line where they cannot be read.
        certificates: What the export gate measured, by precision.
        engines: What may decide here, by this device's certificates.
        auto: What ``--engine auto`` takes here.
    """

    path: Path
    package_id: str
    manifest: Manifest
    is_signed: bool
    signatures: tuple[SignatureReport, ...] | str
    certificates: Mapping[str, Mapping[str, object]]
    engines: tuple[EngineHere, ...]
    auto: EngineHere

    def to_dict(self) -> dict[str, object]:
        """For JSON: the manifest, and the rest beside it."""
        return {
            "package_id": self.package_id,
            "is_signed": self.is_signed,
            "signatures": self.signatures
            if isinstance(self.signatures, str)
            else [each.to_dict() for each in self.signatures],
            **manifest_to_dict(self.manifest),
            "certificates": dict(self.certificates),
            "engines_here": {
                each.engine: {"precision": each.may_run or None, "why": each.why}
                for each in (self.auto, *self.engines)
            },
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        manifest = self.manifest
        height, width = manifest.geometry.input_size_hw
        signed = "signed" if self.is_signed else "not signed"
        size = manifest.frame_size_hw
        frames = "not fixed" if size is None else f"{size[1]} x {size[0]} pixels"
        lines = [
            f"{self.path}: whole and unchanged, {self.path.stat().st_size / 1e6:.1f} MB, {signed}",
            f"  id             {self.package_id}",
            *(f"  signature      {line}" for line in self._signature_lines()),
            f"  made           {manifest.created_at}",
            f"  model          {manifest.backbone}, {manifest.variant} variant, {manifest.regime}",
            f"  camera frames  {frames}",
            f"  network input  {height} x {width} pixels",
            f"  region         {manifest.geometry.roi_xywh or 'whole frame'}",
            f"  score          {manifest.scoring_rule.value}",
        ]
        for name, entry in manifest.precisions.items():
            size_mb = manifest.entries[entry.model].size_bytes / 1e6
            lines += [
                f"  {name:<14} {size_mb:.1f} MB, graph {entry.graph}, "
                f"image threshold {entry.thresholds.image:.4f}, "
                f"pixel threshold {entry.thresholds.pixel:.4f} (logits)",
                f"  {'':<14} a device may differ by {entry.tolerance.score:.2g} of a logit and "
                f"{100 * entry.tolerance.mask_share:.2g} % of a mask",
                f"  {'':<14} {risk_words(entry.risk)}",
                *(f"  {'':<14} {line}" for line in certificate_lines(self.certificates[name])),
            ]
        lines.append(f"  golden         {len(manifest.golden)} pictures")
        lines.append("on this device:")
        for each in (self.auto, *self.engines):
            lines.append(f"  {each.engine:<16} {each.may_run or '-':<5} {each.why}")
        return lines

    def _signature_lines(self) -> list[str]:
        if isinstance(self.signatures, str):
            return [self.signatures]
        lines = []
        for each in self.signatures:
            signature = each.signature
            who = (
                f"{each.name} (key {signature.key_id[:16]})"
                if each.name
                else (f"key {signature.key_id[:16]}")
            )
            result = f"does not count: {each.refusal}" if each.refusal else "trusted"
            lines.append(f"by {who} at {signature.signed_at}, serial {signature.serial}: {result}")
        return lines


def read_info(
    path: Path, *, cache: EngineCache | None = None, trust: Trust | None = None
) -> PackageInfo:
    """Check a package and look into it; a signature that does not count is told, not refused.

    Raises:
        PackageError: Not a whole, unchanged package.
        EngineError: Someone else may write to the cache of this device.
    """
    cache = cache or EngineCache()
    with Package.open(path) as package:
        manifest = package.manifest
        return PackageInfo(
            path=path,
            package_id=package.package_id,
            manifest=manifest,
            is_signed=package.is_signed,
            signatures=_signatures(package, trust),
            certificates={
                name: _certificate(package.read(entry.certificate))
                for name, entry in manifest.precisions.items()
            },
            engines=tuple(_here(package, name, cache) for name in ENGINES),
            auto=_here(package, "auto", cache),
        )


def certificate_lines(certificate: Mapping[str, object]) -> list[str]:
    """What an export's certificate measured, a line for each engine, and what stayed float."""
    lines = []
    columns = certificate.get("columns")
    for column in columns if isinstance(columns, list) else []:
        try:
            where = column["column"]
            flips = [flip["is_outside"] for flip in column["flips"]]
            lines.append(
                f"certified on {column['pictures']} pictures with {where['engine']}: score off by "
                f"at most {column['score']['largest']:.3g}, {len(flips)} verdicts turned, "
                f"{sum(flips)} outside of {column['margin']:.3g} around the threshold"
            )
        except (KeyError, TypeError, ValueError):
            lines.append("certified by a version whose certificate this one cannot show")
    details = certificate.get("details")
    layers = details.get("float_layers") if isinstance(details, dict) else None
    if isinstance(layers, list):
        lines.append(f"left in float: {', '.join(map(str, layers)) or 'none'}")
    return lines


def _signatures(package: Package, trust: Trust | None) -> tuple[SignatureReport, ...] | str:
    if not package.is_signed:
        return ()
    data = package.read(SIGNATURE_NAME)
    try:
        if trust is not None:
            return trust.look_at(package.package_id, data)
        return tuple(
            SignatureReport(each, "", "no keys are trusted here, name them: --trust FOLDER")
            for each in signatures_from_json(data)
        )
    except SignatureError as error:
        return str(error)


def _certificate(data: bytes) -> Mapping[str, object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # for people alone: nothing is decided by it
        return {}
    return document if isinstance(document, dict) else {}


def _here(package: Package, engine: str, cache: EngineCache) -> EngineHere:
    missing = ENGINES[engine].missing() if engine in ENGINES else None
    if missing:
        return EngineHere(engine, "", missing)
    try:
        choice = choose_engine(package, engine=engine, cache=cache)
    except EngineError as error:
        return EngineHere(engine, "", str(error))
    if engine not in ENGINES:
        return EngineHere(engine, choice.precision, choice.reason)
    if not choice.must_be_certified:
        return EngineHere(engine, choice.precision, "by the package's own certificate")
    certificate = certificate_from_dict(choice.slot.read_certificate(package.package_id) or {})
    return EngineHere(
        engine,
        choice.precision,
        f"certified {certificate.certified_at} on {certificate.pictures} golden pictures, score "
        f"off by at most {certificate.score_difference:.2g}",
    )
