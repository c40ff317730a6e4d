from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from ssn_edge.data import LAYOUTS_HELP, check_dataset, read_dataset
from ssn_edge_runtime.errors import ConfigError, DatasetError

Write = Callable[..., Path]


def test_mvtec_folders_give_labels_parts_and_masks(mvtec: Path) -> None:
    dataset = read_dataset(mvtec)
    assert dataset.layout == "MVTec"
    assert (len(dataset.normals), len(dataset.anomalous)) == (4, 2)
    first = dataset.anomalous[0]
    assert (first.defect_class, first.split, first.group) == ("scratch", "test", None)
    assert first.mask == mvtec / "ground_truth/scratch/000_mask.png"
    assert [item.split for item in dataset.normals] == ["train", "train", "test", "test"]
    assert check_dataset(dataset) == 2


def test_one_line_describes_a_data_set(mvtec: Path) -> None:
    assert read_dataset(mvtec).describe() == (
        "MVTec layout: 6 pictures, 4 normal, 2 anomalous (2 with a mask file), "
        "given split 2 train / 4 test"
    )


def test_defects_in_the_mvtec_training_part_count_as_anomalous(
    mvtec: Path, write_picture: Write
) -> None:
    write_picture(mvtec / "train/scratch/100.png")
    write_picture(mvtec / "ground_truth/scratch/100_mask.png", mark=255)
    added = next(i for i in read_dataset(mvtec).items if i.split == "train" and i.is_anomalous)
    assert added.mask == mvtec / "ground_truth/scratch/100_mask.png"


def test_a_type_without_any_mask_is_used_without_masks(
    mvtec: Path, write_picture: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_picture(mvtec / "test/dent/000.png")
    with caplog.at_level(logging.WARNING):
        dataset = read_dataset(mvtec)
    dent = next(item for item in dataset.items if item.defect_class == "dent")
    assert dent.mask is None
    assert "1 pictures without masks" in caplog.text


def test_a_single_missing_mvtec_mask_is_refused_by_name(mvtec: Path) -> None:
    (mvtec / "ground_truth/scratch/001_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"scratch/001\.png: its mask .*001_mask\.png is miss"):
        read_dataset(mvtec)


def test_a_mask_that_fits_a_training_and_a_test_picture_is_refused(
    mvtec: Path, write_picture: Write
) -> None:
    write_picture(mvtec / "train/scratch/000.png")
    with pytest.raises(DatasetError, match=r"000_mask\.png: could be the mask of .* or of "):
        read_dataset(mvtec)


def test_two_files_that_differ_in_suffix_only_are_refused(
    mvtec: Path, kolektor: Path, write_picture: Write
) -> None:
    write_picture(mvtec / "test/good/000.bmp")
    with pytest.raises(DatasetError, match=r"000\.bmp and 000\.png have one name"):
        read_dataset(mvtec)
    write_picture(kolektor / "train/1.png")
    with pytest.raises(DatasetError, match=r"1\.jpg and 1\.png have one name"):
        read_dataset(kolektor)


def test_an_empty_class_is_skipped_with_a_warning(
    mvtec: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (mvtec / "test/dent").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(mvtec).items) == 6
    assert f"{mvtec / 'test/dent'} holds no pictures and is skipped" in caplog.text


def test_no_pictures_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train/good").mkdir(parents=True)
    (tmp_path / "train/good/.hidden.png").write_bytes(b"left by a file manager")
    with pytest.raises(DatasetError, match=r"MVTec layout but holds no pictures; wanted .*\.png"):
        read_dataset(tmp_path)


def test_kolektor_labels_come_from_the_masks(kolektor: Path) -> None:
    dataset = read_dataset(kolektor)
    assert dataset.layout == "Kolektor"
    assert [(dataset.name_of(i.image), i.label, i.split) for i in dataset.items] == [
        ("train/1.jpg", 0, "train"),
        ("train/2.jpg", 1, "train"),
        ("test/3.jpg", 0, "test"),
    ]


def test_the_label_of_a_faint_kolektor_mask_follows_the_given_rule(
    kolektor: Path, write_picture: Write
) -> None:
    write_picture(kolektor / "test/3_GT.png", mark=60)
    assert len(read_dataset(kolektor, mask_above=0).anomalous) == 2
    assert len(read_dataset(kolektor, mask_above=127).anomalous) == 1


def test_a_missing_kolektor_mask_is_refused_by_name(kolektor: Path) -> None:
    (kolektor / "train/2_GT.png").unlink()
    with pytest.raises(DatasetError, match=r"2\.jpg: has no mask 2_GT\.png beside it; add one"):
        read_dataset(kolektor)


def test_a_kolektor_mask_without_picture_is_told(
    kolektor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (kolektor / "train/2.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(kolektor).items) == 2
    assert "1 masks without a picture are left out, the first is 2_GT.png" in caplog.text


def test_class_folders_have_no_split(tmp_path: Path, write_picture: Write) -> None:
    for name in ("good/0.png", "good/1.png", "dent/0.png"):
        write_picture(tmp_path / name)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "class folders"
    assert [(i.label, i.defect_class, i.split) for i in dataset.items] == [
        (1, "dent", None),
        (0, None, None),
        (0, None, None),
    ]


def test_a_mask_among_the_pictures_of_a_class_folder_is_refused(
    tmp_path: Path, write_picture: Write
) -> None:
    for name in ("good/0.png", "dent/0.png", "dent/0_mask.png"):
        write_picture(tmp_path / name)
    with pytest.raises(DatasetError, match=r"0_mask\.png: looks like the mask of the picture"):
        read_dataset(tmp_path)


def test_a_folder_of_no_layout_is_shown_the_layouts(tmp_path: Path, write_picture: Write) -> None:
    write_picture(tmp_path / "1.png")
    with pytest.raises(DatasetError) as refusal:
        read_dataset(tmp_path)
    assert str(refusal.value).endswith(LAYOUTS_HELP)
    assert all(word in LAYOUTS_HELP for word in ("train/good", "_GT.png", "image,mask", "good/000"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "does not exist; wanted a folder"), ("notes.txt", "neither a folder nor a CSV")],
)
def test_a_path_that_is_no_data_set_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("to do")
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / name)


def test_a_list_beside_a_layout_is_told_and_read_when_columns_are_mapped(
    kolektor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (kolektor / "index.csv").write_text("image,defect\ntrain/1.jpg,0\n")
    with caplog.at_level(logging.WARNING):
        assert read_dataset(kolektor).layout == "Kolektor"
    assert "index.csv is not used" in caplog.text
    assert len(read_dataset(kolektor, columns={"label": "defect"}).items) == 1


def test_two_lists_in_one_folder_are_ambiguous(parts: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (parts / name).write_text("image\na.png\n")
    with pytest.raises(DatasetError, match=r"holds 2 CSV files \(one\.csv, two\.csv\); name the"):
        read_dataset(parts)


def test_columns_need_a_list(mvtec: Path) -> None:
    with pytest.raises(DatasetError, match=r"columns are mapped, but it holds no CSV file"):
        read_dataset(mvtec, columns={"label": "defect"})


def test_an_impossible_mask_value_is_refused(mvtec: Path) -> None:
    with pytest.raises(ConfigError, match="mask values above 255 cannot mean a defect"):
        read_dataset(mvtec, mask_above=255)
