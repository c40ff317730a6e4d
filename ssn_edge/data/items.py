"""What a data set is once it was read: one record a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssn_edge.data.masks import MaskRule

GivenSplit = Literal["train", "test"]
"""The part that the data set itself puts a picture in."""

GOOD_NAMES = frozenset({"good", "ok", "normal"})
"""Class names that mean a sound part, in lower case."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a data set.

    Args:
        image: The picture file.
        label: 0 normal, 1 anomalous.
        mask: Its ground-truth mask file, or None where there is none.
        group: Pictures of one group (one part, one item) stay together; None is a group of its own.
        defect_class: Name of the defect, or None for a normal picture or an unnamed defect.
        split: The part that the data set itself puts the picture in, or None.
    """

    image: Path
    label: int
    mask: Path | None = None
    group: str | None = None
    defect_class: str | None = None
    split: GivenSplit | None = None

    @property
    def is_anomalous(self) -> bool:
        """Whether the label is 1."""
        return self.label == 1


@dataclass(frozen=True, slots=True)
class Dataset:
    """All pictures of one data set.

    Args:
        root: Folder that names in it are relative to.
        layout: Name of the layout that it was read as.
        items: The pictures, at least one.
        mask_rule: Which mask values mean a defect, for all its masks.
    """

    root: Path
    layout: str
    items: tuple[Item, ...]
    mask_rule: MaskRule

    @property
    def normals(self) -> tuple[Item, ...]:
        """The normal pictures."""
        return tuple(item for item in self.items if not item.is_anomalous)

    @property
    def anomalous(self) -> tuple[Item, ...]:
        """The anomalous pictures."""
        return tuple(item for item in self.items if item.is_anomalous)

    def name_of(self, file: Path) -> str:
        """A file's name in this data set: relative to the root, with forward slashes."""
        return Path(os.path.relpath(file, self.root)).as_posix()

    def describe(self) -> str:
        """One line for the log: layout, counts, masks, groups and given split."""
        masks = sum(item.mask is not None for item in self.anomalous)
        words = [
            f"{self.layout} layout: {len(self.items)} pictures",
            f"{len(self.normals)} normal",
            f"{len(self.anomalous)} anomalous ({masks} with a mask file)",
        ]
        groups = {item.group for item in self.items if item.group is not None}
        if groups:
            words.append(f"{len(groups)} groups")
        given = [item.split for item in self.items if item.split is not None]
        if given:
            words.append(f"given split {given.count('train')} train / {given.count('test')} test")
        return ", ".join(words)
