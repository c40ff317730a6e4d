"""Copies of one picture: in train and test, with two labels, or merely twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssn_edge.data.items import Item
from ssn_edge.data_check.findings import Finding, Kind, Severity
from ssn_edge.data_check.measure import Looked, PictureLook
from ssn_edge.data_check.perceptual_hash import ClosePairs, close_pairs, typical_distance

NEAR_COPY = 0.10
"""Share of the hash's bits up to which two pictures count as copies; see `perceptual_hash`.

Measured: no pair of different parts among 4,416 of commutators and 1,128 of tyres lies below 0.112,
and each of the 13 such pairs of magnetic tiles from different groups shows one and the same tile.
"""
LOOK_ALIKE = 0.16
"""Up to here a person should look: one part under other light, or two parts in one fixture."""
ORDINARY_DISTANCE = 0.4
"""Median distance from which both limits hold as they stand; below, they shrink in proportion."""
FEWEST_FOR_SCALE = 20
"""Pictures that a median distance is taken from."""
MOST_PAIRS = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A readable picture."""

    item: Item
    look: PictureLook


@dataclass(frozen=True, slots=True, eq=False)
class _Copies:
    """Pictures that count as one, by part and name; `distance` is the largest link between them."""

    members: tuple[_Picture, ...]
    distance: float

    @property
    def is_exact(self) -> bool:
        return len({each.look.digest for each in self.members}) == 1

    @property
    def parts(self) -> set[str | None]:
        return {each.item.split for each in self.members}

    @property
    def labels(self) -> set[int]:
        return {each.item.label for each in self.members}

    @property
    def is_one_group(self) -> bool:
        groups = {each.item.group for each in self.members}
        return len(groups) == 1 and None not in groups

    @property
    def contradicts_exactly(self) -> bool:
        """Whether one and the same picture has two labels."""
        labels = defaultdict(set)
        for each in self.members:
            labels[each.look.digest].add(each.item.label)
        return any(len(each) > 1 for each in labels.values())

    @property
    def words(self) -> str:
        if self.is_exact:
            return "the same picture"
        return f"near-copies (up to {100 * self.distance:.0f} % of the hash differs)"

    def finding(self, kind: Kind, severity: Severity, text: str) -> Finding:
        return Finding(kind, severity, text, tuple(each.item.image for each in self.members))


def copy_findings(looked: Sequence[Looked]) -> list[Finding]:
    """Find copies and look-alikes among all readable pictures."""
    pictures = [_Picture(each.item, each.picture) for each in looked if each.picture is not None]
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for index, each in enumerate(pictures):
        by_digest[each.look.digest].append(index)
    # One picture of each digest is compared; the others are at distance 0 from it.
    first = [at for at, *_ in by_digest.values() if pictures[at].look.hash is not None]
    hashes = np.array([pictures[at].look.hash for at in first], dtype=np.bool_)
    scale = 1.0
    if len(first) >= FEWEST_FOR_SCALE:
        scale = min(1.0, typical_distance(hashes) / ORDINARY_DISTANCE)
    pairs = ClosePairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), True)
    if first:
        pairs = close_pairs(hashes, scale * LOOK_ALIKE, most=MOST_PAIRS)
    links = [
        (first[a], first[b], float(distance))
        for (a, b), distance in zip(pairs.index.tolist(), pairs.distance, strict=True)
    ]
    sets = _sets(pictures, by_digest.values(), [e for e in links if e[2] <= scale * NEAR_COPY])
    found = _about_sets(sets)
    found += _look_alikes(pictures, links, sets)
    if scale < 0.9 or not pairs.is_complete:
        text = (
            "the pictures look much alike, as parts in one fixture do: only closer pairs than "
            "usual are told, and copies that were changed a little may be missed"
        )
        found.append(Finding(Kind.LOOK_ALIKE, Severity.NOTE, text))
    return found


def _sets(
    pictures: Sequence[_Picture],
    same: Iterable[Sequence[int]],
    near: Sequence[tuple[int, int, float]],
) -> list[_Copies]:
    """Join what is linked, over any number of links."""
    parent = list(range(len(pictures)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    exact = [(each[0], other, 0.0) for each in same for other in each[1:]]
    distance: Mapping[int, list[float]] = defaultdict(list)
    links = [*exact, *near]
    for a, b, _ in links:
        parent[root(b)] = root(a)
    for a, _, apart in links:
        distance[root(a)].append(apart)
    members: dict[int, list[_Picture]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        members[root(index)].append(picture)
    return [
        _Copies(tuple(sorted(each, key=_by_part_and_name)), max(distance[at]))
        for at, each in members.items()
        if len(each) > 1
    ]


def _by_part_and_name(picture: _Picture) -> tuple[str, str]:
    return picture.item.split or "", picture.item.image.as_posix()


def _about_sets(sets: Sequence[_Copies]) -> list[Finding]:
    found: list[Finding] = []
    expected: list[_Copies] = []
    for copies in sets:
        leaks = {"train", "test"} <= copies.parts
        contradicts = len(copies.labels) > 1
        if leaks:
            text = (
                f"{copies.words} in train and in test: the test part then measures what was "
                "learnt by heart; keep the picture in one part"
            )
            found.append(copies.finding(Kind.LEAK, Severity.ERROR, text))
        if contradicts:
            found.append(_contradiction(copies))
        if leaks or contradicts:
            continue
        if copies.is_one_group and not copies.is_exact:
            expected.append(copies)
        elif copies.parts == {None} and not copies.is_one_group:
            text = (
                f"{copies.words} without a common group: a split may put one into train and the "
                "other into test; remove one, or give them one group"
            )
            found.append(copies.finding(Kind.COPY, Severity.WARNING, text))
        else:
            text = f"{copies.words} {'in one group' if copies.is_one_group else 'within one part'}"
            if not copies.is_one_group and "train" in copies.parts:
                text += "; with one group they stay together when calibration pictures are drawn"
            found.append(copies.finding(Kind.COPY, Severity.NOTE, text))
    if expected:
        pictures = sum(len(copies.members) for copies in expected)
        text = (
            f"{pictures} pictures have near-copies in their own group, {len(expected)} sets in "
            "all; that is what groups are for, shown is the largest"
        )
        largest = max(expected, key=lambda copies: len(copies.members))
        found.append(largest.finding(Kind.COPY, Severity.NOTE, text))
    return found


def _contradiction(copies: _Copies) -> Finding:
    """One picture, or nearly, that is normal and anomalous."""
    severity = Severity.NOTE if copies.is_one_group else Severity.WARNING
    if copies.contradicts_exactly:
        severity = Severity.ERROR
    text = (
        f"{copies.words}, once labelled normal and once anomalous; correct the label"
        if copies.is_exact
        else f"{copies.words}, labelled normal and anomalous; the defect is small, or a label wrong"
    )
    normal = [each for each in copies.members if not each.item.is_anomalous]
    anomalous = [each for each in copies.members if each.item.is_anomalous]
    mixed = [each for pair in zip(normal, anomalous, strict=False) for each in pair]
    rest = [each for each in copies.members if each not in mixed]
    files = tuple(each.item.image for each in [*mixed, *rest])
    return Finding(Kind.LABEL, severity, text, files, shows_masks=True)


def _look_alikes(
    pictures: Sequence[_Picture],
    links: Sequence[tuple[int, int, float]],
    sets: Sequence[_Copies],
) -> list[Finding]:
    """For each test picture the train picture that looks most like it, if one does."""
    set_of = {each.item.image: number for number, s in enumerate(sets) for each in s.members}
    found: dict[int, tuple[float, int]] = {}
    for a, b, distance in links:
        items = pictures[a].item, pictures[b].item
        numbers = [set_of.get(item.image) for item in items]
        if {items[0].split, items[1].split} != {"train", "test"}:
            continue
        if items[0].group is not None and items[0].group == items[1].group:
            continue  # a torn group, which is told as such
        if numbers[0] is not None and numbers[0] == numbers[1]:
            continue
        test, train = (a, b) if items[0].split == "test" else (b, a)
        found[test] = min(found.get(test, (1.0, -1)), (distance, train))
    return [
        Finding(
            Kind.LOOK_ALIKE,
            Severity.WARNING,
            f"in test and in train, {100 * distance:.0f} % of the hash differs: if both show one "
            "part, move all its pictures into one part",
            (pictures[test].item.image, pictures[train].item.image),
        )
        for test, (distance, train) in sorted(found.items(), key=lambda each: each[1])
    ]
