"""Which picture is in which part, as a checkpoint keeps it: evaluation and export use it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.data.split import Split, fingerprint
from ssn_edge_runtime.errors import CheckpointError, DatasetError


def listing_from_split(dataset: Dataset, split: Split) -> dict[str, object]:
    """The parts by name, relative to the data set's root; JSON."""
    return {
        "root": str(dataset.root.resolve()),
        "mask_above": dataset.mask_rule.above,
        "parts": {
            name: [
                [
                    dataset.name_of(item.image),
                    item.label,
                    None if item.mask is None else dataset.name_of(item.mask),
                    item.group,
                    item.defect_class,
                ]
                for item in items
            ]
            for name, items in split.parts()
        },
    }


def listing_root(listing: Mapping[str, Any]) -> Path:
    """Where the data set was in training."""
    return Path(listing["root"])


def split_from_listing(listing: Mapping[str, Any], base: Path) -> tuple[Split, MaskRule]:
    """The parts again, from where the data are now.

    Args:
        listing: From a checkpoint.
        base: The data set's root now.

    Raises:
        DatasetError: A picture is not there any more.
        CheckpointError: Not a listing.
    """
    try:
        rule = MaskRule(int(listing["mask_above"]), "as in training")
        parts = {
            name: tuple(_item(base, row) for row in rows) for name, rows in listing["parts"].items()
        }
        split = Split(**parts)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's listing lacks or misstates {error}") from error
    for _, items in split.parts():
        for item in items:
            if not item.image.is_file():
                raise DatasetError(
                    f"{item.image} was used in training and is not there any more; "
                    "if the data moved, say where: --data FOLDER"
                )
    return split, rule


def unchanged_parts(header: Mapping[str, Any], root: Path) -> tuple[Split, MaskRule]:
    """A run's own parts, seen to be what they were in training.

    Args:
        header: Of a checkpoint.
        root: Where the data are now.

    Raises:
        DatasetError: A picture is not there any more, or changed.
        CheckpointError: The header holds no listing.
    """
    split, mask_rule = split_from_listing(header["listing"], root)
    items = tuple(item for _, part in split.parts() for item in part)
    if fingerprint(Dataset(root, "listed", items, mask_rule), split) != header["training_data"]:
        raise DatasetError(
            f"{root}: pictures, masks or labels changed since training; restore them, or train "
            "again on what is there now"
        )
    return split, mask_rule


def holds_any_of(listing: Mapping[str, Any], data: Dataset, part: str | None = None) -> bool:
    """Whether a data set holds a picture of the name of any listed one, or of one part's."""
    roots = (data.root, listing_root(listing))  # where the data are now, and where they were
    return any(not _listed(listing, root, part).isdisjoint(_pictures(data)) for root in roots)


def is_all_of(listing: Mapping[str, Any], data: Dataset) -> bool:
    """Whether a data set has the names of all listed pictures, and no others.

    Two CSV lists in one folder share their root, so a root does not tell which of them is meant.
    """
    return _listed(listing, data.root) == _pictures(data)


def _listed(listing: Mapping[str, Any], root: Path, part: str | None = None) -> set[Path]:
    parts = listing["parts"]
    named = parts.values() if part is None else [parts[part]]
    return {(root / row[0]).resolve() for rows in named for row in rows}


def _pictures(data: Dataset) -> set[Path]:
    return {item.image.resolve() for item in data.items}


def _item(base: Path, row: list[Any]) -> Item:
    image, label, mask, group, defect_class = row
    return Item(
        image=base / image,
        label=int(label),
        mask=None if mask is None else base / mask,
        group=group,
        defect_class=defect_class,
    )
