"""Which samples an epoch visits, in which order; a function of the seed and the epoch alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

IndexArray = npt.NDArray[np.int64]


class EveryNormalOnce:
    """The unsupervised epoch: all normal samples, shuffled.

    Args:
        normals: Cache rows of the normal samples.
        seed: Of the run.
    """

    def __init__(self, normals: IndexArray, seed: int) -> None:
        self._normals = normals
        self._seed = seed

    @property
    def epoch_length(self) -> int:
        """Samples in an epoch."""
        return len(self._normals)

    def epoch(self, number: int) -> IndexArray:
        """Cache rows of an epoch, in order."""
        return np.random.default_rng([self._seed, number]).permutation(self._normals)


class BalancedSampler:
    """The supervised epoch: all anomalous samples, and as many normals, seldom used ones first.

    Args:
        normals: Cache rows of the normal samples.
        anomalous: Cache rows of the anomalous samples, flipped versions included.
        seed: Of the run.

    Source:
        supersimplenet.md section 4.3.
    """

    def __init__(self, normals: IndexArray, anomalous: IndexArray, seed: int) -> None:
        self._normals = normals
        self._anomalous = anomalous
        self._seed = seed
        self._used = np.zeros(len(normals), dtype=np.int64)
        self._next_epoch = 0
        self._order: IndexArray = np.empty(0, dtype=np.int64)

    @property
    def epoch_length(self) -> int:
        """Samples in an epoch."""
        return 2 * len(self._anomalous)

    def epoch(self, number: int) -> IndexArray:
        """Cache rows of an epoch, in order. Earlier epochs are replayed where needed."""
        if number < self._next_epoch - 1:
            self._used[:] = 0
            self._next_epoch = 0
        while self._next_epoch <= number:
            self._draw(self._next_epoch)
            self._next_epoch += 1
        return self._order

    def _draw(self, number: int) -> None:
        rng = np.random.default_rng([self._seed, number])
        wanted, count = len(self._anomalous), len(self._normals)
        probability = None if number == 0 else self._probability()
        chosen = rng.choice(count, size=wanted, replace=wanted > count, p=probability)
        np.add.at(self._used, chosen, 1)
        self._order = rng.permutation(np.concatenate([self._anomalous, self._normals[chosen]]))

    def _probability(self) -> npt.NDArray[np.float64]:
        q = 1.0 - self._used / self._used.max()
        q = np.clip(q - np.median(q) + 1.0, 0.0, None)
        # The exponent grows with the set, so that in large sets unused normals come first.
        q = q ** (4.0 * math.log(max(2, len(q))))
        # `choice` without replacement needs as many non-zero entries as are drawn.
        q = np.maximum(q, 1e-12 * q.max())
        return np.asarray(q / q.sum())
