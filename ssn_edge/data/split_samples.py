"""The split files of KolektorSDD2 and SensumSODF: which pictures, and whose masks are usable."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ssn_edge.data.plain_pickle import read_plain_pickle
from ssn_edge_runtime.errors import ConfigError, DatasetError

Samples = dict[int, bool]
"""Number of each listed picture, and whether its mask may be used."""

KOLEKTOR_SPLIT_NAME = "split_weakly_{}.pyb"


def read_samples(file: Path) -> Samples:
    """Read a list of (number, has a mask) pairs.

    Raises:
        DatasetError: Unreadable, or something else.
    """
    return _samples(read_plain_pickle(file), file)


def read_kolektor_split(root: Path, mask_split: int) -> tuple[Samples, Samples]:
    """Read the training and the test part of KolektorSDD2 in the variant with so many masks.

    Raises:
        ConfigError: There is no such split file.
        DatasetError: It is not a pair of lists.
    """
    file = root / KOLEKTOR_SPLIT_NAME.format(mask_split)
    if not file.is_file():
        there = numbers_in(root.glob(KOLEKTOR_SPLIT_NAME.format("*")))
        wanted = (
            f"there are files for {listed(there)} masks"
            if there
            else f"leave the mask split out, or bring the file {file.name} of KolektorSDD2"
        )
        raise ConfigError(f"mask split {mask_split}: {root} has no {file.name}; {wanted}")
    content = read_plain_pickle(file)
    if not isinstance(content, list) or len(content) != 2:
        raise DatasetError(
            f"{file}: is not a pair of lists, those of the training and the test pictures; get it "
            "from the data set's own download"
        )
    train, test = (_samples(part, file) for part in content)
    if shared := sorted(train.keys() & test.keys()):
        raise DatasetError(
            f"{file}: has picture {shared[0]} in train and in test; the parts must not share "
            "pictures. Get it from the data set's own download"
        )
    return train, test


def numbers_in(files: Iterable[Path]) -> list[int]:
    """The numbers that names of files end with, in order."""
    found = (re.search(r"(\d+)$", file.stem) for file in files)
    return sorted(int(match[1]) for match in found if match)


def listed(numbers: Iterable[int]) -> str:
    """Numbers for a message."""
    return ", ".join(map(str, numbers))


def _samples(content: object, file: Path) -> Samples:
    if not isinstance(content, list):
        raise DatasetError(f"{file}: {_WANTED}")
    samples: Samples = {}
    for pair in content:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DatasetError(f"{file}: holds {str(pair)[:60]}; {_WANTED}")
        number, has_mask = _number(pair[0]), pair[1]
        if number is None or not isinstance(has_mask, (bool, int)) or has_mask not in (0, 1):
            raise DatasetError(f"{file}: holds {str(pair)[:60]}; {_WANTED}")
        if samples.setdefault(number, bool(has_mask)) != bool(has_mask):
            raise DatasetError(
                f"{file}: lists picture {number} with and without a mask; keep one of the two"
            )
    return samples


_WANTED = "wanted a list of pairs, each a picture's number and whether its mask may be used"


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
