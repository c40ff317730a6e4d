"""The four published data sets as they come, each in a tiny tree."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ssn_edge.data import Dataset, check_dataset, load_item, read_dataset
from ssn_edge_runtime.errors import ConfigError, DatasetError
from tests.ssn_edge.data import published_trees as trees


def counts(dataset: Dataset) -> dict[tuple[str | None, int, bool], int]:
    """Pictures by part, label, and whether they have a mask file."""
    return Counter((item.split, item.label, item.mask is not None) for item in dataset.items)


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    return trees.visa(tmp_path / "VisA", ["candle", "pcb1"])


@pytest.fixture
def ksdd2(tmp_path: Path) -> Path:
    return trees.ksdd2(tmp_path / "KSDD2")


@pytest.fixture
def sensum(tmp_path: Path) -> Path:
    return trees.sensum(tmp_path / "SensumSODF")


def test_a_category_of_visa_is_read_by_the_one_class_split(visa: Path) -> None:
    dataset = read_dataset(visa / "candle")
    assert dataset.layout == "VisA"
    assert counts(dataset) == {("train", 0, False): 4, ("test", 0, False): 2, ("test", 1, True): 2}
    assert all(item.image.is_relative_to(visa / "candle") for item in dataset.items)
    assert check_dataset(dataset) == 2


def test_each_class_id_of_a_visa_mask_is_a_defect(visa: Path) -> None:
    dataset = read_dataset(visa / "candle")
    areas = []
    for item in dataset.anomalous:
        gt_mask = load_item(item, dataset.mask_rule).gt_mask
        assert gt_mask is not None
        areas.append(int(gt_mask.sum()))
    assert areas == [144, 144]  # one mask holds ones, the other twos


def test_visa_and_sensum_are_read_from_inside_their_folders_too(
    visa: Path, sensum: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(visa / "pcb1")
    assert len(read_dataset(Path()).items) == 8
    monkeypatch.chdir(sensum / "softgel")
    assert len(read_dataset(Path(), fold=2).items) == 15


def test_visa_without_its_split_file_is_told_where_it_belongs(visa: Path) -> None:
    shutil.rmtree(visa / "split_csv")
    with pytest.raises(DatasetError, match=r"there is no .*VisA/split_csv/1cls\.csv; bring"):
        read_dataset(visa / "candle")


def test_a_category_that_visas_split_does_not_list_is_refused(visa: Path) -> None:
    (visa / "candle").rename(visa / "candles")
    with pytest.raises(DatasetError, match="no pictures of 'candles'; it lists candle, pcb1"):
        read_dataset(visa / "candles")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("Masks/Anomaly/001.png", "Masks/Anomaly/009.png", r"line 9: the mask .*009\.png does not"),
        ("candle/Data/Masks/Anomaly/001.png", "", "line 9: names no mask"),
        ("train,normal", "learn,normal", "line 2: the split is 'learn'"),
        ("object,", "thing,", "has no column 'object'"),
    ],
)
def test_a_row_of_visas_split_that_cannot_be_used_is_told(
    visa: Path, before: str, after: str, words: str
) -> None:
    list_file = visa / "split_csv/1cls.csv"
    list_file.write_text(list_file.read_text().replace(before, after))
    with pytest.raises(DatasetError, match=words):
        read_dataset(visa / "candle")


def test_visa_rearranged_as_mvtec_has_masks_without_an_ending(tmp_path: Path) -> None:
    root = trees.rearranged_visa_category(tmp_path / "visa_pytorch/candle")
    dataset = read_dataset(root)
    assert counts(dataset) == {("train", 0, False): 4, ("test", 0, False): 1, ("test", 1, True): 1}
    assert dataset.anomalous[0].mask == root / "ground_truth/bad/000.png"


def test_two_masks_for_one_picture_are_ambiguous(tmp_path: Path) -> None:
    root = trees.rearranged_visa_category(tmp_path / "candle")
    trees.mask(root / "ground_truth/bad/000_mask.png")
    with pytest.raises(DatasetError, match=r"000_mask\.png and 000\.png could both be the mask"):
        read_dataset(root)


@pytest.mark.parametrize(("split", "masks"), [(0, 0), (16, 2), (246, 4)])
def test_a_mask_split_of_ksdd2_takes_masks_and_no_labels(
    ksdd2: Path, split: int, masks: int
) -> None:
    found = counts(read_dataset(ksdd2, mask_split=split))
    wanted = Counter({("train", 0, True): 4, ("test", 0, True): 2, ("test", 1, True): 2})
    wanted[("train", 1, True)] += masks
    wanted[("train", 1, False)] += 4 - masks
    assert found == +wanted


def test_ksdd2_without_a_split_is_read_whole(ksdd2: Path) -> None:
    assert counts(read_dataset(ksdd2)) == counts(read_dataset(ksdd2, mask_split=246))


def test_pictures_that_ksdd2s_split_does_not_list_are_left_out_and_told(
    ksdd2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trees.picture(ksdd2 / "train/10301 (copy).png")
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(ksdd2, mask_split=16).items) == 12
    assert "1 pictures are not in the split file and left out" in caplog.text


def test_a_listed_picture_of_ksdd2_that_is_missing_is_told(ksdd2: Path) -> None:
    (ksdd2 / "train/10002.png").unlink()
    with pytest.raises(DatasetError, match=r"train/10002\.png: is listed in the split file and"):
        read_dataset(ksdd2, mask_split=16)


def test_an_unknown_mask_split_of_ksdd2_names_those_that_are_there(ksdd2: Path) -> None:
    with pytest.raises(ConfigError, match=r"no split_weakly_3\.pyb; there are .* 0, 16, 246"):
        read_dataset(ksdd2, mask_split=3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([(1, True)], "is not a pair of lists"),
        (([10000, 10001], []), "holds 10000; wanted a list of pairs"),
        (([("part1", True)], []), r"holds \['part1', True\]; wanted a list of pairs"),
        (([(10000, 2)], []), r"holds \[10000, 2\]; wanted a list of pairs"),
        (([(True, True)], []), r"holds \[True, True\]; wanted a list of pairs"),
        (([(10004, True), (10004, False)], []), "picture 10004 with and without a mask"),
        (([(20000, True)], [(20000, True)]), "picture 20000 in train and in test"),
        ((1, 2), "wanted a list of pairs"),
    ],
)
def test_a_split_file_of_another_form_is_refused(ksdd2: Path, content: object, words: str) -> None:
    trees.pickled(ksdd2 / "split_weakly_16.pyb", content)
    with pytest.raises(DatasetError, match=words):
        read_dataset(ksdd2, mask_split=16)


def test_numbers_of_pictures_may_be_texts(ksdd2: Path) -> None:
    content = ([("10000", True), ("10004", False)], [("20002", True)])
    trees.pickled(ksdd2 / "split_weakly_16.pyb", content)
    assert counts(read_dataset(ksdd2, mask_split=16)) == {
        ("train", 0, True): 1,
        ("train", 1, False): 1,
        ("test", 1, True): 1,
    }


@pytest.mark.parametrize("with_numpy", [False, True])
@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_fold_of_sensum_is_read_by_its_split_files(
    tmp_path: Path, fold: int, with_numpy: bool
) -> None:
    root = trees.sensum(tmp_path / "SensumSODF", with_numpy=with_numpy)
    dataset = read_dataset(root / "capsule", fold=fold)
    assert dataset.layout == "SensumSODF"
    assert counts(dataset) == {
        ("train", 0, False): 6,
        ("train", 1, True): 4,
        ("test", 0, False): 3,
        ("test", 1, True): 2,
    }
    tested = sorted(item.image.name for item in dataset.normals if item.split == "test")
    assert tested == [f"{number:03}.png" for number in range(fold, 9, 3)]


def test_the_three_folds_of_sensum_test_each_picture_once(sensum: Path) -> None:
    tested = Counter(
        item.image
        for fold in range(3)
        for item in read_dataset(sensum / "softgel", fold=fold).items
        if item.split == "test"
    )
    assert len(tested) == 15
    assert set(tested.values()) == {1}


@pytest.mark.parametrize(("share", "masks"), [(0, 0), (20, 1), (60, 2), (100, 4)])
def test_a_mask_split_of_sensum_keeps_a_share_of_the_masks(
    sensum: Path, share: int, masks: int
) -> None:
    found = counts(read_dataset(sensum / "capsule", fold=1, mask_split=share))
    assert (found[("train", 1, True)], found[("train", 1, False)]) == (masks, 4 - masks)
    assert found[("test", 1, True)] == 2


def test_sensum_without_a_fold_is_read_whole_and_unsplit(sensum: Path) -> None:
    assert counts(read_dataset(sensum / "capsule")) == {(None, 0, False): 9, (None, 1, True): 6}


def test_a_mask_split_of_sensum_needs_a_fold(sensum: Path) -> None:
    with pytest.raises(ConfigError, match=r"mask split 20: .*; name the fold, too"):
        read_dataset(sensum / "capsule", mask_split=20)


@pytest.mark.parametrize(
    ("fold", "mask_split", "words"),
    [
        (3, None, r"fold 3: there is no .*sensum_splits/capsule/3; there are 0, 1, 2"),
        (0, 30, r"mask split 30: there is no .*pos_30\.pckl; there are files for 0, 20, 40"),
    ],
)
def test_a_split_that_sensum_does_not_have_names_those_that_are_there(
    sensum: Path, fold: int, mask_split: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_dataset(sensum / "capsule", fold=fold, mask_split=mask_split)


def test_sensum_without_split_files_is_told_what_to_bring(sensum: Path) -> None:
    shutil.rmtree(sensum / "sensum_splits")
    with pytest.raises(ConfigError, match="leave the fold out, or bring the authors' split files"):
        read_dataset(sensum / "capsule", fold=0)


def test_a_picture_in_both_parts_of_a_fold_is_refused(sensum: Path) -> None:
    folder = sensum / "sensum_splits/capsule/0"
    shutil.copy(folder / "train/neg.pckl", folder / "test/neg.pckl")
    with pytest.raises(DatasetError, match=r"001\.png: is in train and in test"):
        read_dataset(sensum / "capsule", fold=0)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("capsule/negative/data/002.png", r"002\.png: is listed in the train part"),
        ("capsule/positive/annotation/003.png", r"003\.png: its mask .* is missing; add it"),
        ("sensum_splits/capsule/0/test/pos.pckl", r"pos\.pckl: cannot be read"),
    ],
)
def test_a_missing_file_of_sensum_is_told(sensum: Path, lost: str, words: str) -> None:
    (sensum / lost).unlink()
    with pytest.raises(DatasetError, match=words):
        read_dataset(sensum / "capsule", fold=0)


@pytest.mark.parametrize("option", ["fold", "mask_split"])
@pytest.mark.parametrize("layout", ["MVTec", "VisA", "class-folder", "CSV"])
def test_a_published_split_of_a_layout_without_one_is_refused(
    tmp_path: Path, layout: str, option: str
) -> None:
    root = tmp_path / "bottle"
    if layout == "MVTec":
        trees.mvtec_category(root)
    elif layout == "VisA":
        root = trees.visa(tmp_path, ["bottle"]) / "bottle"
    else:
        trees.picture(root / "good/1.png")
        if layout == "CSV":
            (root / "list.csv").write_text("image\ngood/1.png\n")
    with pytest.raises(ConfigError, match=f"is in the {layout} layout, which has no ") as refused:
        read_dataset(root, **{option: 0})  # type: ignore[arg-type]
    assert str(refused.value).endswith("leave it out")


def test_kolektor_has_no_folds(ksdd2: Path) -> None:
    with pytest.raises(ConfigError, match=r"Kolektor layout, which has no folds \(only Sensum"):
        read_dataset(ksdd2, fold=0, mask_split=16)


def test_a_kolektor_folder_without_split_files_has_no_mask_splits(ksdd2: Path) -> None:
    for file in ksdd2.glob("*.pyb"):
        file.unlink()
    with pytest.raises(ConfigError, match="leave the mask split out, or bring the file split_wea"):
        read_dataset(ksdd2, mask_split=16)


@pytest.mark.parametrize("name", ["mvtec", "visa", "sensum"])
def test_a_folder_of_several_data_sets_says_to_name_one(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    if name == "mvtec":
        trees.mvtec_category(root / "bottle")
        trees.mvtec_category(root / "cable")
        wanted = "bottle, cable"
    elif name == "visa":
        trees.visa(root, ["candle", "pcb1"])
        wanted = "candle, pcb1"
    else:
        trees.sensum(root)
        wanted = "capsule, softgel"
    with pytest.raises(DatasetError, match=rf"holds 2 data sets \({wanted}\); name one of them"):
        read_dataset(root)
