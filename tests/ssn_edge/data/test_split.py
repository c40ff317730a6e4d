from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.data import Dataset, Item, MaskRule, Split, fingerprint, read_dataset, split_dataset
from ssn_edge.data.items import GivenSplit
from ssn_edge_runtime.errors import ConfigError, DatasetError

ROOT = Path("set")


def dataset_of(
    rows: Sequence[tuple[int, str | None]], split: Sequence[GivenSplit | None] = ()
) -> Dataset:
    """Pictures from (label, group) pairs, and the part of each where given."""
    items = tuple(
        Item(ROOT / f"{number:04d}.png", label, group=group, split=split[number] if split else None)
        for number, (label, group) in enumerate(rows)
    )
    return Dataset(ROOT, "test", items, MaskRule(0, "test"))


def groups_of(part: Sequence[Item]) -> set[str]:
    return {item.group or item.image.name for item in part}


labels_and_groups = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1]), st.one_of(st.none(), st.sampled_from("abcdefgh"))),
    min_size=1,
    max_size=40,
)
seeds = st.integers(0, 1000)


@given(rows=labels_and_groups, seed=seeds)
def test_every_picture_is_in_one_part_and_every_group_too(
    rows: list[tuple[int, str | None]], seed: int
) -> None:
    dataset = dataset_of(rows)
    split = split_dataset(dataset, seed=seed)
    parts = [part for _, part in split.parts()]
    assert sorted(i.image for part in parts for i in part) == [i.image for i in dataset.items]
    groups = [group for part in parts for group in groups_of(part)]
    assert len(groups) == len(set(groups))


@given(rows=labels_and_groups, seed=seeds, data=st.data())
def test_the_order_of_the_files_does_not_matter(
    rows: list[tuple[int, str | None]], seed: int, data: st.DataObject
) -> None:
    dataset = dataset_of(rows)
    shuffled = replace(dataset, items=tuple(data.draw(st.permutations(dataset.items))))
    assert split_dataset(dataset, seed=seed) == split_dataset(shuffled, seed=seed)


@given(rows=labels_and_groups, seed=seeds)
def test_training_keeps_normals_wherever_there_are_any(
    rows: list[tuple[int, str | None]], seed: int
) -> None:
    split = split_dataset(dataset_of(rows), seed=seed)
    assert any(label == 0 for label, _ in rows) == any(not i.is_anomalous for i in split.train)


@given(normal=st.integers(2, 60), anomalous=st.integers(0, 20), seed=seeds)
def test_two_normal_groups_are_enough_to_train_and_calibrate(
    normal: int, anomalous: int, seed: int
) -> None:
    split = split_dataset(dataset_of([(0, None)] * normal + [(1, None)] * anomalous), seed=seed)
    split.check_trainable()


@given(rows=labels_and_groups, seed=seeds, data=st.data())
def test_a_given_test_part_stays_as_it_is(
    rows: list[tuple[int, str | None]], seed: int, data: st.DataObject
) -> None:
    part_of: dict[str, GivenSplit] = {}
    parts: list[GivenSplit] = []
    for number, (_, group) in enumerate(rows):
        drawn: GivenSplit = data.draw(st.sampled_from(["train", "test"]))
        parts.append(part_of.setdefault(group or str(number), drawn))
    dataset = dataset_of(rows, parts)
    split = split_dataset(dataset, seed=seed)
    assert split.test == tuple(item for item in dataset.items if item.split == "test")


def test_each_kind_of_group_gives_its_share() -> None:
    split = split_dataset(dataset_of([(0, None)] * 100 + [(1, None)] * 40))
    assert (
        split.describe()
        == "train 84 (24 anomalous), calibration 21 (6 anomalous), test 35 (10 anomalous)"
    )


def test_another_seed_gives_other_parts() -> None:
    dataset = dataset_of([(0, None)] * 50)
    assert split_dataset(dataset, seed=1) != split_dataset(dataset, seed=2)


def test_a_group_that_is_added_moves_few_others() -> None:
    rows = [(0, None)] * 200
    before = split_dataset(dataset_of(rows))
    after = split_dataset(dataset_of([*rows, (0, None)]))
    assert len(set(before.test) - set(after.test)) <= 1


def test_a_share_of_zero_leaves_a_part_empty() -> None:
    split = split_dataset(dataset_of([(0, None)] * 9), calibration_share=0, test_share=0)
    assert (len(split.train), split.calibration, split.test) == (9, (), ())


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"the calibration share is .*; wanted 0 to below 1"):
        split_dataset(dataset_of([(0, None)]), calibration_share=share)


def test_a_group_in_train_and_test_is_refused_by_name() -> None:
    dataset = dataset_of([(0, "lot7"), (0, "lot7")], ["train", "test"])
    with pytest.raises(DatasetError, match=r"group 'lot7' is in train .*0000.png.* and in test"):
        split_dataset(dataset)


def test_a_part_named_for_some_pictures_only_is_refused() -> None:
    dataset = dataset_of([(0, None), (0, None)], ["train", None])
    with pytest.raises(DatasetError, match=r"0001\.png: is in neither train nor test"):
        split_dataset(dataset)


def test_a_single_normal_group_cannot_train_and_calibrate() -> None:
    split = split_dataset(dataset_of([(0, "a"), (0, "a"), (1, "b"), (1, "c")]))
    with pytest.raises(DatasetError, match=r"the calibration part has .* none of them is normal"):
        split.check_trainable()


def test_a_copy_elsewhere_has_the_same_fingerprint(mvtec: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mvtec, tmp_path / "copy")
    assert _fingerprint(mvtec) == _fingerprint(copy)
    assert len(_fingerprint(mvtec)) == 64


def test_a_changed_byte_a_mask_a_rule_or_a_part_changes_the_fingerprint(mvtec: Path) -> None:
    dataset = read_dataset(mvtec)
    split = split_dataset(dataset)
    swapped = Split(train=split.calibration, calibration=split.train, test=split.test)
    seen = {
        fingerprint(dataset, split),
        fingerprint(dataset, swapped),
        fingerprint(replace(dataset, mask_rule=MaskRule(5, "test")), split),
    }
    for name in ("train/good/000.png", "ground_truth/scratch/000_mask.png"):
        (mvtec / name).write_bytes((mvtec / name).read_bytes() + b"\0")
        seen.add(_fingerprint(mvtec))
    assert len(seen) == 5


def _fingerprint(root: Path) -> str:
    dataset = read_dataset(root)
    return fingerprint(dataset, split_dataset(dataset))
