"""One fault at a time in a sound data set: that fault is found, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data import read_dataset
from ssn_edge.data_check import DataReport, Kind, Severity, check_data, check_data_at
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, DatasetError
from tests.ssn_edge.data_check.conftest import (
    SIZE_HW,
    Parts,
    brief,
    mask,
    only,
    read,
    surface,
    write,
)


def test_a_sound_data_set_has_no_findings(parts: Parts) -> None:
    report = parts.check()
    assert brief(report) == []
    assert not report.has_errors
    assert "19 pictures, 16 normal, 3 anomalous" in report.summary


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def make_transparent(path: Path) -> None:
    picture = cv2.cvtColor(read(path), cv2.COLOR_GRAY2BGRA)
    picture[5, 5, 3] = 0
    write(path, picture)


def make_16_bit(path: Path) -> None:
    assert cv2.imwrite(str(path), read(path).astype(np.uint16) * 200)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_short, "is cut short"),
        (make_transparent, "transparent"),
        (make_16_bit, "has 16 bits a channel"),
    ],
)
def test_every_unreadable_picture_is_told_with_its_reason(
    parts: Parts, spoil: Callable[[Path], None], words: str
) -> None:
    for path in (parts.train(2), parts.good(1)):
        spoil(path)
    report = parts.check()
    assert brief(report) == [
        ("unreadable", "error", ["train/good/002.png"]),
        ("unreadable", "error", ["test/good/001.png"]),
    ]
    for finding in report.findings:
        assert finding.text.startswith(("is", "has"))
        assert words in finding.text


def test_unreadable_masks_are_told_and_do_not_hide_other_faults(parts: Parts) -> None:
    """Detecting the rule for mask values reads masks, and would stop at the first."""
    parts.mask(0).write_text("no picture")
    cut_short(parts.mask(1))
    cut_short(parts.train(4))
    report = parts.check()
    assert brief(report) == [
        ("unreadable", "error", ["train/good/004.png"]),
        ("unreadable", "error", ["test/scratch/000.png"]),
        ("unreadable", "error", ["test/scratch/001.png"]),
    ]
    assert report.findings[1].text.startswith("its mask cannot be decoded")
    assert report.mask_above == 127  # of the mask that can be read


def test_a_copy_in_train_and_test_is_a_leak(parts: Parts) -> None:
    shutil.copy(parts.train(3), parts.good(2))
    report = parts.check()
    assert brief(report) == [("leak", "error", ["test/good/002.png", "train/good/003.png"])]
    assert report.findings[0].text.startswith("the same picture in train and in test")
    assert report.has_errors


def test_a_copy_in_another_format_is_the_same_picture(parts: Parts) -> None:
    parts.good(2).unlink()
    write(parts.good(2).with_suffix(".bmp"), read(parts.train(3)))
    assert only(parts.check(), Kind.LEAK).text.startswith("the same picture")


def test_a_changed_copy_in_train_and_test_is_a_leak(parts: Parts) -> None:
    darker = (read(parts.train(3)) * 0.9).astype(np.uint8)
    larger = cv2.resize(darker, (SIZE_HW[1] * 2, SIZE_HW[0] * 2))
    parts.good(2).unlink()
    path = parts.good(2).with_suffix(".jpg")
    assert cv2.imwrite(str(path), cv2.resize(larger, SIZE_HW[::-1]))
    finding = only(parts.check(), Kind.LEAK)
    assert finding.severity is Severity.ERROR
    assert set(finding.files) == {path, parts.train(3)}
    assert finding.text.startswith("near-copies (up to")


def in_other_light(picture: ByteImage, seed: int, share: float) -> ByteImage:
    """The same surface under so much of another one."""
    other = surface(seed).astype(np.float32)
    return np.asarray((1 - share) * picture + share * other, np.float32).astype(np.uint8)


def test_a_look_alike_in_train_and_test_is_a_warning(parts: Parts) -> None:
    write(parts.good(2), in_other_light(read(parts.train(3)), 900, 0.35))
    report = parts.check()
    assert brief(report) == [("look_alike", "warning", ["test/good/002.png", "train/good/003.png"])]
    assert not report.has_errors


def test_parts_that_all_look_alike_are_not_taken_for_copies(tmp_path: Path) -> None:
    common = surface(1)
    for number in range(30):
        part = "train" if number < 20 else "test"
        drawn = in_other_light(common, 1000 + number, 0.12)
        write(tmp_path / f"tiles/{part}/good/{number:03d}.png", drawn)
    report = check_data_at(tmp_path / "tiles", max_false_reject=0.5)
    assert report.count(Kind.LEAK) == 0
    (told,) = [each for each in report.findings if each.kind is Kind.LOOK_ALIKE and not each.files]
    assert told.severity is Severity.NOTE
    assert "look much alike" in told.text
    shutil.copy(tmp_path / "tiles/train/good/000.png", tmp_path / "tiles/test/good/020.png")
    again = check_data_at(tmp_path / "tiles", max_false_reject=0.5)
    assert again.count(Kind.LEAK) == 1


def test_a_copy_within_train_is_a_note(parts: Parts) -> None:
    shutil.copy(parts.train(3), parts.train(5))
    report = parts.check()
    assert brief(report) == [("copy", "note", ["train/good/003.png", "train/good/005.png"])]


def test_one_picture_with_two_labels_is_an_error(parts: Parts) -> None:
    shutil.copy(parts.good(1), parts.scratch(1))
    report = parts.check()
    assert brief(report) == [("label", "error", ["test/good/001.png", "test/scratch/001.png"])]


def test_near_copies_with_two_labels_are_a_warning(parts: Parts) -> None:
    """A good shot of a part and one with a small scratch are rightly labelled so."""
    scratched = read(parts.good(1))
    scratched[20:23, 20:23] = 250
    write(parts.scratch(1), scratched)
    report = parts.check()
    assert brief(report) == [("label", "warning", ["test/good/001.png", "test/scratch/001.png"])]


def test_an_anomalous_picture_with_an_empty_mask_is_a_note(parts: Parts) -> None:
    write(parts.mask(1), np.zeros(SIZE_HW, np.uint8))
    report = parts.check()
    assert brief(report) == [("empty_mask", "note", ["test/scratch/001.png"])]


def test_a_mask_of_another_size_is_an_error(parts: Parts) -> None:
    write(parts.mask(1), mask((32, 36)))
    finding = only(parts.check(), Kind.MASK_SIZE)
    assert finding.severity is Severity.ERROR
    assert "36 x 32" in finding.text
    assert "72 x 64" in finding.text


def test_a_mask_over_most_of_the_picture_is_a_warning(parts: Parts) -> None:
    write(parts.mask(1), 255 - mask(at=11))
    finding = only(parts.check(), Kind.LARGE_MASK)
    assert finding.severity is Severity.WARNING
    assert "97 %" in finding.text


def test_a_mask_that_two_rules_read_differently_is_a_warning(parts: Parts) -> None:
    drawn = mask(at=11)
    drawn[40:60, 40:60] = np.arange(1, 21) * 5  # a soft ramp, all of it dark
    write(parts.mask(1), drawn)
    report = check_data_at(parts.root, mask_above=127, max_false_reject=0.5)
    finding = only(report, Kind.MASK_VALUES)
    assert finding.severity is Severity.WARNING
    assert "544 pixels if every value" in finding.text
    assert "144 if only bright" in finding.text
    assert "above 127" in finding.text


def test_a_mask_copied_to_another_picture_is_a_note(parts: Parts) -> None:
    shutil.copy(parts.mask(0), parts.mask(2))
    report = parts.check()
    names = ["test/scratch/000.png", "test/scratch/002.png"]
    assert brief(report) == [("shared_mask", "note", names)]


@pytest.fixture
def listed(parts: Parts) -> Callable[..., DataReport]:
    """Checks a list of the pictures; a row is image, mask, label, split and group."""

    def check(*rows: str, rest: bool = True) -> DataReport:
        named = {row.split(",")[0] for row in rows}
        others = [f"train/good/{number:03d}.png,,good,train,g{number}" for number in range(12)]
        others += [f"test/good/{number:03d}.png,,good,test,t{number}" for number in range(4)]
        others += ["test/scratch/000.png,ground_truth/scratch/000_mask.png,bad,test,s0"]
        kept = [row for row in others if rest and row.split(",")[0] not in named]
        file = parts.root / "list.csv"
        file.write_text("\n".join(["image,mask,label,split,group", *kept, *rows]))
        return check_data_at(file, max_false_reject=0.5)

    return check


def test_a_sound_list_has_no_findings(listed: Callable[..., DataReport]) -> None:
    assert brief(listed()) == []


def test_a_normal_picture_with_a_marked_mask_is_an_error(
    listed: Callable[..., DataReport],
) -> None:
    report = listed("train/good/002.png,ground_truth/scratch/001_mask.png,good,train,g2")
    assert brief(report) == [("normal_with_mask", "error", ["train/good/002.png"])]
    assert "marks 144 pixels" in report.findings[0].text


def test_a_normal_picture_with_an_empty_mask_is_sound(
    parts: Parts, listed: Callable[..., DataReport]
) -> None:
    write(parts.root / "black.png", np.zeros(SIZE_HW, np.uint8))
    rows = [f"train/good/00{number}.png,black.png,good,train,g{number}" for number in (2, 3)]
    assert brief(listed(*rows)) == []


def test_a_mask_file_of_two_pictures_is_a_warning(listed: Callable[..., DataReport]) -> None:
    report = listed("test/scratch/001.png,ground_truth/scratch/000_mask.png,bad,test,s1")
    names = ["test/scratch/000.png", "test/scratch/001.png"]
    assert brief(report) == [("shared_mask", "warning", names)]
    assert "one mask file" in report.findings[0].text


def test_a_group_in_train_and_test_is_an_error(listed: Callable[..., DataReport]) -> None:
    report = listed("test/good/002.png,,good,test,g5")
    assert brief(report) == [("torn_group", "error", ["train/good/005.png", "test/good/002.png"])]
    assert "group g5" in report.findings[0].text


def near_copy(parts: Parts, source: Path, target: Path) -> None:
    write(target, (read(source) * 0.9).astype(np.uint8))


def test_near_copies_in_one_group_are_what_groups_are_for(
    parts: Parts, listed: Callable[..., DataReport]
) -> None:
    near_copy(parts, parts.train(1), parts.train(2))
    near_copy(parts, parts.good(1), parts.good(2))
    rows = [f"train/good/00{number}.png,,good,train,g1" for number in (1, 2)]
    rows += [f"test/good/00{number}.png,,good,test,t1" for number in (1, 2)]
    report = listed(*rows)
    assert [(kind, severity) for kind, severity, _ in brief(report)] == [("copy", "note")]
    assert "4 pictures" in report.findings[0].text
    assert "2 sets" in report.findings[0].text


def test_near_copies_in_one_group_with_two_labels_are_a_note(
    parts: Parts, listed: Callable[..., DataReport]
) -> None:
    near_copy(parts, parts.good(1), parts.scratch(1))
    report = listed(
        "test/good/001.png,,good,test,t1",
        "test/scratch/001.png,ground_truth/scratch/001_mask.png,bad,test,t1",
    )
    names = ["test/good/001.png", "test/scratch/001.png"]
    assert brief(report) == [("label", "note", names)]


def test_without_parts_or_groups_a_copy_may_be_torn_apart(
    parts: Parts, listed: Callable[..., DataReport]
) -> None:
    near_copy(parts, parts.train(1), parts.train(2))
    file = parts.root / "list.csv"
    scratched = [
        f"test/scratch/00{number}.png,ground_truth/scratch/00{number}_mask.png,bad,test,s{number}"
        for number in range(3)
    ]
    listed(*scratched)
    rows = [row.rsplit(",", 2)[0] for row in file.read_text().splitlines()]
    file.write_text("\n".join(rows))
    report = check_data_at(file, max_false_reject=0.5)
    names = ["train/good/001.png", "train/good/002.png"]
    assert brief(report) == [("copy", "warning", names)]
    assert "one group" in report.findings[0].text


def test_a_size_that_few_pictures_have_is_told(parts: Parts) -> None:
    write(parts.train(1), surface(1, (64, 36)))
    write(parts.good(1), surface(101, (128, 144)))
    report = parts.check()
    assert brief(report) == [
        ("size", "warning", ["train/good/001.png"]),
        ("size", "note", ["test/good/001.png"]),  # of the same aspect ratio
    ]
    assert "36 x 64 pixels, most (17 of 19) have 72 x 64" in report.findings[0].text


def test_sizes_that_all_differ_are_one_note_and_odd_aspects_a_warning(parts: Parts) -> None:
    for number in range(12):
        write(parts.train(number), surface(number, (64 + number, 72 + number)))
    write(parts.train(3), surface(3, (30, 90)))
    report = parts.check()
    assert [(kind, severity) for kind, severity, _ in brief(report)] == [
        ("size", "warning"),
        ("size", "note"),
    ]
    assert report.findings[0].files == (parts.train(3),)
    assert "width to height 3.00" in report.findings[0].text
    assert "19 pictures of 12 sizes" in report.findings[1].text


def test_one_colour_picture_among_grey_ones_is_a_warning(parts: Parts) -> None:
    tinted = cv2.cvtColor(read(parts.train(1)), cv2.COLOR_GRAY2BGR)
    tinted[:, :, 0] = tinted[:, :, 0] // 2 + 60
    write(parts.train(1), tinted)
    grey = cv2.cvtColor(read(parts.train(2)), cv2.COLOR_GRAY2BGR)
    write(parts.train(2), grey)  # three equal channels are grey
    assert brief(parts.check()) == [("colour", "warning", ["train/good/001.png"])]


EXPOSURES: dict[str, Callable[[ByteImage], ByteImage]] = {
    "brightness": lambda p: np.asarray(p - np.minimum(p, 60), np.uint8),
    "contrast": lambda p: np.asarray(0.1 * (p - 128.0) + 128, np.float32).astype(np.uint8),
    "saturated pixels": lambda p: np.where(p > np.percentile(p, 75), 255, p).astype(np.uint8),
    "black pixels": lambda p: np.where(p < np.percentile(p, 25), 0, p).astype(np.uint8),
    "sharpness": lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 3)),
}


@pytest.mark.parametrize("fault", EXPOSURES)
def test_an_odd_exposure_is_told_with_value_and_limits(parts: Parts, fault: str) -> None:
    write(parts.train(4), EXPOSURES[fault](read(parts.train(4))))
    finding = only(parts.check(), Kind.EXPOSURE)
    assert finding.files == (parts.train(4),)
    assert finding.severity is Severity.WARNING
    assert f"{fault} " in finding.text
    assert "(usual: " in finding.text


def test_a_defect_may_change_the_exposure(parts: Parts) -> None:
    write(parts.scratch(0), EXPOSURES["brightness"](read(parts.scratch(0))))
    assert brief(parts.check()) == [("exposure", "note", ["test/scratch/000.png"])]


def test_too_few_pictures_for_a_promise_are_told(parts: Parts) -> None:
    report = check_data(read_dataset(parts.root), max_false_reject=0.01)
    finding = only(report, Kind.TOO_FEW)
    assert "2 normal pictures" in finding.text
    assert "33.3 % false rejects, 1 % needs 99" in finding.text


def test_a_test_part_without_defects_is_told(parts: Parts) -> None:
    for folder in ("test/scratch", "ground_truth"):
        shutil.rmtree(parts.root / folder)
    assert "no defective picture" in only(parts.check(), Kind.TOO_FEW).text


def test_a_data_set_that_cannot_be_listed_is_told_with_all_unreadable_files(parts: Parts) -> None:
    parts.mask(1).unlink()  # the layout wants all masks of a folder or none
    for path in (parts.train(1), parts.good(1)):
        cut_short(path)
    report = parts.check()
    assert [(each.kind, each.severity) for each in report.findings] == [
        (Kind.LISTING, Severity.ERROR),
        (Kind.UNREADABLE, Severity.ERROR),
        (Kind.UNREADABLE, Severity.ERROR),
    ]
    assert report.findings[0].text.startswith("test/scratch/001.png: its mask")
    assert [file for each in report.findings for file in each.files] == [
        parts.good(1),
        parts.train(1),
    ]


def test_nothing_at_the_path_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        check_data_at(tmp_path / "nowhere")


def test_a_rule_that_cannot_be_is_an_error_at_once(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="300"):
        check_data_at(parts.root, mask_above=300)


def test_progress_counts_every_picture(parts: Parts) -> None:
    seen: list[tuple[int, int]] = []
    check_data(read_dataset(parts.root), on_progress=lambda done, count: seen.append((done, count)))
    assert seen == [(done, 19) for done in range(1, 20)]
