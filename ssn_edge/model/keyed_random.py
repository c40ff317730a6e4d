"""Random numbers as a function of a key: the same on every device and in every process.

A generator gives numbers in the order in which they are asked for, so what a sample gets depends
on who else is in its batch. Here each number follows from its sample's key and its own place alone:
one process with a batch and two with its halves draw the same, all samples at once, and on the
device where they are wanted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014); the
# constants are two's complement, as torch knows no unsigned 64-bit arithmetic.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)

_CHUNK = 1 << 18
"""Numbers worked on at a time: their intermediate values fit a CPU's cache."""


def keys_from(*words: int | Tensor) -> Tensor:
    """Mix words to keys.

    Args:
        words: Integers, or int64 tensors that broadcast against each other.

    Returns:
        int64 keys in the broadcast shape, on the tensors' device.
    """
    key = torch.zeros((), dtype=torch.int64)
    for word in words:
        if isinstance(word, int):
            word = torch.tensor(_signed(word), dtype=torch.int64)
        key = _mix(_mix(word + _GOLDEN) + key * _GOLDEN)
    return key


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers from [0, 1), `count` for each key.

    Args:
        keys: (N,) int64.
        count: Numbers a key.

    Returns:
        (N, count) float32 on the keys' device.
    """
    # 24 bits fill a float32's mantissa: more would round up to 1.
    return _shifted(_words(keys, count), 40).float() * 2.0**-24


def normal(keys: Tensor, count: int) -> Tensor:
    """Standard normal numbers, `count` for each key, by Box and Muller's transform.

    Args:
        keys: (N,) int64.
        count: Numbers a key.

    Returns:
        (N, count) float32 on the keys' device.
    """
    pairs = -(-count // 2)
    numbers = torch.empty((len(keys), 2 * pairs), device=keys.device)
    rows = max(1, _CHUNK // max(1, pairs)) if keys.device.type == "cpu" else max(1, len(keys))
    for start in range(0, len(keys), rows):
        words = _words(keys[start : start + rows], pairs)
        # Half a step above 0, as the logarithm needs; 32 bits reach 6.7 deviations.
        first = (_shifted(words, 32).float() + 0.5) * 2.0**-32
        second = (words & 0xFFFFFFFF).float() * (2 * math.pi * 2.0**-32)
        radius = (-2 * first.log()).clamp_(min=0.0).sqrt_()
        part = numbers[start : start + rows]
        torch.mul(radius, second.cos(), out=part[:, :pairs])
        torch.mul(radius, second.sin_(), out=part[:, pairs:])
    return numbers[:, :count]


def _words(keys: Tensor, count: int) -> Tensor:
    """(N, count) int64, each of 64 random bits."""
    places = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    return _mix(keys[:, None] + places)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's shift fills with the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word
