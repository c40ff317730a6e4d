"""Device settings as canonical JSON: written in one byte form, read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.region import Polygon, Region
from ssn_edge_runtime.settings import (
    SETTINGS_SCHEMA,
    SIGNATURE_ALGORITHM,
    DeviceSettings,
    Fitted,
    LineSettings,
    Recipe,
    Signature,
)
from ssn_edge_runtime.strict_json import Fields, canonical_json
from ssn_edge_runtime.zones import Zone


def hashed_bytes(settings: DeviceSettings) -> bytes:
    """The hashed part: all but the signature."""
    return canonical_json(_settings_to_dict(settings))


def settings_to_json(settings: DeviceSettings) -> bytes:
    """The file: canonical JSON and a line end."""
    signature = settings.signature
    document = {
        "schema": SETTINGS_SCHEMA,
        "settings": _settings_to_dict(settings),
        "settings_id": settings.settings_id,
        "signature": None
        if signature is None
        else {
            "algorithm": SIGNATURE_ALGORITHM,
            "key_id": signature.key_id,
            "value": signature.value,
        },
    }
    return canonical_json(document) + b"\n"


def settings_from_json(data: bytes) -> DeviceSettings:
    """Read settings, strictly.

    Raises:
        ConfigError: Not JSON, of an unknown schema, a field that is missing, unknown or impossible,
            or a hash that is not theirs: they were changed by hand.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "is not JSON; bring back an older version: ssn-edge settings rollback"
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SETTINGS_SCHEMA or isinstance(schema, bool):
        raise ConfigError(
            f"has schema {schema!r}, this ssn-edge reads {SETTINGS_SCHEMA}; update ssn-edge, or "
            "make settings again: ssn-edge settings set"
        )
    file = _Fields(document, "the file")
    file.whole("schema")
    settings = _settings(_Fields(file.take("settings"), "settings"))
    stated = file.text("settings_id")
    settings = _signed(settings, file)
    file.done()
    if stated != settings.settings_id or canonical_json(document) + b"\n" != data:
        raise ConfigError(
            "was changed by hand (its hash is not its own); change it with ssn-edge settings set, "
            "or bring back an older version: ssn-edge settings rollback"
        )
    return settings


def short_id(data: bytes) -> str:
    """A short name for content: the beginning of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


class _Fields(Fields):
    """A JSON object of the settings."""

    def __init__(self, document: object, where: str) -> None:
        super().__init__(document, where, refusal=ConfigError)


def _settings_to_dict(settings: DeviceSettings) -> dict[str, object]:
    line = settings.line
    return {
        "version": settings.version,
        "previous_id": settings.previous_id,
        "written_at": settings.written_at,
        "note": settings.note,
        "package_id": settings.package_id,
        "precisions": _all_fitted_to_dict(settings.precisions),
        "region": _region_to_dict(settings.region),
        "recipes": {
            name: {
                "precisions": _all_fitted_to_dict(recipe.precisions),
                "region": _region_to_dict(recipe.region),
            }
            for name, recipe in settings.recipes.items()
        },
        "line": {
            "deadline_ms": _float(line.deadline_ms),
            "alarm_after": line.alarm_after,
            "halt_after": line.halt_after,
            "alarm_reject_rate": _float(line.alarm_reject_rate),
            "halt_reject_rate": _float(line.halt_reject_rate),
            "reject_window_s": float(line.reject_window_s),
            "reject_min_parts": line.reject_min_parts,
            "max_temperature_c": _float(line.max_temperature_c),
            "shifts": list(line.shifts),
            "time_zone": line.time_zone,
        },
    }


def _all_fitted_to_dict(precisions: Mapping[str, Fitted]) -> dict[str, object]:
    return {
        name: {
            "image": float(fitted.thresholds.image),
            "pixel": float(fitted.thresholds.pixel),
            "min_area_px": _float(fitted.thresholds.min_area_px),
            "review": None
            if fitted.review is None
            else [float(fitted.review.low), float(fitted.review.high)],
            "risk": None
            if fitted.risk is None
            else {
                "max_false_reject": float(fitted.risk.max_false_reject),
                "normals": fitted.risk.normals,
                "supported": fitted.risk.supported,
                # Absent where there is none: settings from before it was known keep their hash.
                **_confidence(fitted.risk.confidence),
            },
            "engine": fitted.engine,
            "engine_sha256": fitted.engine_sha256,
            **_zones_to_dict(fitted.zones),
        }
        for name, fitted in precisions.items()
    }


def _confidence(confidence: float | None) -> dict[str, object]:
    return {} if confidence is None else {"confidence": float(confidence)}


def _zones_to_dict(zones: Mapping[str, Zone]) -> dict[str, object]:
    if not zones:
        return {}  # absent, for the same reason
    return {
        "zones": {
            name: {
                "region": _region_to_dict(zone.region),
                "image": _float(zone.image),
                "pixel": _float(zone.pixel),
                "min_area_px": _float(zone.min_area_px),
            }
            for name, zone in zones.items()
        }
    }


def _float(number: float | None) -> float | None:
    """2 and 2.0 have one spelling, else they had two hashes."""
    return None if number is None else float(number)


def _region_to_dict(region: Region | None) -> dict[str, object] | None:
    if region is None:
        return None
    return {
        "frame_size_hw": list(region.frame_size_hw),
        "include": [[list(corner) for corner in polygon] for polygon in region.include],
        "exclude": [[list(corner) for corner in polygon] for polygon in region.exclude],
        "mask_file": region.mask_file,
        "mask_sha256": region.mask_sha256,
    }


def _settings(fields: _Fields) -> DeviceSettings:
    settings = DeviceSettings(
        version=fields.whole("version"),
        previous_id=fields.text_or_none("previous_id"),
        written_at=fields.text("written_at"),
        note=fields.text("note"),
        package_id=fields.text("package_id"),
        precisions=_all_fitted(fields, "settings"),
        region=_region(fields, "settings"),
        recipes={
            name: _recipe(_Fields(each, f"recipes.{name}"), f"recipes.{name}")
            for name, each in fields.entries("recipes").items()
        },
        line=_line(_Fields(fields.take("line"), "line")),
    )
    fields.done()
    return settings


def _signed(settings: DeviceSettings, file: _Fields) -> DeviceSettings:
    if file.is_null("signature"):
        return settings
    fields = _Fields(file.take("signature"), "signature")
    fields.choice("algorithm", (SIGNATURE_ALGORITHM,))
    signature = Signature(key_id=fields.text("key_id"), value=fields.text("value"))
    fields.done()
    return replace(settings, signature=signature)


def _recipe(fields: _Fields, where: str) -> Recipe:
    recipe = Recipe(precisions=_all_fitted(fields, where), region=_region(fields, where))
    fields.done()
    return recipe


def _all_fitted(parent: _Fields, where: str) -> dict[str, Fitted]:
    return {
        name: _fitted(_Fields(each, f"{where}.precisions.{name}"))
        for name, each in parent.entries("precisions").items()
    }


def _fitted(fields: _Fields) -> Fitted:
    fitted = Fitted(
        thresholds=Thresholds(
            image=fields.number("image"),
            pixel=fields.number("pixel"),
            min_area_px=fields.number_or_none("min_area_px"),
        ),
        review=None if fields.is_null("review") else ReviewZone(*fields.numbers("review", 2)),
        risk=None if fields.is_null("risk") else _risk(_Fields(fields.take("risk"), "risk")),
        engine=fields.text("engine"),
        engine_sha256=fields.text("engine_sha256"),
        zones={
            name: _zone(_Fields(each, f"zones.{name}"), f"zones.{name}")
            for name, each in (fields.entries("zones") if "zones" in fields.names() else {}).items()
        },
    )
    fields.done()
    return fitted


def _zone(fields: _Fields, where: str) -> Zone:
    region = _region(fields, where)
    if region is None:
        raise fields.wrong("region", "a region")
    zone = Zone(
        region,
        image=fields.number_or_none("image"),
        pixel=fields.number_or_none("pixel"),
        min_area_px=fields.number_or_none("min_area_px"),
    )
    fields.done()
    return zone


def _risk(fields: _Fields) -> Risk:
    risk = Risk(
        max_false_reject=fields.number("max_false_reject"),
        normals=fields.whole("normals"),
        supported=fields.truth("supported"),
        confidence=fields.number("confidence") if "confidence" in fields.names() else None,
    )
    fields.done()
    return risk


def _region(parent: _Fields, where: str) -> Region | None:
    if parent.is_null("region"):
        return None
    fields = _Fields(parent.take("region"), f"{where}.region")
    height, width = _whole_numbers(fields.numbers("frame_size_hw", 2))
    region = Region(
        frame_size_hw=(height, width),
        include=tuple(polygon_from_list(each) for each in fields.items("include")),
        exclude=tuple(polygon_from_list(each) for each in fields.items("exclude")),
        mask_file=fields.text_or_none("mask_file"),
        mask_sha256=fields.text_or_none("mask_sha256"),
    )
    fields.done()
    return region


def polygon_from_list(corners: object) -> Polygon:
    """Corners as lists of x and y.

    Raises:
        ConfigError: They are none.
    """
    if not isinstance(corners, list):
        raise ConfigError("a polygon is a list of corners [x, y]")
    points = []
    for corner in corners:
        x, y = _whole_numbers(_Fields({"corner": corner}, "a polygon").numbers("corner", 2))
        points.append((x, y))
    return tuple(points)


def _whole_numbers(values: tuple[float, ...]) -> tuple[int, ...]:
    if any(value != int(value) for value in values):
        raise ConfigError("sizes and corners are whole numbers of camera pixels")
    return tuple(int(value) for value in values)


def _line(fields: _Fields) -> LineSettings:
    shifts = fields.items("shifts")
    if not all(isinstance(each, str) for each in shifts):
        raise fields.wrong("shifts", "a list of times such as 06:00")
    line = LineSettings(
        deadline_ms=fields.number_or_none("deadline_ms"),
        alarm_after=fields.whole_or_none("alarm_after"),
        halt_after=fields.whole_or_none("halt_after"),
        alarm_reject_rate=fields.number_or_none("alarm_reject_rate"),
        halt_reject_rate=fields.number_or_none("halt_reject_rate"),
        reject_window_s=fields.number("reject_window_s"),
        reject_min_parts=fields.whole("reject_min_parts"),
        max_temperature_c=fields.number_or_none("max_temperature_c"),
        shifts=tuple(shifts),
        time_zone=fields.text("time_zone"),
    )
    fields.done()
    return line
