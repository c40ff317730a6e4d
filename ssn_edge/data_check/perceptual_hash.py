"""A fingerprint of what a picture looks like: copies of one shot lie a few bits apart.

The hash is the sign of each DCT coefficient in a band of frequencies. The lowest ones are left out
on purpose: parts in one fixture share pose, background and light, and a usual perceptual hash of
the lowest 8 x 8 or 16 x 16 frequencies takes one part for the other (on tyres in one pose its 63
bits put 95 of 1,128 pairs of different tyres within 5 bits).

Written here because each known implementation weighs more than these lines: `cv2.img_hash` is in
OpenCV's contrib build alone, and `imagehash` brings Pillow, SciPy and PyWavelets.

Measured share of bits that differ, with the band below (438 bits), on one x86-64 CPU:

==================================================  ======  ======  =======
copies of a magnetic tile, a commutator, a tyre     median  90 %    largest
==================================================  ======  ======  =======
JPEG at quality 50                                  0.034   0.048   0.057
half the size                                       0.011   0.027   0.073
brightness times 0.7                                0.009   0.017   0.030
gamma 0.7                                           0.058   0.074   0.089
noise of 5 grey levels                              0.030   0.050   0.071
brightness times 1.3, part of it then saturated     0.110   0.153   0.208
shifted by 2 pixels                                 0.082   0.114   0.199
cropped by 1 % at each side                         0.116   0.144   0.178
==================================================  ======  ======  =======

(40 pictures of each set; each figure is the worst of the three). Pairs of different parts:
commutators from 0.39 up (4,416 pairs), tyres in one pose from 0.112 up (1,128 pairs), magnetic
tiles with a median of 0.49. Shots of one magnetic tile under other exposures are no copies: 5 % of
those pairs lie within 0.10, 33 % within 0.20.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, ByteImage

SIDE = 128
"""Pictures are brought to this many pixels in both directions first."""
BAND = (6.0, 24.0)
"""Frequencies that count, in half periods along a side: radius in the plane of DCT coefficients."""
LEAST_DETAIL = 0.3
"""Deviation in grey levels that the band must hold: the signs of less are rounding errors."""
COMPARED_AT_ONCE = 1024

IndexPairs = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float32]

_u, _v = np.mgrid[0:SIDE, 0:SIDE]
_IN_BAND = (np.hypot(_u, _v) >= BAND[0]) & (np.hypot(_u, _v) < BAND[1])
BITS = int(_IN_BAND.sum())


@dataclass(frozen=True, slots=True, eq=False)
class ClosePairs:
    """Pairs of pictures that look alike.

    Args:
        index: (N, 2) positions of both pictures, the smaller one first.
        distance: (N,) share of bits that differ.
        is_complete: Whether the search went through; it stops where nearly all look alike.
    """

    index: IndexPairs
    distance: Distances
    is_complete: bool


def perceptual_hash(picture: ByteImage) -> BoolMask | None:
    """The hash of a picture.

    Args:
        picture: (H, W, 3) uint8 BGR or (H, W) uint8.

    Returns:
        (`BITS`,) bool, or None where the picture holds no detail to compare.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    band = cv2.dct(small)[_IN_BAND]  # (BITS,)
    # The transform keeps energies, so this is the deviation of the band-passed picture.
    if float(np.sqrt(np.square(band).sum())) / SIDE < LEAST_DETAIL:
        return None
    return np.asarray(band > 0)


def close_pairs(hashes: BoolMask, limit: float, *, most: int) -> ClosePairs:
    """Find all pairs within a distance, by matrix products of whole blocks.

    Args:
        hashes: (N, `BITS`) bool.
        limit: Largest share of bits that may differ.
        most: Pairs after which the search stops; the closest of those found so far are given.
    """
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    found: list[tuple[IndexPairs, Distances]] = []
    count = 0
    for first in range(0, len(signs), COMPARED_AT_ONCE):
        if count > most:
            break
        block = signs[first : first + COMPARED_AT_ONCE]
        distance = (1 - block @ signs[first:].T / BITS) / 2  # (block, N - first)
        near = np.triu(distance <= limit, k=1)  # the block's own row is its first column
        row, column = np.nonzero(near)
        found.append((np.stack([row, column], axis=1) + first, distance[row, column]))
        count += len(row)
    if not found:
        return ClosePairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), True)
    index = np.concatenate([each for each, _ in found])
    distances = np.concatenate([each for _, each in found])
    if count > most:
        kept = np.argsort(distances, kind="stable")[:most]
        return ClosePairs(index[kept], distances[kept], False)
    return ClosePairs(index, distances, True)


def typical_distance(hashes: BoolMask, *, sampled: int = 512) -> float:
    """Median distance between two pictures of a set, over an evenly spread sample.

    Args:
        hashes: (N, `BITS`) bool, at least two.
        sampled: Pictures that are compared with each other.
    """
    rows = np.linspace(0, len(hashes) - 1, min(sampled, len(hashes))).astype(int)
    signs = np.where(hashes[rows], np.float32(1), np.float32(-1))
    distance = (1 - signs @ signs.T / BITS) / 2
    return float(np.median(distance[np.triu_indices(len(rows), k=1)]))
