"""Ground-truth masks to what the segmentation loss compares with, at feature resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.preprocess import Geometry, Interpolation, preprocess_mask

DILATION = 7
WEIGHT_AT_CENTRE = 3.0
WEIGHT_POWER = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Pixel truth of one picture at feature resolution.

    Args:
        mask: (h, w) bool.
        weight: (h, w) float32; 1 where nothing else is known.
        known: Whether the picture's pixel truth takes part in the segmentation loss.
    """

    mask: BoolMask
    weight: FloatArray
    known: bool


def dilate_mask(mask: BoolMask) -> BoolMask:
    """Grow a mask by a 7 x 7 square; (H, W) bool at camera resolution."""
    square = np.ones((DILATION, DILATION), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), square) != 0)


def distance_weights(mask: BoolMask) -> FloatArray:
    """Weight each defect pixel by how deep it lies in its region: near 0 at the rim, 3 inside.

    The distance is to the nearest pixel outside the region, divided by the region's largest. The
    nearest pixel outside an 8-connected region is always background, since a neighbour that
    is set belongs to the region: one distance transform serves all regions.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) float32; 3 d^2 on the mask, 1 elsewhere.

    Source:
        supersimplenet.md section 3.3, written from the formula.
    """
    weight = np.ones(mask.shape, dtype=np.float32)
    if not mask.any():
        return weight
    binary = mask.astype(np.uint8)
    if mask.all():
        # No pixel lies outside; what is beyond the picture then counts as outside.
        distance = cv2.distanceTransform(np.pad(binary, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance = distance[1:-1, 1:-1]
    else:
        distance = cv2.distanceTransform(binary, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    count, regions = cv2.connectedComponents(binary, connectivity=8)
    deepest = np.zeros(count, dtype=np.float32)
    np.maximum.at(deepest, regions[mask], distance[mask])
    relative = distance[mask] / deepest[regions[mask]]
    weight[mask] = WEIGHT_AT_CENTRE * relative**WEIGHT_POWER
    return weight


def target_from_mask(
    mask: BoolMask,
    *,
    geometry: Geometry,
    grid_hw: tuple[int, int],
    align_corners: bool,
    weighted: bool,
) -> Target:
    """Bring a defect mask to feature resolution.

    Args:
        mask: (H, W) bool in camera pixels, not empty; dilated and flipped already.
        geometry: From camera to network pixels.
        grid_hw: Feature resolution.
        align_corners: Of the resize, as in the feature upscaling.
        weighted: Whether to weight by the distance to the rim.

    Returns:
        The target. If no pixel is left at feature resolution, nothing is known about its pixels.
    """
    at_input = preprocess_mask(mask, geometry).astype(np.float32)
    reduced = _resize(at_input, grid_hw, align_corners) >= 0.5
    weight = np.ones(grid_hw, dtype=np.float32)
    if weighted:
        weight = _resize(_nearest(distance_weights(mask), geometry), grid_hw, align_corners)
    return Target(mask=reduced, weight=weight, known=bool(reduced.any()))


def blank_target(grid_hw: tuple[int, int], *, known: bool) -> Target:
    """No defect pixel: of a normal picture (known), or of one without a mask (not known)."""
    return Target(np.zeros(grid_hw, dtype=np.bool_), np.ones(grid_hw, dtype=np.float32), known)


def _nearest(weight: FloatArray, geometry: Geometry) -> FloatArray:
    x, y, width, height = geometry.region_xywh((weight.shape[0], weight.shape[1]))
    region = np.ascontiguousarray(weight[y : y + height, x : x + width])
    target_height, target_width = geometry.input_size_hw
    return np.asarray(
        cv2.resize(region, (target_width, target_height), interpolation=cv2.INTER_NEAREST),
        dtype=np.float32,
    )


def _resize(values: FloatArray, grid_hw: tuple[int, int], align_corners: bool) -> FloatArray:
    tensor = torch.from_numpy(values)[None, None]
    resized = F.interpolate(tensor, grid_hw, mode="bilinear", align_corners=align_corners)
    return np.asarray(resized[0, 0].numpy(), dtype=np.float32)


def whole_region(geometry: Geometry) -> Geometry:
    """The same resize for a picture that was cropped already (before it is flipped)."""
    return Geometry(geometry.input_size_hw, None, Interpolation(geometry.interpolation))
