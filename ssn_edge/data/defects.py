"""Defects for the sample surfaces, each with the mask of where it changes the surface."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import cv2
import numpy as np

from ssn_edge.data.surfaces import Scene, noise_field
from ssn_edge_runtime.arrays import BoolMask, FloatArray


class DefectKind(Enum):
    """A kind of defect that samples can carry."""

    SCRATCH = "scratch"
    PIT = "pit"
    STAIN = "stain"


def add_defect(scene: Scene, kind: DefectKind, rng: np.random.Generator) -> tuple[Scene, BoolMask]:
    """Damage a sound surface.

    Args:
        scene: Not changed.
        kind: What to add; one scratch, one or two pits, one stain.
        rng: Source of all variation.

    Returns:
        The damaged scene and its mask, (H, W) bool, True where the surface visibly changed.
    """
    draw: dict[DefectKind, Callable[[Scene, np.random.Generator], tuple[FloatArray, BoolMask]]]
    draw = {DefectKind.SCRATCH: _scratch, DefectKind.PIT: _pits, DefectKind.STAIN: _stain}
    reflectance, mask = draw[kind](scene, rng)
    return replace(scene, reflectance=reflectance), mask


def _scratch(scene: Scene, rng: np.random.Generator) -> tuple[FloatArray, BoolMask]:
    """A long, thin, slightly curved groove: a dark valley beside a lip that catches the light."""
    height, width = scene.light.shape
    short_side = min(height, width)
    length = rng.uniform(0.38, 0.7) * short_side
    # Along the grain a scratch would be one more streak.
    heading = scene.grain_rad + rng.choice([-1, 1]) * rng.uniform(0.35, math.pi / 2)
    turn = rng.uniform(-0.7, 0.7)
    steps = 40
    headings = heading + turn * np.linspace(-0.5, 0.5, steps)
    points = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps), axis=0)
    points += _place(scene, rng, length * 0.32) - points.mean(axis=0)
    side = np.array([-math.sin(heading), math.cos(heading)])
    valley = _line(scene, points, rng.uniform(1.0, 1.5))
    lip_points = points + side * 1.7 * rng.choice([-1, 1])
    lip = _line(scene, lip_points, 0.9)
    # The tool does not press evenly.
    pressure = np.clip(1 + 0.22 * noise_field((height, width), (14, 14), rng), 0.55, 1.3)
    depth = rng.uniform(30, 42)
    change = (0.85 * lip - valley) * pressure * depth
    mask = np.maximum(_line(scene, points, 2.6), _line(scene, lip_points, 1.6)) > 0.4
    return _shifted(scene.reflectance, change), np.asarray(mask)


def _line(scene: Scene, points: FloatArray, width_px: float) -> FloatArray:
    """An anti-aliased curve of about this width, (H, W) float32 in [0, 1]."""
    height, width = scene.light.shape
    scale = 3
    line = np.zeros((height * scale, width * scale), np.uint8)
    fixed = np.rint((points + 0.5) * scale * 16).astype(np.int32)
    cv2.polylines(line, [fixed], False, 255, max(1, round(width_px * scale)), cv2.LINE_AA, 4)
    small = cv2.resize(line, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small * np.float32(1 / 255), np.float32)


def _pits(scene: Scene, rng: np.random.Generator) -> tuple[FloatArray, BoolMask]:
    """One or two round craters: dark floor, the wall towards the lamp in shade, the other lit."""
    reflectance = scene.reflectance
    mask = np.zeros(scene.light.shape, np.bool_)
    height, width = scene.light.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ragged = noise_field((height, width), (4, 4), rng) * 0.07
    for _ in range(int(rng.integers(1, 3))):
        radius = rng.uniform(5.5, 9.0)
        center_x, center_y = _place(scene, rng, radius + 3)
        dx, dy = (x - center_x) / radius, (y - center_y) / (radius * rng.uniform(0.82, 1.0))
        distance = np.sqrt(dx * dx + dy * dy) + ragged
        inside = _within(distance, 0.92, 11)
        wall = np.exp(-(((distance - 0.85) / 0.26) ** 2))
        slant = (dx * scene.towards_light_xy[0] + dy * scene.towards_light_xy[1]) / np.maximum(
            distance, 0.2
        )
        depth = rng.uniform(40, 54)
        change = -depth * inside - 0.62 * depth * wall * slant
        reflectance = _shifted(reflectance, np.asarray(change, np.float32))
        mask |= distance < 1.12
    return reflectance, mask


def _stain(scene: Scene, rng: np.random.Generator) -> tuple[FloatArray, BoolMask]:
    """A dried splash: soft irregular outline, tinted inside, a little stronger at its rim."""
    height, width = scene.light.shape
    short_side = min(height, width)
    radius = rng.uniform(0.07, 0.13) * short_side + 6
    center_x, center_y = _place(scene, rng, radius)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, math.pi)
    dx, dy = x - center_x, y - center_y
    along = (dx * math.cos(angle) + dy * math.sin(angle)) / (radius * rng.uniform(1.0, 1.4))
    across = (dy * math.cos(angle) - dx * math.sin(angle)) / (radius * rng.uniform(0.75, 1.0))
    distance = np.sqrt(along**2 + across**2)
    distance += 0.17 * noise_field((height, width), (radius / 3, radius / 3), rng)
    distance += 0.03 * noise_field((height, width), (2.5, 2.5), rng)
    body = _within(distance, 1.0, 13)
    rim = np.exp(-(((distance - 0.9) / 0.13) ** 2))
    mottle = 1 + 0.12 * noise_field((height, width), (6, 6), rng)
    # Dark oil, seldom a pale residue.
    strength = rng.uniform(0.25, 0.36) if rng.random() < 0.75 else -rng.uniform(0.2, 0.27)
    film = np.asarray((body * mottle + 0.3 * rim) * strength, np.float32)
    mask = np.asarray(body > 0.35)
    if scene.reflectance.ndim == 3:
        tint = np.array([1.25, 1.0, 0.8], np.float32)  # blue goes first: a brown stain
        return np.asarray(scene.reflectance * (1 - film[:, :, None] * tint), np.float32), mask
    return np.asarray(scene.reflectance * (1 - film), np.float32), mask


def _place(scene: Scene, rng: np.random.Generator, margin: float) -> FloatArray:
    """A point (x, y) at least `margin` pixels from the border, or the middle of a small picture."""
    height, width = scene.light.shape
    inset_x, inset_y = min(margin, width / 2 - 1), min(margin, height / 2 - 1)
    return np.array(
        [rng.uniform(inset_x, width - inset_x), rng.uniform(inset_y, height - inset_y)], np.float32
    )


def _within(distance: FloatArray, edge: float, steepness: float) -> FloatArray:
    """1 inside `edge`, 0 outside, softly: the logistic curve without its overflow."""
    return np.asarray(0.5 - 0.5 * np.tanh((distance - edge) * (steepness / 2)), np.float32)


def _shifted(reflectance: FloatArray, change: FloatArray) -> FloatArray:
    """Reflectance plus a change that is the same in every channel."""
    change = np.asarray(change, np.float32)
    return reflectance + (change[:, :, None] if reflectance.ndim == 3 else change)
