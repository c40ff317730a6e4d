"""Sample surfaces for the demo: brushed metal, a cast part and woven cloth, without defects.

Drawn as a camera would see them: texture, uneven light and lens fall-off, and the bright glints,
specks, fibres and knots that a sound surface has. Lengths are in pixels whatever the picture's
size: a larger picture shows more of the surface, not a larger one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage, FloatArray


class Surface(Enum):
    """A kind of surface that samples can be made of."""

    BRUSHED = "brushed"
    CAST = "cast"
    WOVEN = "woven"


@dataclass(frozen=True, slots=True)
class Scene:
    """A surface under its light, before the camera.

    Args:
        reflectance: (H, W) or (H, W, 3) float32, grey levels under even light.
        light: (H, W) float32, about 1; illumination and lens fall-off together.
        towards_light_xy: Unit vector in the picture plane, from the surface to the lamp.
        grain_rad: Direction of the texture, from the x axis.
    """

    reflectance: FloatArray
    light: FloatArray
    towards_light_xy: tuple[float, float]
    grain_rad: float


def draw_surface(surface: Surface, size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw one sound part of this surface; no two are alike.

    Args:
        surface: What it is made of.
        size_hw: Height and width in pixels.
        rng: Source of all variation.
    """
    return {Surface.BRUSHED: _brushed, Surface.CAST: _cast, Surface.WOVEN: _woven}[surface](
        size_hw, rng
    )


def expose(scene: Scene, rng: np.random.Generator) -> ByteImage:
    """Take the picture: light, exposure, a little lens blur and sensor noise, 8 bit.

    Returns:
        (H, W) grey or (H, W, 3) BGR uint8.
    """
    colour = scene.reflectance.ndim == 3
    light = scene.light[:, :, None] if colour else scene.light
    exposed = scene.reflectance * light * rng.uniform(0.93, 1.07)
    exposed = cv2.GaussianBlur(exposed, (0, 0), 0.55)
    shot = np.sqrt(np.clip(exposed, 0, 255)) * 0.16
    exposed = exposed + shot * rng.standard_normal(exposed.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(exposed), 0, 255), np.uint8)


def noise_field(
    size_hw: tuple[int, int], sigma_xy: tuple[float, float], rng: np.random.Generator
) -> FloatArray:
    """Smooth noise of mean 0 and deviation 1; (H, W) float32, blurred by sigma in x and y.

    Wide blurs are drawn on a coarser grid: a fraction of the time, and no difference to see.
    """
    height, width = size_hw
    step_x, step_y = (max(1, int(sigma / 2)) for sigma in sigma_xy)
    coarse_hw = (height // step_y + 3, width // step_x + 3)
    noise = rng.standard_normal(coarse_hw, dtype=np.float32)
    noise = cv2.GaussianBlur(
        noise, (0, 0), max(sigma_xy[0] / step_x, 0.01), sigmaY=max(sigma_xy[1] / step_y, 0.01)
    )
    scale_and_shift = np.array(
        [[step_x, 0, -step_x * rng.uniform(0, 1)], [0, step_y, -step_y * rng.uniform(0, 1)]]
    )
    field = cv2.warpAffine(
        noise,
        scale_and_shift,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    deviation = float(field.std()) or 1.0
    return np.asarray((field - field.mean()) / deviation, dtype=np.float32)


def stamp_lines(
    size_hw: tuple[int, int],
    count: int,
    rng: np.random.Generator,
    *,
    length: tuple[float, float],
    strength: tuple[float, float],
    angle: tuple[float, float],
    bend: float = 0.0,
) -> FloatArray:
    """Short strokes scattered at random, (H, W) float32, each of its own strength.

    Args:
        size_hw: Height and width in pixels.
        count: How many strokes.
        rng: Source of all variation.
        length: Least and greatest length in pixels.
        strength: Least and greatest strength.
        angle: Least and greatest direction in radians.
        bend: Greatest turn along one stroke, in radians.
    """
    height, width = size_hw
    strokes = np.zeros(size_hw, dtype=np.float32)
    for _ in range(count):
        direction = rng.uniform(*angle)
        turn = rng.uniform(-bend, bend)
        along = np.linspace(0, rng.uniform(*length), 8)
        headings = direction + turn * np.linspace(-0.5, 0.5, 8)
        step = np.diff(along, prepend=0.0)
        points = np.stack(
            [np.cumsum(np.cos(headings) * step), np.cumsum(np.sin(headings) * step)], 1
        )
        points += [rng.uniform(0, width), rng.uniform(0, height)]
        line = np.zeros(size_hw, dtype=np.uint8)
        cv2.polylines(line, [np.rint(points * 16).astype(np.int32)], False, 255, 1, cv2.LINE_AA, 4)
        strokes = np.maximum(strokes, line * np.float32(rng.uniform(*strength) / 255))
    return strokes


def stamp_dots(
    size_hw: tuple[int, int],
    count: int,
    rng: np.random.Generator,
    *,
    radius: tuple[float, float],
    strength: tuple[float, float],
) -> FloatArray:
    """Round dots scattered at random, (H, W) float32; radius in pixels, each its own strength."""
    height, width = size_hw
    dots = np.zeros(size_hw, dtype=np.float32)
    for _ in range(count):
        center = (int(rng.uniform(0, width) * 16), int(rng.uniform(0, height) * 16))
        dot = np.zeros(size_hw, dtype=np.uint8)
        cv2.circle(dot, center, int(rng.uniform(*radius) * 16), 255, -1, cv2.LINE_AA, 4)
        dots = np.maximum(dots, dot * np.float32(rng.uniform(*strength) / 255))
    return dots


def _light(size_hw: tuple[int, int], towards_xy: tuple[float, float], depth: float) -> FloatArray:
    """A gradient brighter towards the lamp, times the lens's fall-off to the corners."""
    y, x = _unit_grid(size_hw)
    gradient = 1 + depth * (x * towards_xy[0] + y * towards_xy[1])
    return np.asarray(gradient * (1 - 0.09 * (x * x + y * y)), dtype=np.float32)


def _unit_grid(size_hw: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    height, width = size_hw
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return y, x


def _lamp(around_rad: float, rng: np.random.Generator) -> tuple[float, float]:
    angle = around_rad + rng.uniform(-0.3, 0.3)
    return math.cos(angle), math.sin(angle)


def _turned(field: FloatArray, size_hw: tuple[int, int], angle_rad: float) -> FloatArray:
    """The middle of a larger field, turned by a small angle."""
    height, width = size_hw
    big_height, big_width = field.shape
    turn = cv2.getRotationMatrix2D((big_width / 2, big_height / 2), -math.degrees(angle_rad), 1.0)
    turn[:, 2] += [(width - big_width) / 2, (height - big_height) / 2]
    return np.asarray(
        cv2.warpAffine(field, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32
    )


def _brushed(size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Grey metal with streaks along x and the highlight that stands across them."""
    angle = rng.uniform(-0.05, 0.05)
    margin = max(size_hw) // 16 + 4
    big_hw = (size_hw[0] + 2 * margin, size_hw[1] + 2 * margin)
    streaks = (
        6.5 * noise_field(big_hw, (22, 0.45), rng)
        + 5.0 * noise_field(big_hw, (60, 1.0), rng)
        + 3.5 * noise_field(big_hw, (90, 3.5), rng)
        + 2.0 * noise_field(big_hw, (3, 0.4), rng)
    )
    glints = stamp_lines(
        big_hw, 3 + rng.poisson(7), rng, length=(3, 15), strength=(25, 80), angle=(-0.04, 0.04)
    )
    specks = stamp_dots(big_hw, rng.poisson(5), rng, radius=(0.6, 1.3), strength=(22, 54))
    metal = _turned(146 + streaks + glints - specks, size_hw, angle)
    towards = _lamp(-math.pi / 2, rng)
    _, x = _unit_grid(size_hw)
    highlight = 0.16 * np.exp(-(((x - rng.uniform(-0.5, 0.5)) / rng.uniform(0.45, 0.6)) ** 2))
    light = _light(size_hw, towards, 0.08) * (0.95 + highlight.astype(np.float32))
    return Scene(metal, light, towards, angle)


def _cast(size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Grey cast skin: bumps of several sizes in slanting light, grain, and specks of scale."""
    towards = _lamp(-0.75 * math.pi, rng)
    height = (
        0.42 * noise_field(size_hw, (1.3, 1.3), rng)
        + 1.5 * noise_field(size_hw, (3.2, 3.2), rng)
        + 3.6 * noise_field(size_hw, (8, 8), rng)
        + 7.0 * noise_field(size_hw, (26, 26), rng)
    )
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    # A slope that falls away towards the lamp faces it.
    facing = -(slope_x * towards[0] + slope_y * towards[1])
    shaded = 122 + 17 * facing + 1.3 * noise_field(size_hw, (26, 26), rng)
    grain = 4.0 * noise_field(size_hw, (0.6, 0.6), rng)
    glints = stamp_dots(size_hw, 3 + rng.poisson(8), rng, radius=(0.5, 1.3), strength=(30, 84))
    specks = stamp_dots(size_hw, 2 + rng.poisson(7), rng, radius=(0.7, 1.7), strength=(20, 52))
    return Scene(
        np.asarray(shaded + grain + glints - specks, np.float32),
        _light(size_hw, towards, 0.14),
        towards,
        rng.uniform(0, math.pi),
    )


def _woven(size_hw: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Plain weave in colour: each yarn with its own place, thickness and shade."""
    height, width = size_hw
    towards = _lamp(-0.6 * math.pi, rng)
    angle = rng.uniform(-0.04, 0.04)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    period = 9.2
    u = (x * math.cos(angle) + y * math.sin(angle)) / period + rng.uniform(100, 101)
    v = (y * math.cos(angle) - x * math.sin(angle)) / period + rng.uniform(100, 101)
    u += 0.08 * noise_field(size_hw, (9, 40), rng)
    v += 0.08 * noise_field(size_hw, (40, 9), rng)
    warp_height, warp_shade = _yarns(u, v, rng)
    weft_height, weft_shade = _yarns(v, u + 1, rng)
    over = 1 / (1 + np.exp((weft_height - warp_height) * 14))  # 1 where the warp lies on top
    warp_bgr = np.array([164, 178, 184], np.float32) * rng.uniform(0.97, 1.03)
    weft_bgr = np.array([140, 159, 170], np.float32) * rng.uniform(0.97, 1.03)
    cloth = (over * warp_shade)[:, :, None] * warp_bgr
    cloth += ((1 - over) * weft_shade)[:, :, None] * weft_bgr
    fibres = stamp_lines(
        size_hw, rng.poisson(6), rng, length=(5, 14), strength=(15, 62), angle=(0, 7), bend=1.5
    )
    knots = stamp_dots(size_hw, 1 + rng.poisson(6), rng, radius=(1.0, 2.3), strength=(25, 80))
    knots = cv2.GaussianBlur(knots, (0, 0), 0.8)
    cloth += (knots - fibres)[:, :, None]
    return Scene(np.asarray(cloth, np.float32), _light(size_hw, towards, 0.1), towards, angle)


def _yarns(
    across: FloatArray, along: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Height and shade of parallel yarns that rise over every second crossing.

    Args:
        across: Place across the yarns in periods; its whole part numbers them.
        along: Place along them in periods of the crossing yarns.
        rng: Source of all variation.
    """
    number = np.floor(across).astype(np.int32)
    count = int(number.max()) + 1
    thickness = rng.normal(0.47, 0.022, count).astype(np.float32)[number]
    tone = rng.normal(1.0, 0.036, count).astype(np.float32)[number]
    from_middle = (across - number - 0.5) / thickness
    round_profile = np.sqrt(np.clip(1 - from_middle**2, 0, 1))
    rise = np.cos(np.pi * (along - 0.5 + number % 2))
    twist = np.sin(2 * np.pi * (along * 3.1 + from_middle * 0.8 + tone * 40))
    height = round_profile * 0.6 + 0.5 * rise
    shade = tone * (0.42 + 0.48 * round_profile + 0.14 * rise + 0.035 * twist)
    shade = np.where(np.abs(from_middle) > 1, np.float32(0.34), shade)
    return height.astype(np.float32), np.asarray(shade, np.float32)
