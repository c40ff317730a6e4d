from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge.model.backbone import GPU_DEFAULT
from ssn_edge.model.variant import Variant
from ssn_edge.reproduction import (
    PublishedDataset,
    ReproductionRequest,
    choose_masks,
    default_output,
    protocol_of,
)
from ssn_edge.reproduction.request import planned_runs
from ssn_edge.training.regime import Regime, supervision
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.preprocess import Interpolation

MVTEC, VISA, KSDD2, SENSUM = PublishedDataset
ROOT = Path("data")


def test_each_data_set_has_its_published_parts() -> None:
    counts = {each: (len(protocol_of(each).parts), len(protocol_of(each).groups))
              for each in PublishedDataset}  # fmt: skip
    assert counts == {MVTEC: (15, 15), VISA: (12, 12), KSDD2: (1, 1), SENSUM: (6, 2)}


@pytest.mark.parametrize("dataset", PublishedDataset)
def test_a_run_trains_as_the_authors_did(dataset: PublishedDataset) -> None:
    request = ReproductionRequest(dataset, ROOT, choose_masks(dataset, None, None))
    runs = list(planned_runs(request, Path("out")))
    assert len(runs) == 5 * len(request.parts)
    for run in runs:
        asked = run.request
        assert asked.backbone == GPU_DEFAULT
        assert asked.calibration_share == 0  # the whole training part
        assert asked.geometry.interpolation is Interpolation.LINEAR
        assert asked.geometry.roi_xywh is None
        assert asked.widths is None
        assert asked.settings == TrainingSettings(
            epochs=300,
            batch_size=32,
            seed=run.seed,
            perlin_threshold=asked.settings.perlin_threshold,
        )


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [
        (MVTEC, {(256, 256)}),
        (VISA, {(256, 256)}),
        (KSDD2, {(640, 232)}),
        (SENSUM, {(320, 192), (144, 144)}),
    ],
)
def test_the_network_input_has_the_published_size(
    dataset: PublishedDataset, sizes: set[tuple[int, int]]
) -> None:
    request = ReproductionRequest(dataset, ROOT)
    runs = planned_runs(request, Path("out"))
    assert {run.request.geometry.input_size_hw for run in runs} == sizes


@pytest.mark.parametrize(
    ("dataset", "masks", "threshold"),
    [
        (MVTEC, None, 0.2),
        (VISA, None, 0.6),
        (KSDD2, 0, 0.2),
        (KSDD2, 16, 0.6),
        (KSDD2, 246, 0.6),
        (SENSUM, 20, 0.6),
    ],
)
def test_synthetic_regions_have_the_published_size(
    dataset: PublishedDataset, masks: int | None, threshold: float
) -> None:
    request = ReproductionRequest(dataset, ROOT, masks)
    run = next(planned_runs(request, Path("out")))
    plan = supervision(request.regime, request.variant)
    assert (run.request.settings.perlin_threshold or plan.perlin_threshold) == threshold


def test_the_folds_of_a_product_are_runs_of_their_own() -> None:
    request = ReproductionRequest(SENSUM, ROOT, 20, groups=("capsule",), seeds=(4,))
    runs = list(planned_runs(request, Path("out")))
    assert [(run.request.data, run.request.fold, run.request.mask_split) for run in runs] == [
        (ROOT / "capsule", fold, 20) for fold in range(3)
    ]
    assert [run.folder for run in runs] == [Path(f"out/capsule-fold{n}/seed-4") for n in range(3)]


def test_every_part_comes_once_before_the_second_seed() -> None:
    request = ReproductionRequest(MVTEC, ROOT, groups=("tile", "cable"), seeds=(3, 1))
    order = [(run.seed, run.part.name) for run in planned_runs(request, Path())]
    assert order == [(3, "cable"), (3, "tile"), (1, "cable"), (1, "tile")]


@pytest.mark.parametrize(
    ("dataset", "regime", "masks", "wanted"),
    [
        (MVTEC, None, None, None),
        (VISA, Regime.UNSUPERVISED, None, None),
        (KSDD2, None, None, 246),
        (KSDD2, None, 16, 16),
        (KSDD2, Regime.UNSUPERVISED, None, None),
        (KSDD2, Regime.WEAK, None, 0),
        (KSDD2, Regime.WEAK, 0, 0),
        (KSDD2, Regime.MIXED, 126, 126),
        (KSDD2, Regime.FULL, None, 246),
        (SENSUM, None, None, 100),
        (SENSUM, Regime.MIXED, 40, 40),
    ],
)
def test_regime_and_masks_name_one_experiment(
    dataset: PublishedDataset, regime: Regime | None, masks: int | None, wanted: int | None
) -> None:
    chosen = choose_masks(dataset, regime, masks)
    assert chosen == wanted
    found = ReproductionRequest(dataset, ROOT, chosen).regime
    assert regime in (None, found)


@pytest.mark.parametrize(
    ("dataset", "regime", "masks", "words"),
    [
        (MVTEC, Regime.FULL, None, "MVTec AD has no defective training pictures"),
        (VISA, None, 16, "VisA has no defective training pictures"),
        (KSDD2, None, 20, "masks 20: .* published for 0, 16, 53, 126, 246"),
        (SENSUM, None, 30, "masks 30: .* published for 0, 20, 40, 60, 80, 100"),
        (KSDD2, Regime.MIXED, None, "regime mixed needs a choice of masks: 16, 53, 126"),
        (SENSUM, Regime.MIXED, 100, "regime mixed needs a choice of masks: 20, 40, 60, 80"),
        (KSDD2, Regime.WEAK, 16, "regime weak and masks 16 contradict"),
        (KSDD2, Regime.FULL, 16, "regime full and masks 16 contradict"),
        (KSDD2, Regime.UNSUPERVISED, 16, "regime unsupervised and masks 16 contradict"),
    ],
)
def test_labels_that_were_not_published_are_refused(
    dataset: PublishedDataset, regime: Regime | None, masks: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_masks(dataset, regime, masks)


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        (MVTEC, {"groups": ("botle",)}, "'botle' is none of the 15 .* did you mean 'bottle'"),
        (KSDD2, {"groups": ("all",)}, "KolektorSDD2 has no parts; leave 'all' out"),
        (MVTEC, {"seeds": ()}, "one or more are wanted"),
        (MVTEC, {"seeds": (1, 1)}, "each once"),
        (MVTEC, {"masks": 0}, "no defective training pictures"),
        (MVTEC, {"epochs": 0}, r"epochs \(0\)"),
        (MVTEC, {"input_size_hw": (8, 8)}, "8 x 8"),
        (MVTEC, {"learning_rate_scale": 0.0}, "learning rate scale"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_before_any_run(
    dataset: PublishedDataset, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ReproductionRequest(dataset, ROOT, **options)  # type: ignore[arg-type]


def test_the_same_experiment_finds_its_folder_again() -> None:
    folders = [
        default_output(ReproductionRequest(KSDD2, ROOT, 53)),
        default_output(ReproductionRequest(KSDD2, ROOT, 126)),
        default_output(ReproductionRequest(KSDD2, ROOT)),
        default_output(ReproductionRequest(MVTEC, ROOT, variant=Variant.CONFERENCE)),
    ]
    assert [folder.name for folder in folders] == [
        "reproduce-ksdd2-mixed-53",
        "reproduce-ksdd2-mixed-126",
        "reproduce-ksdd2-unsupervised",
        "reproduce-mvtec-unsupervised-conference",
    ]
