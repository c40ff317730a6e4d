"""The real pictures beside the checkout, against the counts in their README."""

from __future__ import annotations

from pathlib import Path

from ssn_edge.data import Dataset, has_pixel_truth, load_item, read_dataset, split_dataset


def counts(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Normal and anomalous pictures of each given part."""
    return {
        part: (
            sum(item.split == part for item in dataset.normals),
            sum(item.split == part for item in dataset.anomalous),
        )
        for part in ("train", "test")
    }


def test_magnetic_tiles_are_read_by_their_list(shared_data: Path) -> None:
    dataset = read_dataset(
        shared_data / "magnetic_tile/split.csv", columns={"label": "defect", "group": "tile_group"}
    )
    assert counts(dataset) == {"train": (569, 199), "test": (383, 193)}
    assert len({item.group for item in dataset.items}) == 210
    assert dataset.mask_rule.above == 127
    assert "grey edges" in dataset.mask_rule.reason
    uneven = [item for item in dataset.items if item.defect_class == "uneven"]
    assert len(uneven) == 103
    without = {i.image.stem for i in uneven if not has_pixel_truth(i, dataset.mask_rule)}
    assert without == {
        "exp3_num_45042",
        "exp4_num_45057",
        "exp4_num_124690",
        "exp4_num_352527",
    }


def test_magnetic_tiles_are_parted_by_tile(shared_data: Path) -> None:
    dataset = read_dataset(
        shared_data / "magnetic_tile", columns={"label": "defect", "group": "tile_group"}
    )
    split = split_dataset(dataset)
    groups = [{item.group for item in part} for _, part in split.parts()]
    assert len(set.union(*groups)) == sum(len(part) for part in groups) == 210
    training = len(groups[0]) + len(groups[1])
    assert abs(len(groups[1]) / training - 0.2) < 0.03
    split.check_trainable()


def test_kolektor_is_read_by_its_layout_and_by_its_list(shared_data: Path) -> None:
    by_layout = read_dataset(shared_data / "kolektorsdd")
    by_list = read_dataset(
        shared_data / "kolektorsdd/index.csv", columns={"label": "defect", "group": "item"}
    )
    assert by_layout.layout == "Kolektor"
    for dataset in (by_layout, by_list):
        assert counts(dataset) == {"train": (45, 15), "test": (27, 9)}
        assert dataset.mask_rule.above == 127
    labels = [{d.name_of(i.image): i.label for i in d.items} for d in (by_layout, by_list)]
    assert labels[0] == labels[1]
    assert len({item.group for item in by_list.items}) == 24


def test_tyres_are_read_as_class_ids(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "mvtec_3d_rgb/tire")
    assert counts(dataset) == {"train": (22, 0), "test": (8, 18)}
    assert dataset.mask_rule.above == 0
    loaded = load_item(dataset.anomalous[0], dataset.mask_rule)
    assert loaded.image.shape == (800, 600, 3)
    assert all(has_pixel_truth(item, dataset.mask_rule) for item in dataset.anomalous)
