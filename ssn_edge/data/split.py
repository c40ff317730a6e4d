"""Three parts, by group: train fits, calibration sets thresholds, test only judges."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.data.items import Dataset, Item
from ssn_edge_runtime.errors import ConfigError, DatasetError

Group = tuple[str, ...]
"""("group", its name), or ("image", the picture's name) for a picture without a group."""

Groups = dict[Group, list[Item]]


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a data set; no group is in two of them.

    Args:
        train: What weights are fitted on.
        calibration: Held out of fitting; thresholds come from its normal pictures.
        test: Chooses nothing: no threshold, epoch, scoring rule or setting.
    """

    train: tuple[Item, ...]
    calibration: tuple[Item, ...]
    test: tuple[Item, ...]

    def describe(self) -> str:
        """One line for the log: pictures of each part, and how many are anomalous."""
        return ", ".join(
            f"{name} {len(part)} ({sum(item.label for item in part)} anomalous)"
            for name, part in self.parts()
        )

    def parts(self) -> Iterator[tuple[str, tuple[Item, ...]]]:
        """Each part with its name."""
        yield "train", self.train
        yield "calibration", self.calibration
        yield "test", self.test

    def check_trainable(self, *, calibrated: bool = True) -> None:
        """Refuse a split that cannot be trained on, or that no threshold could be fitted for.

        Args:
            calibrated: Whether a calibration part is wanted.

        Raises:
            DatasetError: Train or calibration has no normal picture.
        """
        for name, part in (("train", self.train), ("calibration", self.calibration)):
            if name == "calibration" and not calibrated:
                continue
            if all(item.is_anomalous for item in part):
                raise DatasetError(
                    f"the {name} part has {len(part)} pictures and none of them is normal; wanted "
                    "at least two groups of normal pictures to train, so that one of them can "
                    "calibrate; add good pictures"
                )


def split_dataset(
    dataset: Dataset, *, calibration_share: float = 0.2, test_share: float = 0.25, seed: int = 0
) -> Split:
    """Part a data set by group; a picture without a group is a group of its own.

    A test part that the data set names stays as it is; otherwise `test_share` of the groups go
    there. Calibration takes its share of the remaining groups. Groups with normal pictures only,
    with anomalous only and with both each give their share, at least one group and never the last.
    Which groups go is decided by a hash of seed and name, so neither the order nor the place of
    the files matters, and a group that is added moves few others.

    Args:
        dataset: What to part.
        calibration_share: Share of the training groups, 0 to below 1.
        test_share: Share of all groups, 0 to below 1; unused where a test part is given.
        seed: Another seed, other parts.

    Raises:
        ConfigError: A share is out of range.
        DatasetError: The data set itself puts a group in train and test, or names a part for some
            pictures only.
    """
    for name, share in (("calibration", calibration_share), ("test", test_share)):
        if not 0 <= share < 1:
            raise ConfigError(f"the {name} share is {share}; wanted 0 to below 1, as 0.2")
    given = {item.split for item in dataset.items}
    if None in given and len(given) > 1:
        nameless = next(item for item in dataset.items if item.split is None)
        raise DatasetError(
            f"{nameless.image}: is in neither train nor test, others are; give each picture a "
            "part, or none"
        )
    groups = _by_group(dataset)
    if None in given:
        test = _draw(groups, test_share, f"test {seed}", keep_normals=2)
    else:
        _refuse_torn_groups(groups)
        test = {key for key, members in groups.items() if members[0].split == "test"}
    remaining = {key: members for key, members in groups.items() if key not in test}
    calibration = _draw(remaining, calibration_share, f"calibration {seed}", keep_normals=1)
    return Split(
        train=_members(dataset, groups, remaining.keys() - calibration),
        calibration=_members(dataset, groups, calibration),
        test=_members(dataset, groups, test),
    )


def fingerprint(dataset: Dataset, split: Split) -> str:
    """SHA-256 over what training sees: names, contents, labels, mask rule and parts.

    Names are relative to the data set, so a copy elsewhere has the same fingerprint; the order of
    the files does not matter.

    Returns:
        64 hexadecimal digits.
    """
    lines = []
    for part, items in split.parts():
        for item in items:
            mask = "-" if item.mask is None else content_hash(item.mask)
            lines.append(
                f"{dataset.name_of(item.image)}\0{part}\0{item.label}\0{item.group or ''}\0"
                f"{content_hash(item.image)}\0{mask}"
            )
    text = "\n".join([f"mask above {dataset.mask_rule.above}", *sorted(lines)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _by_group(dataset: Dataset) -> Groups:
    groups: Groups = defaultdict(list)
    for item in dataset.items:
        key = (
            ("image", dataset.name_of(item.image)) if item.group is None else ("group", item.group)
        )
        groups[key].append(item)
    return dict(groups)


def _refuse_torn_groups(groups: Groups) -> None:
    for (_, name), members in groups.items():
        if len({item.split for item in members}) > 1:
            where = {item.split: item.image for item in members}
            raise DatasetError(
                f"group {name!r} is in train ({where['train']}) and in test ({where['test']}); "
                "pictures of one group must stay together, or the test part is not independent"
            )


def _draw(groups: Groups, share: float, salt: str, *, keep_normals: int) -> set[Group]:
    """Draw a share of each kind of group, at least one, leaving at least one.

    Args:
        groups: What to draw from.
        share: Of each kind, rounded to the nearest whole number.
        salt: What the order depends on, beside the groups' names.
        keep_normals: Groups of normals only that must stay, where there are as many.
    """
    if share == 0:
        return set()
    kinds: dict[frozenset[int], list[Group]] = defaultdict(list)
    for key, members in groups.items():
        kinds[frozenset(item.label for item in members)].append(key)
    drawn: set[Group] = set()
    for labels, keys in kinds.items():
        keep = keep_normals if labels == {0} else 1
        count = max(1, int(share * len(keys) + 0.5))
        ordered = sorted(keys, key=lambda key: (_order(salt, key), key))
        drawn.update(ordered[: max(0, min(count, len(keys) - keep))])
    return drawn


def _order(salt: str, key: Group) -> bytes:
    return hashlib.sha256("\0".join((salt, *key)).encode("utf-8", "surrogateescape")).digest()


def _members(dataset: Dataset, groups: Groups, keys: Iterable[Group]) -> tuple[Item, ...]:
    """The items of these groups, by name."""
    items: Sequence[Item] = [item for key in keys for item in groups[key]]
    return tuple(sorted(items, key=lambda item: dataset.name_of(item.image)))


def content_hash(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        DatasetError: It cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
