"""The check on the real pictures beside the checkout."""

from __future__ import annotations

from pathlib import Path

from ssn_edge.data_check import Kind, Severity, check_data_at


def test_magnetic_tiles_hold_one_tile_in_train_and_test_and_four_empty_masks(shared: Path) -> None:
    report = check_data_at(
        shared / "data/magnetic_tile/split.csv", columns={"label": "defect", "group": "tile_group"}
    )
    assert not report.has_errors
    (alike,) = [each for each in report.findings if each.kind is Kind.LOOK_ALIKE]
    assert alike.severity is Severity.WARNING
    assert [file.stem for file in alike.files] == ["exp5_num_8676", "exp4_num_10642"]
    empty = {each.files[0].stem for each in report.findings if each.kind is Kind.EMPTY_MASK}
    assert empty == {"exp3_num_45042", "exp4_num_45057", "exp4_num_124690", "exp4_num_352527"}
    assert report.count(Kind.MASK_VALUES) == 2
    assert report.count(Kind.TOO_FEW) == 0  # 114 normal calibration pictures promise 1 %


def test_commutators_and_tyres_hold_no_copies(shared: Path) -> None:
    for name in ("kolektorsdd", "mvtec_3d_rgb/tire"):
        report = check_data_at(shared / "data" / name)
        assert not report.has_errors
        assert report.count(Kind.LEAK) == report.count(Kind.COPY) == report.count(Kind.LABEL) == 0
