"""The cache against the backbone itself, on real pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssn_edge.data import read_dataset
from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.model.backbone import normalise
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.cache import FLIPS, Batch, FeatureCache
from ssn_edge_runtime.errors import ConfigError, DatasetError, PictureError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry, preprocess

CPU = torch.device("cpu")
RULE = MaskRule(127, "black and white")
HALF = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture(scope="module")
def items(tiles: Path) -> tuple[Item, ...]:
    return tuple(item for item in read_dataset(tiles).items if item.split == "train")


@pytest.fixture
def net(tiny_net: Callable[..., SuperSimpleNet]) -> SuperSimpleNet:
    return tiny_net()


def cached(
    items: Sequence[Item],
    net: SuperSimpleNet,
    *,
    geometry: Geometry | None = None,
    flips: bool = True,
    dilate: bool = True,
    weighted: bool = True,
    batch_size: int = 4,
    memory_limit_bytes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FeatureCache:
    return FeatureCache(
        items,
        net,
        geometry=geometry or Geometry(net.architecture.input_size_hw),
        mask_rule=RULE,
        flips=flips,
        dilate=dilate,
        weighted=weighted,
        device=CPU,
        batch_size=batch_size,
        memory_limit_bytes=memory_limit_bytes,
        on_progress=on_progress,
    )


def everything(cache: FeatureCache) -> Batch:
    return cache.batch(np.sort(np.concatenate([cache.normals, cache.anomalous])), CPU)


def fields(batch: Batch) -> list[torch.Tensor]:
    return [batch.layer2, batch.layer3, batch.mask, batch.weight, batch.known, batch.label]


def passed(net: SuperSimpleNet, picture: np.ndarray, geometry: Geometry) -> list[torch.Tensor]:
    pixels = torch.from_numpy(preprocess(np.ascontiguousarray(picture), geometry))[None]
    with torch.no_grad():
        return list(net.backbone(normalise(pixels, net.backbone.normalisation)))


def test_cached_features_are_those_of_a_direct_pass(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    geometry = Geometry((64, 64))
    with cached(items, net, flips=False) as cache:
        batch = everything(cache)
    assert len(batch.label) == len(items)
    for row, item in enumerate(items):
        layers = passed(net, read_picture(item.image), geometry)
        assert torch.allclose(batch.layer2[row], layers[0][0], **HALF)
        assert torch.allclose(batch.layer3[row], layers[1][0], **HALF)
        assert bool(batch.label[row]) is item.is_anomalous


def test_normals_come_once_and_defective_pictures_in_four_flips(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    with cached(items, net) as cache:
        assert len(cache.normals) == 10
        assert len(cache.anomalous) == 4 * 5
        assert not set(cache.normals) & set(cache.anomalous)
        batch = everything(cache)
    assert batch.known.all()
    assert torch.equal(batch.label, batch.mask.flatten(1).any(dim=1))


def test_a_flip_in_the_cache_is_that_of_picture_and_mask(
    items: tuple[Item, ...], net: SuperSimpleNet, tmp_path: Path
) -> None:
    item = next(each for each in items if each.is_anomalous)
    assert item.mask is not None
    mirrored = []
    for number, axes in enumerate(FLIPS):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        for source, target in ((item.image, image), (item.mask, mask)):
            cv2.imwrite(str(target), np.flip(read_picture(source), axes))
        mirrored.append(Item(image, 1, mask))
    with cached([item], net) as flipped, cached(mirrored, net, flips=False) as drawn:
        assert len(flipped.anomalous) == 4
        for found, wanted in zip(
            fields(everything(flipped)), fields(everything(drawn)), strict=True
        ):
            assert torch.equal(found, wanted)
        assert not torch.equal(everything(flipped).layer2[0], everything(flipped).layer2[1])


def test_the_region_of_interest_is_cut_before_flipping(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    item = next(each for each in items if each.is_anomalous)
    x, y, width, height = roi = (3, 7, 48, 40)
    region = read_picture(item.image)[y : y + height, x : x + width]
    with cached([item], net, geometry=Geometry((64, 64), roi)) as cache:
        batch = everything(cache)
    for row, axes in enumerate(FLIPS):
        layer2, layer3 = passed(net, np.flip(region, axes), Geometry((64, 64)))
        assert torch.allclose(batch.layer2[row], layer2[0], **HALF)
        assert torch.allclose(batch.layer3[row], layer3[0], **HALF)


def test_a_region_beyond_the_picture_is_refused_by_name(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    with pytest.raises(DatasetError, match=rf"{items[0].image.name}.*reaches beyond"):
        cached(items, net, geometry=Geometry((64, 64), (40, 0, 60, 60)))


def test_a_defect_outside_the_region_of_interest_leaves_a_label_and_is_told(
    items: tuple[Item, ...], net: SuperSimpleNet, tmp_path: Path
) -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[40:60, 60:78] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    item = Item(items[0].image, 1, tmp_path / "mask.png")
    with cached([item], net, geometry=Geometry((64, 64), (0, 0, 32, 32))) as cache:
        batch = everything(cache)
        assert "4 of them without known defect pixels" in cache.describe()
    assert batch.label.all()
    assert not batch.known.any()
    assert not batch.mask.any()


def test_a_defective_picture_without_a_mask_is_of_unknown_pixel_truth(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    with cached([items[0], Item(items[1].image, 1)], net, flips=False) as cache:
        batch = everything(cache)
    assert batch.known.tolist() == [True, False]
    assert batch.label.tolist() == [False, True]
    assert not batch.mask.any()
    assert (batch.weight == 1).all()


def test_masks_grow_and_weigh_only_where_asked(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    defective = [each for each in items if each.is_anomalous]
    with (
        cached(defective, net, flips=False) as journal,
        cached(defective, net, flips=False, dilate=False, weighted=False) as conference,
    ):
        grown, plain = everything(journal), everything(conference)
    assert int(grown.mask.sum()) > int(plain.mask.sum())
    assert (plain.weight == 1).all()
    assert (grown.weight != 1).any()
    assert float(grown.weight.max()) <= 3.0


def test_the_memory_mapped_cache_gives_the_same_batches_and_leaves_nothing_behind(
    items: tuple[Item, ...],
    net: SuperSimpleNet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with cached(items, net) as in_memory, cached(items, net, memory_limit_bytes=0) as on_disk:
        assert "in memory" in in_memory.describe()
        assert f"memory-mapped in {tmp_path}" in on_disk.describe()
        written = sum(file.stat().st_size for file in tmp_path.rglob("layer*"))
        assert written == on_disk.size_bytes == in_memory.size_bytes
        for found, wanted in zip(
            fields(everything(on_disk)), fields(everything(in_memory)), strict=True
        ):
            assert torch.equal(found, wanted)
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_that_of_both_layers_in_half_precision(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    with cached(items, net) as cache:
        samples = 10 + 4 * 5
        assert cache.size_bytes == samples * 2 * (48 * 8 * 8 + 192 * 4 * 4)
        assert cache.describe() == (
            "cached the backbone's outputs of 30 samples (10 normal, 20 defective, four flips of "
            "each defective one) in half precision: 0.4 MB in memory"
        )


@pytest.mark.parametrize("most", [256, 4])
def test_feature_statistics_are_those_of_the_normal_pictures_features(
    items: tuple[Item, ...], net: SuperSimpleNet, most: int
) -> None:
    with cached(items, net) as cache:
        mean, std = cache.feature_statistics(net.features, CPU, most=most)
        rows = cache.normals if most > 10 else cache.normals[[0, 3, 6, 9]]
        batch = cache.batch(rows, CPU)
    feature = net.features.pooled(batch.layer2, batch.layer3).double()
    assert torch.allclose(mean.double(), feature.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(std.double(), feature.std((0, 2, 3), correction=0), atol=1e-5)


def test_a_batch_is_a_copy_in_the_order_that_was_asked_for(
    items: tuple[Item, ...], net: SuperSimpleNet
) -> None:
    with cached(items, net) as cache:
        rows = np.array([4, 0, 4])
        batch = cache.batch(rows, CPU)
        assert torch.equal(batch.layer2[0], batch.layer2[2])
        batch.layer2.zero_()
        batch.mask.fill_(True)
        assert cache.batch(rows, CPU).layer2.any()
        assert not cache.batch(cache.normals, CPU).mask.any()


def test_progress_counts_every_sample(items: tuple[Item, ...], net: SuperSimpleNet) -> None:
    seen: list[tuple[int, int]] = []
    with cached(items, net, batch_size=16, on_progress=lambda *now: seen.append(now)):
        assert seen == [(16, 30), (30, 30)]


def test_a_picture_that_cannot_be_read_is_named_and_no_file_stays(
    items: tuple[Item, ...],
    net: SuperSimpleNet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(PictureError, match="broken"):
        cached([items[0], Item(broken, 0)], net, batch_size=1, memory_limit_bytes=0)
    assert list(scratch.iterdir()) == []


def test_no_pictures_are_no_cache(net: SuperSimpleNet) -> None:
    with pytest.raises(DatasetError, match="no training pictures"):
        cached([], net)


def test_a_backbone_of_a_fixed_size_is_refused_before_the_first_picture(
    items: tuple[Item, ...], net: SuperSimpleNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(image: torch.Tensor) -> None:
        raise AssertionError("Input height (64) doesn't match model (224).")

    monkeypatch.setattr(net.backbone, "forward", refuse)
    with pytest.raises(ConfigError, match=r"cannot be used at 64x64.*224"):
        cached(items, net)
