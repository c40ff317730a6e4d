from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ssn_edge.data import read_dataset
from ssn_edge_runtime.errors import ConfigError, DatasetError


def write_list(folder: Path, *lines: str) -> Path:
    file = folder / "parts.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_every_column_of_a_list_is_used(parts: Path) -> None:
    file = write_list(
        parts,
        "image,mask,label,split,group,class",
        "a.png,a_mask.png,0,train,lot1,good",
        "b.png,b_mask.png,1,test,lot2,dent",
    )
    good, bad = read_dataset(file).items
    assert (good.label, good.split, good.group, good.defect_class) == (0, "train", "lot1", None)
    assert (bad.label, bad.split, bad.group, bad.defect_class) == (1, "test", "lot2", "dent")
    assert bad.mask == parts / "b_mask.png"


def test_a_folder_with_one_list_is_read_by_it(parts: Path) -> None:
    write_list(parts, "image", "a.png")
    assert read_dataset(parts).layout == "CSV"


def test_columns_can_have_other_names(parts: Path) -> None:
    file = write_list(parts, "image,defect,item", "a.png,0,7", "b.png,1,8")
    items = read_dataset(file, columns={"label": "defect", "group": "item"}).items
    assert [(item.label, item.group) for item in items] == [(0, "7"), (1, "8")]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *[(word, 0) for word in ("0", "0.0", "false", "GOOD", "ok", "Normal", "no")],
        *[(word, 1) for word in ("1", "1.0", "True", "bad", "NG", "scratch", "yes")],
    ],
)
def test_labels_are_numbers_or_words(parts: Path, cell: str, label: int) -> None:
    file = write_list(parts, "image,label", f"a.png,{cell}")
    assert read_dataset(file).items[0].label == label


@pytest.mark.parametrize("cell", ["", "2", "-1", "nan", "?", "unknown"])
def test_a_cell_that_is_no_label_is_refused(parts: Path, cell: str) -> None:
    file = write_list(parts, "image,label,group", f"a.png,{cell},1")
    with pytest.raises(DatasetError, match=r"parts\.csv, line 2: .* is not a label; wanted 0 or 1"):
        read_dataset(file)


def test_without_a_label_column_the_masks_decide(parts: Path) -> None:
    file = write_list(parts, "image,mask", "a.png,a_mask.png", "b.png,b_mask.png", "c.png,")
    assert [item.label for item in read_dataset(file).items] == [0, 1, 0]


def test_with_a_label_column_an_empty_mask_does_not_make_a_picture_normal(parts: Path) -> None:
    file = write_list(parts, "image,mask,label", "a.png,a_mask.png,1")
    assert read_dataset(file).items[0].label == 1


def test_without_label_and_mask_the_class_decides(parts: Path) -> None:
    file = write_list(parts, "image,class", "a.png,good", "b.png,dent")
    assert [item.label for item in read_dataset(file).items] == [0, 1]


def test_a_list_of_pictures_only_is_a_list_of_normals(
    parts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_list(parts, "image", "a.png", "b.png")
    with caplog.at_level(logging.WARNING):
        assert [item.label for item in read_dataset(file).items] == [0, 0]
    assert "no label, mask or class column; all 2 pictures count as normal" in caplog.text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_from_a_spreadsheet_is_read(parts: Path, separator: str) -> None:
    lines = [["image", " label "], ["a.png", "0"], ["", ""], [r".\b.png", "1"]]
    text = "\r\n".join(separator.join(line) for line in lines)
    (parts / "parts.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_dataset(parts / "parts.csv").items) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image"], r"lists no pictures; wanted a header"),
        (["picture,label", "a.png,0"], r"has no column 'image'; its columns are picture, label"),
        (["image,label,label", "a.png,0,0"], r"has two columns 'label'"),
        (["image,label", "a.png"], r"line 2: has 1 cells, the header has 2"),
        (["image,label", ",0"], r"line 2: names no picture"),
        (["image,label", "z.png,0"], r"line 2: the image .*z\.png does not exist; wanted a path"),
        (["image,mask", "a.png,z.png"], r"line 2: the mask .*z\.png does not exist; .* or leave"),
        (["image", "a.png", "../parts/a.png"], r"line 3: .* listed twice, first at .* line 2"),
        (["image,split", "a.png,val"], r"line 2: the split is 'val'; wanted train or test"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(parts: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_dataset(write_list(parts, *lines))


def test_an_unknown_column_is_refused_with_the_nearest(parts: Path) -> None:
    file = write_list(parts, "image,tile_group", "a.png,1")
    with pytest.raises(DatasetError, match=r"no column 'tilegroup'; did you mean 'tile_group'\?"):
        read_dataset(file, columns={"group": "tilegroup"})


def test_mapping_a_column_that_we_do_not_have_is_refused(parts: Path) -> None:
    file = write_list(parts, "image", "a.png")
    with pytest.raises(ConfigError, match=r"no column 'lable' to map; did you mean 'label'\?"):
        read_dataset(file, columns={"lable": "image"})


def test_a_list_that_is_not_text_is_refused(parts: Path) -> None:
    (parts / "parts.csv").write_bytes(b"image\n\xff\xfe.png\n")
    with pytest.raises(DatasetError, match="is not UTF-8 text"):
        read_dataset(parts / "parts.csv")
