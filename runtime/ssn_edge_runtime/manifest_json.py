"""The manifest as canonical JSON: written in one byte form, read strictly."""

from __future__ import annotations

import json
import re

from ssn_edge_runtime.decision import ScoringMethod, ScoringRule, Thresholds, plain_rule
from ssn_edge_runtime.errors import ConfigError, PackageError
from ssn_edge_runtime.manifest import (
    MANIFEST_NAME,
    PRECISIONS,
    SCHEMA_VERSION,
    SIGNATURE_NAME,
    EntryDigest,
    ExpectedScores,
    GoldenPicture,
    InputStatistics,
    Manifest,
    PrecisionEntry,
    Range,
    Risk,
    Tolerance,
)
from ssn_edge_runtime.preprocess import Geometry, Interpolation
from ssn_edge_runtime.strict_json import Fields, canonical_json

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENTRY_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}(/[a-z0-9][a-z0-9_.-]{0,99})?")


def manifest_to_dict(manifest: Manifest) -> dict[str, object]:
    """The manifest as the JSON document that `manifest_from_dict` reads."""
    geometry = manifest.geometry
    statistics = manifest.input_statistics
    return {
        "schema": manifest.schema,
        "name": manifest.name,
        "created_at": manifest.created_at,
        "geometry": {
            "input_size_hw": list(geometry.input_size_hw),
            "roi_xywh": None if geometry.roi_xywh is None else list(geometry.roi_xywh),
            "interpolation": geometry.interpolation.value,
        },
        "frame_size_hw": None if manifest.frame_size_hw is None else list(manifest.frame_size_hw),
        "colour_order": manifest.colour_order,
        "scoring_rule": manifest.scoring_rule.value,
        **_weights_to_dict(manifest.scoring_rule),
        "precisions": {
            name: {
                "model": entry.model,
                "certificate": entry.certificate,
                "thresholds": {
                    "image": entry.thresholds.image,
                    "pixel": entry.thresholds.pixel,
                    "min_area_px": entry.thresholds.min_area_px,
                },
                "risk": {
                    "max_false_reject": entry.risk.max_false_reject,
                    "normals": entry.risk.normals,
                    "supported": entry.risk.supported,
                    **(
                        {}
                        if entry.risk.confidence is None
                        else {"confidence": entry.risk.confidence}
                    ),
                },
                "graph": entry.graph,
                "tolerance": {
                    "score": entry.tolerance.score,
                    "mask_share": entry.tolerance.mask_share,
                },
            }
            for name, entry in manifest.precisions.items()
        },
        "variant": manifest.variant,
        "regime": manifest.regime,
        "backbone": manifest.backbone,
        "training_data": manifest.training_data,
        "input_statistics": {
            "channel_means": [[r.low, r.high] for r in statistics.channel_means],
            **{
                name: [seen.low, seen.high]
                for name, seen in (
                    ("contrast", statistics.contrast),
                    ("sharpness", statistics.sharpness),
                    ("relative_sharpness", statistics.relative_sharpness),
                    ("clipped", statistics.clipped),
                )
            },
        },
        "golden": [
            {
                "picture": golden.picture,
                "expected": {
                    precision: {
                        "classification_logit": scores.classification_logit,
                        "map_max_logit": scores.map_max_logit,
                        "mask": scores.mask,
                    }
                    for precision, scores in golden.expected.items()
                },
            }
            for golden in manifest.golden
        ],
        "tools": dict(manifest.tools),
        "entries": {
            name: {"bytes": digest.size_bytes, "sha256": digest.sha256}
            for name, digest in manifest.entries.items()
        },
    }


def manifest_from_json(data: bytes) -> Manifest:
    """Read a manifest, strictly: every field there, none besides, each of its type.

    Raises:
        PackageError: Not canonical JSON, an unknown schema, or a field that is missing, unknown or
            of the wrong type.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PackageError("manifest.json is not JSON; export the package again") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA_VERSION or isinstance(schema, bool):
        raise PackageError(
            f"manifest.json has schema {schema!r}, this ssn-edge reads {SCHEMA_VERSION}; "
            "update ssn-edge or export the package again"
        )
    try:
        canonical = canonical_json(document)
    except (ValueError, RecursionError) as error:
        raise PackageError(
            "manifest.json holds a number that is not finite or a text that is not Unicode; "
            "export the package again"
        ) from error
    if canonical != data:
        raise PackageError("manifest.json is not in its canonical form; export the package again")
    try:
        return _manifest(_Fields(document, "manifest"))
    except ConfigError as error:
        raise PackageError(f"manifest.json: {error}") from error


class _Fields(Fields):
    """A JSON object of the manifest; what is wrong with it makes the package unusable."""

    def __init__(self, document: object, where: str) -> None:
        super().__init__(document, where, refusal=_refusal)


def _refusal(what: str) -> PackageError:
    return PackageError(f"manifest.json: {what}")


def _manifest(fields: _Fields) -> Manifest:
    manifest = Manifest(
        schema=fields.whole("schema"),
        name=fields.text("name"),
        created_at=fields.text("created_at"),
        geometry=_geometry(_Fields(fields.take("geometry"), "geometry")),
        frame_size_hw=_frame_size(fields),
        colour_order=fields.choice("colour_order", ("bgr",)),
        scoring_rule=_scoring_rule(fields),
        precisions={
            name: _precision(name, _Fields(entry, f"precisions.{name}"))
            for name, entry in fields.entries("precisions").items()
        },
        variant=fields.text("variant"),
        regime=fields.text("regime"),
        backbone=fields.text("backbone"),
        training_data=fields.text("training_data"),
        input_statistics=_statistics(_Fields(fields.take("input_statistics"), "input_statistics")),
        golden=tuple(_golden(_Fields(item, "golden")) for item in fields.items("golden")),
        tools=_tools(_Fields(fields.take("tools"), "tools")),
        entries={
            name: _digest(name, _Fields(entry, f"entries.{name}"))
            for name, entry in fields.entries("entries").items()
        },
    )
    fields.done()
    _check_references(manifest)
    return manifest


def _weights_to_dict(rule: ScoringRule) -> dict[str, object]:
    """What the combined score needs beside its name; nothing for the others."""
    if rule.method is not ScoringMethod.COMBINED:
        return {}
    weights = {
        "classification": rule.classification,
        "map_max": rule.map_max,
        "offset": rule.offset,
    }
    return {"score_weights": weights}


def _scoring_rule(fields: _Fields) -> ScoringRule:
    method = ScoringMethod(
        fields.choice("scoring_rule", tuple(method.value for method in ScoringMethod))
    )
    if method is not ScoringMethod.COMBINED:
        return plain_rule(method)
    weights = _Fields(fields.take("score_weights"), "score_weights")
    rule = ScoringRule(
        method, *(weights.number(name) for name in ("classification", "map_max", "offset"))
    )
    weights.done()
    return rule


def _tools(fields: _Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields.names()}


def _geometry(fields: _Fields) -> Geometry:
    height, width = _whole_numbers(fields.numbers("input_size_hw", 2), "geometry.input_size_hw")
    roi = fields.take("roi_xywh")
    roi_xywh: tuple[int, int, int, int] | None = None
    if roi is not None:
        x, y, w, h = _whole_numbers(
            _Fields({"roi_xywh": roi}, "geometry").numbers("roi_xywh", 4), "geometry.roi_xywh"
        )
        roi_xywh = (x, y, w, h)
    interpolation = fields.choice("interpolation", tuple(each.value for each in Interpolation))
    fields.done()
    return Geometry((height, width), roi_xywh, Interpolation(interpolation))


def _frame_size(fields: _Fields) -> tuple[int, int] | None:
    size = fields.take("frame_size_hw")
    if size is None:
        return None
    taken = _Fields({"frame_size_hw": size}, "manifest").numbers("frame_size_hw", 2)
    height, width = _whole_numbers(taken, "manifest.frame_size_hw")
    if height < 1 or width < 1:
        raise PackageError(
            f"manifest.json: frame_size_hw is {height} x {width}; 1 or more is wanted"
        )
    return height, width


def _whole_numbers(values: tuple[float, ...], where: str) -> tuple[int, ...]:
    if any(value != int(value) for value in values):
        raise PackageError(f"manifest.json: {where} is not of whole numbers")
    return tuple(int(value) for value in values)


def _precision(name: str, fields: _Fields) -> PrecisionEntry:
    if name not in PRECISIONS:
        raise PackageError(
            f"manifest.json: precision {name!r} is not one of {', '.join(PRECISIONS)}"
        )
    thresholds = _Fields(fields.take("thresholds"), f"precisions.{name}.thresholds")
    risk = _Fields(fields.take("risk"), f"precisions.{name}.risk")
    tolerance = _Fields(fields.take("tolerance"), f"precisions.{name}.tolerance")
    entry = PrecisionEntry(
        model=fields.text("model"),
        certificate=fields.text("certificate"),
        thresholds=Thresholds(
            image=thresholds.number("image"),
            pixel=thresholds.number("pixel"),
            min_area_px=thresholds.number_or_none("min_area_px"),
        ),
        risk=Risk(
            max_false_reject=risk.number("max_false_reject"),
            normals=risk.whole("normals"),
            supported=risk.truth("supported"),
            confidence=risk.number("confidence") if "confidence" in risk.names() else None,
        ),
        graph=fields.text("graph"),
        tolerance=Tolerance(
            score=tolerance.number("score"), mask_share=tolerance.number("mask_share")
        ),
    )
    for each in (fields, thresholds, risk, tolerance):
        each.done()
    if entry.model != f"models/{name}.onnx" or entry.certificate != f"certificates/{name}.json":
        raise PackageError(
            f"manifest.json: precision {name} names {entry.model} and {entry.certificate}; "
            f"models/{name}.onnx and certificates/{name}.json are its names"
        )
    return entry


def _statistics(fields: _Fields) -> InputStatistics:
    means = fields.items("channel_means")
    if len(means) != 3:
        raise PackageError("manifest.json: input_statistics.channel_means is not of 3 channels")
    ranges = [
        Range(*_Fields({"channel": mean}, "input_statistics").numbers("channel", 2))
        for mean in means
    ]
    statistics = InputStatistics(
        channel_means=(ranges[0], ranges[1], ranges[2]),
        contrast=Range(*fields.numbers("contrast", 2)),
        sharpness=Range(*fields.numbers("sharpness", 2)),
        relative_sharpness=Range(*fields.numbers("relative_sharpness", 2)),
        clipped=Range(*fields.numbers("clipped", 2)),
    )
    fields.done()
    return statistics


def _golden(fields: _Fields) -> GoldenPicture:
    expected = {}
    for precision, scores in fields.entries("expected").items():
        taken = _Fields(scores, f"golden.{precision}")
        expected[precision] = ExpectedScores(
            classification_logit=taken.number("classification_logit"),
            map_max_logit=taken.number("map_max_logit"),
            mask=taken.text("mask"),
        )
        taken.done()
    golden = GoldenPicture(picture=fields.text("picture"), expected=expected)
    fields.done()
    return golden


def _digest(name: str, fields: _Fields) -> EntryDigest:
    if not _ENTRY_NAME.fullmatch(name) or name in (MANIFEST_NAME, SIGNATURE_NAME):
        raise PackageError(f"manifest.json: {name!r} is not a name that an entry may have")
    digest = EntryDigest(size_bytes=fields.whole("bytes"), sha256=fields.text("sha256"))
    fields.done()
    if not _SHA256.fullmatch(digest.sha256):
        raise PackageError(f"manifest.json: the SHA-256 of {name} is not one")
    return digest


def _check_references(manifest: Manifest) -> None:
    if not manifest.precisions:
        raise PackageError("manifest.json: the package holds no model")
    named = [
        name for entry in manifest.precisions.values() for name in (entry.model, entry.certificate)
    ]
    for golden in manifest.golden:
        named.append(golden.picture)
        named.extend(scores.mask for scores in golden.expected.values())
        if set(golden.expected) != set(manifest.precisions):
            raise PackageError(
                f"manifest.json: {golden.picture} does not expect something of each precision"
            )
    for name in named:
        if name not in manifest.entries:
            raise PackageError(f"manifest.json names {name}, which is not among its entries")
    for name in manifest.entries:
        if name.startswith("models/") and name not in named:
            raise PackageError(f"manifest.json: {name} is a model that was not certified")
