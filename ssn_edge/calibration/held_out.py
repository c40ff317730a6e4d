"""Which pictures may set a threshold: none that the net was trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.split import content_hash
from ssn_edge.project import CHECKPOINT_NAME, RUNS
from ssn_edge.training.checkpoint_header import read_header
from ssn_edge.training.listing import holds_any_of, is_all_of, listing_root, unchanged_parts
from ssn_edge_runtime.errors import CheckpointError, ConfigError, DatasetError

PARENT = "parent"
EACH = "none"
IMPORTED = "imported_from"
IMPORTED_NOTE = "The net was trained elsewhere: nobody here can tell whether it saw these pictures."


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where held-out pictures are.

    Args:
        data: A data set; None for the calibration part of the run that the package is from.
        checkpoint: That run's; None for the newest under ``runs/`` with the package's training
            data.
        columns: For a CSV list, our column name to theirs.
        group: ``parent`` for the picture's folder, ``none`` for each picture by itself, a column
            of a CSV list, or a regular expression whose first group, or match, in the picture's
            name is the group's. None for the groups that the data name.
    """

    data: Path | None = None
    checkpoint: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Pictures that training did not see, as far as anybody knows.

    Args:
        root: Folder that their names are relative to.
        items: The pictures, no two of the same content.
        groups: The name of each one's group.
        grouping: How groups were named; None where each picture is one.
        is_part_of_run: Whether they are the calibration part of the run, which export used, too.
        notes: What is not known of them.
    """

    root: Path
    items: tuple[Item, ...]
    groups: tuple[str, ...]
    grouping: str | None
    is_part_of_run: bool
    notes: tuple[str, ...]


def held_out_pictures(wanted: Wanted, training_data: str) -> HeldOut:
    """Find the pictures, and refuse those that were trained on.

    Args:
        wanted: Where they are.
        training_data: The package's fingerprint of what it was trained on.

    Raises:
        CheckpointError: No data are named, and no run here is the package's.
        DatasetError: No such data, or pictures that training saw.
        ConfigError: The groups cannot be named so.
    """
    header = _header_of_run(wanted.checkpoint, training_data)
    if wanted.data is None:
        if header is None:
            raise CheckpointError(
                f"no run under {RUNS}/ was trained on this package's data, so its held-out "
                "pictures are not known; name pictures that it was not trained on: --data FOLDER"
            )
        return _part_of_run(header, listing_root(header["listing"]), wanted)
    if header is None:
        notes = ("The package's run is not here: nobody can tell whether it saw these pictures.",)
        return _held_out(_read(wanted.data, wanted), wanted, notes)
    if wanted.data.is_file():
        listed = _read(wanted.data, wanted)
        if is_all_of(header["listing"], listed):
            return _part_of_run(header, wanted.data.parent, wanted)
        return _other_data(header, listed, wanted, wanted.data)
    try:
        return _part_of_run(header, wanted.data, wanted)
    except DatasetError:
        return _other_data(header, _read(wanted.data, wanted), wanted, wanted.data)


def _header_of_run(named: Path | None, training_data: str) -> Mapping[str, Any] | None:
    if named is not None:
        path = named / CHECKPOINT_NAME if named.is_dir() else named
        header = read_header(path)
        if header["training_data"] != training_data:
            raise CheckpointError(
                f"{path} was trained on other data than the package; name the run that the package "
                "was exported from"
            )
        return header
    paths = [path for path in Path(RUNS).glob(f"*/{CHECKPOINT_NAME}") if path.is_file()]
    for path in sorted(paths, key=lambda each: each.stat().st_mtime_ns, reverse=True):
        header = read_header(path)
        if header["training_data"] == training_data:
            return header
    return None


def _part_of_run(header: Mapping[str, Any], root: Path, wanted: Wanted) -> HeldOut:
    split, rule = unchanged_parts(header, root)
    if not split.calibration:
        raise DatasetError(
            f"{root}: the run held no calibration pictures out of training; name pictures that it "
            "was not trained on: --data FOLDER"
        )
    notes = [IMPORTED_NOTE] if IMPORTED in header else []
    dataset = Dataset(root, "listed", split.calibration, rule)
    return _held_out(dataset, wanted, notes, is_part_of_run=True)


def _other_data(header: Mapping[str, Any], dataset: Dataset, wanted: Wanted, data: Path) -> HeldOut:
    """Pictures of a data set that is not the run's, none of which training saw."""
    listing = header["listing"]
    try:
        split, _ = unchanged_parts(header, listing_root(listing))
    except DatasetError as error:
        if holds_any_of(listing, dataset, "train"):
            raise DatasetError(
                f"{data}: holds pictures by the names of those that training saw, and they are "
                "not what they were; leave them out, or restore what was trained on"
            ) from error
        unknown = (
            "The pictures that training saw are not here unchanged: nobody can tell whether some "
            "of these were among them."
        )
        return _held_out(dataset, wanted, [unknown])
    trained = {content_hash(item.image) for item in split.train}
    seen = [item.image for item in dataset.items if content_hash(item.image) in trained]
    if seen:
        raise DatasetError(
            f"{len(seen)} of {len(dataset.items)} pictures of {data} were trained on, such as "
            f"{seen[0]}; a threshold from them promises nothing: leave them out"
        )
    notes = [IMPORTED_NOTE] if IMPORTED in header else []
    return _held_out(dataset, wanted, notes)


def _read(data: Path, wanted: Wanted) -> Dataset:
    columns = dict(wanted.columns)
    if wanted.group is not None and wanted.group in _header_names(data):
        columns["group"] = wanted.group
    return read_dataset(data, columns=columns or None)


def _header_names(data: Path) -> list[str]:
    """The columns of a CSV list; none of anything else, which reading it will tell."""
    if data.suffix.lower() != ".csv" or not data.is_file():
        return []
    lines = data.read_text(encoding="utf-8-sig", errors="replace").splitlines() or [""]
    delimiter = max(",;\t", key=lines[0].count)
    return [name.strip().strip('"') for name in lines[0].split(delimiter)]


def _held_out(
    dataset: Dataset, wanted: Wanted, notes: Sequence[str], *, is_part_of_run: bool = False
) -> HeldOut:
    items, copies = _without_copies(dataset)
    if copies:
        notes = [*notes, f"{copies} copies of other pictures count once."]
    grouping, group_of = _grouping(dataset, wanted)
    return HeldOut(
        root=dataset.root,
        items=items,
        groups=tuple(group_of(item) for item in items),
        grouping=grouping,
        is_part_of_run=is_part_of_run,
        notes=tuple(notes),
    )


def _without_copies(dataset: Dataset) -> tuple[tuple[Item, ...], int]:
    """Each content once: a copy is no second part."""
    first: dict[str, Item] = {}
    for item in dataset.items:
        before = first.setdefault(content_hash(item.image), item)
        if before.label != item.label:
            raise DatasetError(
                f"{item.image} and {before.image} are the same picture, one of them a good part "
                "and one a defect; correct the label of one"
            )
    return tuple(first.values()), len(dataset.items) - len(first)


def _grouping(dataset: Dataset, wanted: Wanted) -> tuple[str | None, Callable[[Item], str]]:
    """How groups are named, for people, and the name of a picture's."""

    def named(item: Item) -> str:
        # Of two kinds, so that a group cannot have a picture's name.
        return f"image {dataset.name_of(item.image)}" if item.group is None else f"= {item.group}"

    group = wanted.group
    if group == EACH:
        return None, lambda item: dataset.name_of(item.image)
    if group == PARENT:
        return "folder", lambda item: dataset.name_of(item.image.parent)
    is_column = wanted.data is not None and group in _header_names(wanted.data)
    if group is None or is_column:
        has_groups = any(item.group is not None for item in dataset.items)
        return ("group of the data" if has_groups else None), named
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ConfigError(f"--group {group}: is no regular expression ({error})") from error
    unnamed = [
        item.image for item in dataset.items if not pattern.search(dataset.name_of(item.image))
    ]
    if unnamed:
        raise ConfigError(
            f"--group {group}: matches the names of {len(dataset.items) - len(unnamed)} of "
            f"{len(dataset.items)} pictures, not {dataset.name_of(unnamed[0])}; wanted are parent, "
            "none, a column of a CSV list, or a regular expression that matches each"
        )

    def matched(item: Item) -> str:
        match = pattern.search(dataset.name_of(item.image))
        if match is None:
            return ""
        first = match[1] if pattern.groups else None
        return match[0] if first is None else str(first)

    return f"/{group}/ in the name", matched
