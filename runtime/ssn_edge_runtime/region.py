"""What is judged of a frame: polygons or a mask file in camera pixels, and the network's mask."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.errors import ConfigError, PictureError
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.preprocess import FrameError, Geometry

Polygon = tuple[tuple[int, int], ...]
"""Corners as x, y in camera pixels; its border belongs to it."""

MOST_CORNERS = 10_000
LARGEST_SIDE = 2**15 - 1
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a frame that is judged.

    Args:
        frame_size_hw: Height and width of the frames that it was drawn on; others are refused.
        include: Polygons that are judged; without any, all of the frame is.
        exclude: Polygons that are not.
        mask_file: A grey PNG of the frame's size beside the settings, in place of polygons; 0 is
            not judged.
        mask_sha256: Of that file.
    """

    frame_size_hw: tuple[int, int]
    include: tuple[Polygon, ...] = ()
    exclude: tuple[Polygon, ...] = ()
    mask_file: str | None = None
    mask_sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse a shape that is none."""
        height, width = self.frame_size_hw
        if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
            raise ConfigError(f"the region was drawn on a frame of {width} x {height} pixels")
        polygons = (*self.include, *self.exclude)
        if (self.mask_file is None) != (self.mask_sha256 is None):
            raise ConfigError("the region's mask file and its SHA-256 belong together")
        if (self.mask_file is None) == (not polygons):
            raise ConfigError("a region is either polygons or a mask file")
        if self.mask_file is not None and not _FILE_NAME.fullmatch(self.mask_file):
            raise ConfigError(f"{self.mask_file!r} is not a file beside the settings")
        if self.mask_sha256 is not None and not _SHA256.fullmatch(self.mask_sha256):
            raise ConfigError("the SHA-256 of the region's mask file is not one")
        if sum(map(len, polygons)) > MOST_CORNERS:
            raise ConfigError(f"the region has more than {MOST_CORNERS} corners")
        for polygon in polygons:
            if any(type(value) is not int for corner in polygon for value in corner):
                raise ConfigError("a region's corners are whole numbers of camera pixels")
            inside = all(0 <= x < width and 0 <= y < height for x, y in polygon)
            if len(polygon) < 3 or not inside:
                raise ConfigError(
                    f"a polygon of the region has fewer than 3 corners, or one outside of its "
                    f"frame of {width} x {height} pixels"
                )

    def camera_mask(self, folder: Path | None) -> BoolMask:
        """What is judged, (H, W) bool in camera pixels.

        Args:
            folder: Where the settings are, and the mask file beside them.

        Raises:
            ConfigError: The mask file is missing, changed, or no mask of this frame.
        """
        if self.mask_file is not None:
            return self._mask_from_file(folder)
        mask = np.full(self.frame_size_hw, 0 if self.include else 1, dtype=np.uint8)
        for polygons, value in ((self.include, 1), (self.exclude, 0)):
            for polygon in polygons:
                cv2.fillPoly(mask, [np.array(polygon, dtype=np.int32)], value)
        return np.asarray(mask != 0)

    def network_mask(self, geometry: Geometry, folder: Path | None = None) -> BoolMask:
        """What is judged, (h, w) bool at the network's size: the graph's `region_mask`.

        A network pixel is judged if any camera pixel that it covers is: rather too much than too
        little.

        Raises:
            ConfigError: Nothing is left to judge, or the mask file cannot be used.
        """
        covered = network_mask(self.camera_mask(folder), geometry)
        if not covered.any():
            raise ConfigError(
                "the region judges nothing of the package's region of interest, so every part "
                "would pass; draw it again"
            )
        return covered

    def _mask_from_file(self, folder: Path | None) -> BoolMask:
        if folder is None or self.mask_file is None:
            raise ConfigError(
                "the region is a mask file beside the settings; open them by their path"
            )
        path = folder / self.mask_file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: the region's mask cannot be read ({error.strerror})") from (
                error
            )
        if hashlib.sha256(data).hexdigest() != self.mask_sha256:
            raise ConfigError(
                f"{path}: is not the mask that the settings were made with; set it again: "
                f"ssn-edge settings set --region {path}"
            )
        return mask_from_png(data, str(path), self.frame_size_hw)


def network_mask(mask: BoolMask, geometry: Geometry) -> BoolMask:
    """A mask in camera pixels, (H, W) bool, at the network's size, (h, w) bool.

    A network pixel is in it if any camera pixel that it covers is.

    Raises:
        ConfigError: The frame does not hold the package's region of interest.
    """
    try:
        x, y, width, height = geometry.region_xywh((mask.shape[0], mask.shape[1]))
    except FrameError as error:
        raise ConfigError(f"the region does not fit the package: {error}") from error
    covered = _covering(
        _covering(mask[y : y + height, x : x + width], geometry.input_size_hw[0]).T,
        geometry.input_size_hw[1],
    ).T
    return np.ascontiguousarray(covered)


def mask_from_png(data: bytes, name: str, frame_size_hw: tuple[int, int] | None = None) -> BoolMask:
    """A region's mask file, (H, W) bool.

    Raises:
        ConfigError: Not a grey picture, or of another size.
    """
    try:
        picture = decode_picture(data, name)
    except PictureError as error:
        raise ConfigError(str(error)) from error
    if picture.ndim != 2 or (frame_size_hw is not None and picture.shape != frame_size_hw):
        wanted = "" if frame_size_hw is None else f" of {frame_size_hw[1]} x {frame_size_hw[0]}"
        raise ConfigError(f"{name}: a region's mask is a grey picture{wanted}, 0 is not judged")
    return np.asarray(picture != 0)


def _covering(mask: BoolMask, count: int) -> BoolMask:
    """Bring the first axis to `count` rows, each True where any row that it covers is."""
    size = mask.shape[0]
    edges = np.arange(count + 1)
    first = edges[:-1] * size // count
    beyond = np.maximum(-(-edges[1:] * size // count), first + 1)  # rounded up
    # One row more, so that every end is a place; what lies between two windows is left out.
    padded = np.concatenate([mask, np.zeros((1, mask.shape[1]), np.bool_)])
    places = np.stack([first, beyond], axis=1).ravel()
    return np.asarray(np.logical_or.reduceat(padded, places, axis=0)[::2])
