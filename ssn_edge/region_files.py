"""Regions as people give them: a grey PNG, or JSON of polygons."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.region import Polygon, Region, mask_from_png
from ssn_edge_runtime.settings_json import polygon_from_list, short_id
from ssn_edge_runtime.strict_json import Fields


def region_from_file(path: Path, folder: Path, made: list[Path]) -> Region:
    """Read a region, and keep its mask beside the settings.

    Args:
        path: A grey PNG of the camera's size, or JSON with ``frame_size_hw``, ``include`` and
            ``exclude``.
        folder: Where the settings are.
        made: Takes the mask file, if one was written.

    Raises:
        ConfigError: It cannot be read, or is no region.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() != ".json":
        mask = mask_from_png(data, str(path))
        target = folder / f"region-{short_id(data)}.png"
        if not target.exists():
            write_whole(target, data, durable=True)
            made.append(target)
        height, width = mask.shape
        return Region(
            (height, width), mask_file=target.name, mask_sha256=hashlib.sha256(data).hexdigest()
        )
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON") from error
    fields = Fields(document, str(path), refusal=ConfigError)
    height, width = (int(side) for side in fields.numbers("frame_size_hw", 2))
    names = fields.names()
    include = _polygons(fields, "include") if "include" in names else ()
    exclude = _polygons(fields, "exclude") if "exclude" in names else ()
    fields.done()
    return Region((height, width), include=include, exclude=exclude)


def region_text(region: Region) -> str:
    """A region for a terminal."""
    height, width = region.frame_size_hw
    what = region.mask_file or f"{len(region.include)} polygons, {len(region.exclude)} holes"
    return f"{what} on {width} x {height} pixels"


def _polygons(fields: Fields, key: str) -> tuple[Polygon, ...]:
    return tuple(polygon_from_list(each) for each in fields.items(key))
