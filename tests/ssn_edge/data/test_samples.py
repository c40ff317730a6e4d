from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssn_edge.data import (
    DefectKind,
    Surface,
    check_dataset,
    draw_sample,
    high_pass_baseline,
    list_samples,
    make_samples,
    read_dataset,
    split_dataset,
)
from ssn_edge_runtime.errors import ConfigError


def make(root: Path, surface: Surface = Surface.BRUSHED, seed: int = 0) -> Path:
    make_samples(
        root,
        surface=surface,
        normal_train=3,
        defective_train=3,
        normal_test=2,
        defective_test=4,
        size_hw=(64, 80),
        seed=seed,
    )
    return root


def content(root: Path) -> dict[str, bytes]:
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in root.rglob("*.png")}


@pytest.mark.parametrize("surface", Surface)
def test_samples_are_a_data_set_that_our_reader_takes(tmp_path: Path, surface: Surface) -> None:
    dataset = read_dataset(make(tmp_path / "set", surface))
    assert dataset.layout == "MVTec"
    assert dataset.mask_rule.above == 127
    assert (len(dataset.normals), len(dataset.anomalous)) == (5, 7)
    assert check_dataset(dataset) == 7
    assert len(split_dataset(dataset).test) == 6
    assert {item.defect_class for item in dataset.anomalous} == {kind.value for kind in DefectKind}


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first = content(make(tmp_path / "one"))
    assert content(make(tmp_path / "two")) == first
    other = content(make(tmp_path / "three", seed=1))
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_no_two_pictures_are_alike(tmp_path: Path) -> None:
    pictures = content(make(tmp_path / "set"))
    assert len(set(pictures.values())) == len(pictures) == 12 + 7


def test_brushed_and_cast_are_grey_and_woven_is_colour() -> None:
    dimensions = {s.value: draw_sample(s, None, size_hw=(64, 64)).image.ndim for s in Surface}
    assert dimensions == {"brushed": 2, "cast": 2, "woven": 3}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_simple_baseline_stays_below_0_85(seed: int) -> None:
    labels: list[bool] = []
    scores: list[float] = []
    for surface in Surface:
        plan = list(list_samples(surface, normal=24, defective=24, seed=seed, part=1))
        own = [high_pass_baseline(draw_sample(surface, k, seed=s).image) for k, s in plan]
        truth = [kind is not None for kind, _ in plan]
        assert roc_auc_score(truth, own) < 0.85, surface
        labels += truth
        scores += own
    assert roc_auc_score(labels, scores) < 0.85


def test_the_baseline_finds_a_single_bright_pixel() -> None:
    picture = np.full((32, 32), 100, np.uint8)
    assert high_pass_baseline(picture) == 0
    picture[9, 9] = 200
    assert high_pass_baseline(picture) > 90
    assert high_pass_baseline(np.repeat(picture[:, :, None], 3, axis=2)) > 90


def test_a_picture_does_not_depend_on_the_counts() -> None:
    few = list(list_samples(Surface.CAST, normal=2, defective=1, seed=5))
    many = list(list_samples(Surface.CAST, normal=9, defective=6, seed=5))
    assert set(few) <= set(many)


def test_samples_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "set")
    with pytest.raises(ConfigError, match="is not an empty folder; name a new one"):
        make(tmp_path / "set")
    with pytest.raises(ConfigError, match="63 x 256 pixels is too small to show a surface"):
        draw_sample(Surface.CAST, None, size_hw=(63, 256))
    with pytest.raises(ConfigError, match="must not be negative"):
        make_samples(
            tmp_path / "new",
            surface=Surface.CAST,
            normal_train=-1,
            defective_train=0,
            normal_test=0,
            defective_test=0,
        )
