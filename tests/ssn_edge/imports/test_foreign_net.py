"""An imported net gives what the origin's code gives; a file that does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ssn_edge.imports.foreign_file import read_foreign_file
from ssn_edge.imports.foreign_names import Origin
from ssn_edge.imports.foreign_net import ImportedNet, NetChoice, import_net
from ssn_edge.model.anomaly_map import MapOutput
from ssn_edge.model.backbone import normalise
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.variant import Variant
from ssn_edge.training.regime import Regime
from ssn_edge_runtime.errors import CheckpointError, ConfigError, SsnEdgeError
from ssn_edge_runtime.preprocess import Geometry, Interpolation, preprocess
from tests.ssn_edge.imports.foreign_nets import (
    BACKBONE,
    WIDTHS,
    ForeignNet,
    make_net,
    normalised,
    rgb,
)

SIZE_HW = (64, 96)
VARIANTS = [Variant.JOURNAL, Variant.CONFERENCE]
MakeFile = Callable[..., Path]


@cache
def foreign(origin: Origin, variant: Variant = Variant.JOURNAL) -> ForeignNet:
    return make_net(adapts=variant is Variant.CONFERENCE, anomalib=origin is Origin.ANOMALIB)


def imported(
    path: Path, folder: Path, origin: Origin, *, choice: NetChoice | None = None
) -> ImportedNet:
    """With what a person would say of a file of this origin."""
    if choice is None and origin is Origin.AUTHORS:
        choice = authors_choice(folder)
    return import_net(read_foreign_file(path), choice or NetChoice(), SIZE_HW)


def authors_choice(folder: Path, variant: Variant = Variant.JOURNAL) -> NetChoice:
    return NetChoice(
        variant=variant,
        regime=Regime.FULL,
        backbone=BACKBONE,
        backbone_weights=foreign(Origin.AUTHORS).backbone_file(folder / "backbone.safetensors"),
    )


def authors_file(folder: Path, net: ForeignNet) -> Path:
    torch.save(net.authors_state(), folder / "weights.pt")
    return folder / "weights.pt"


def anomalib_file(folder: Path, net: ForeignNet, **settings: object) -> Path:
    torch.save(net.anomalib_checkpoint(**settings), folder / "model.ckpt")
    return folder / "model.ckpt"


def assert_agrees(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def assert_gives_the_same(ours: ImportedNet, theirs: ForeignNet) -> None:
    image = torch.randn(2, 3, *SIZE_HW, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        anomaly_map, score = ours.net(image)
    wanted_map, wanted_score = theirs(image)
    assert float(wanted_map.std()) > 0.01  # something to agree on
    assert_agrees(ours.net.map_of_origin(anomaly_map), wanted_map)
    assert_agrees(score, wanted_score)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_authors_net_gives_their_map_and_score(tmp_path: Path, variant: Variant) -> None:
    theirs = foreign(Origin.AUTHORS, variant)
    ours = imported(
        authors_file(tmp_path, theirs),
        tmp_path,
        Origin.AUTHORS,
        choice=authors_choice(tmp_path, variant),
    )
    assert_gives_the_same(ours, theirs)
    architecture = ours.net.architecture
    assert architecture.widths == HeadWidths(*WIDTHS)
    assert (architecture.align_corners, architecture.map_output) == (True, MapOutput.LOGITS)
    assert (ours.origin, ours.interpolation) == (Origin.AUTHORS, Interpolation.LINEAR)
    assert ours.regime is Regime.FULL


@pytest.mark.parametrize("variant", VARIANTS)
def test_anomalibs_net_gives_its_map_and_score(tmp_path: Path, variant: Variant) -> None:
    theirs = foreign(Origin.ANOMALIB, variant)
    ours = imported(anomalib_file(tmp_path, theirs), tmp_path, Origin.ANOMALIB)
    assert_gives_the_same(ours, theirs)
    architecture = ours.net.architecture
    assert architecture.variant is variant
    assert (architecture.align_corners, architecture.map_output) == (False, MapOutput.SIGMOID)
    assert ours.interpolation is Interpolation.LINEAR_ANTIALIASED
    assert ours.regime is Regime.UNSUPERVISED
    assert ours.backbone_weights == "file model.ckpt"


def test_the_wrong_variant_or_corner_rule_would_be_seen(tmp_path: Path) -> None:
    """The tests above can fail: the difference is far beyond their tolerance."""
    theirs = foreign(Origin.AUTHORS)
    path = authors_file(tmp_path, theirs)
    choice = authors_choice(tmp_path, Variant.CONFERENCE)
    with pytest.raises(AssertionError):
        assert_gives_the_same(imported(path, tmp_path, Origin.AUTHORS, choice=choice), theirs)
    ours = imported(path, tmp_path, Origin.AUTHORS)
    ours.net.features.align_corners = False
    with pytest.raises(AssertionError):
        assert_gives_the_same(ours, theirs)


def test_frames_are_resized_as_the_authors_do(tmp_path: Path) -> None:
    theirs = foreign(Origin.AUTHORS)
    ours = imported(authors_file(tmp_path, theirs), tmp_path, Origin.AUTHORS)
    frame = np.random.default_rng(2).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    small = cv2.resize(frame, SIZE_HW[::-1], interpolation=cv2.INTER_LINEAR)
    wanted_map, wanted_score = theirs(normalised(rgb(small)))
    found_map, found_score = judged(ours, frame)
    assert_agrees(found_map, wanted_map)
    assert_agrees(found_score, wanted_score)


def test_frames_are_resized_as_anomalib_does_but_for_rounding_to_levels(tmp_path: Path) -> None:
    theirs = foreign(Origin.ANOMALIB)
    ours = imported(anomalib_file(tmp_path, theirs), tmp_path, Origin.ANOMALIB)
    frame = np.random.default_rng(2).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    small = F.interpolate(rgb(frame), SIZE_HW, mode="bilinear", antialias=True)
    wanted, _ = theirs(normalised(small))

    def error(interpolation: Interpolation) -> float:
        return float((judged(ours, frame, interpolation)[0] - wanted).abs().max())

    rounding = error(Interpolation.LINEAR_ANTIALIASED)
    assert rounding < 0.01 * float(wanted.abs().max())
    assert rounding < 0.05 * error(Interpolation.LINEAR)


def judged(
    ours: ImportedNet, frame: np.ndarray, interpolation: Interpolation | None = None
) -> tuple[Tensor, Tensor]:
    geometry = Geometry(SIZE_HW, interpolation=interpolation or ours.interpolation)
    pixels = torch.from_numpy(preprocess(frame, geometry))[None]
    with torch.no_grad():
        anomaly_map, score = ours.net(normalise(pixels, ours.net.backbone.normalisation))
    return ours.net.map_of_origin(anomaly_map), score


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_anomalibs_weights_alone_are_taken_when_the_rest_is_said(
    tmp_path: Path, suffix: str
) -> None:
    theirs = foreign(Origin.ANOMALIB, Variant.CONFERENCE)
    path = tmp_path / f"state_dict{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.anomalib_state(), path)
    with pytest.raises(ConfigError, match=r"--variant journal or conference .* adapt_cls_features"):
        imported(path, tmp_path, Origin.ANOMALIB, choice=NetChoice(backbone=BACKBONE))
    choice = NetChoice(variant=Variant.CONFERENCE, backbone=BACKBONE)
    assert_gives_the_same(imported(path, tmp_path, Origin.ANOMALIB, choice=choice), theirs)


def test_a_backbone_in_one_shell_less_is_taken(tmp_path: Path) -> None:
    theirs = foreign(Origin.ANOMALIB)
    checkpoint = theirs.anomalib_checkpoint()
    checkpoint["state_dict"] = {
        name.replace("feature_extractor.feature_extractor.", "feature_extractor.", 1): value
        for name, value in theirs.anomalib_state().items()
    }
    torch.save(checkpoint, tmp_path / "model.ckpt")
    ours = imported(tmp_path / "model.ckpt", tmp_path, Origin.ANOMALIB)
    assert_gives_the_same(ours, theirs)


def test_what_a_person_says_of_the_map_and_the_regime_is_kept(tmp_path: Path) -> None:
    path = anomalib_file(tmp_path, foreign(Origin.ANOMALIB), supervised=True)
    ours = imported(path, tmp_path, Origin.ANOMALIB)
    assert ours.regime is Regime.FULL
    choice = NetChoice(map_output=MapOutput.LOGITS, regime=Regime.UNSUPERVISED)
    ours = imported(path, tmp_path, Origin.ANOMALIB, choice=choice)
    assert ours.net.architecture.map_output is MapOutput.LOGITS
    assert ours.regime is Regime.UNSUPERVISED


def test_random_numbers_of_others_are_not_touched(tmp_path: Path) -> None:
    path = anomalib_file(tmp_path, foreign(Origin.ANOMALIB))
    before = torch.get_rng_state()
    imported(path, tmp_path, Origin.ANOMALIB)
    assert torch.equal(torch.get_rng_state(), before)


def refusal(
    path: Path,
    folder: Path,
    origin: Origin,
    kind: type[SsnEdgeError] = CheckpointError,
    choice: NetChoice | None = None,
) -> str:
    with pytest.raises(kind) as caught:
        imported(path, folder, origin, choice=choice)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_authors_file_needs_variant_and_regime_from_a_person(tmp_path: Path) -> None:
    path = authors_file(tmp_path, foreign(Origin.AUTHORS))
    message = refusal(path, tmp_path, Origin.AUTHORS, ConfigError, NetChoice())
    assert "--variant journal or conference" in message
    assert "--regime unsupervised, weak, mixed or full" in message
    choice = NetChoice(variant=Variant.JOURNAL)
    assert "--variant" not in refusal(path, tmp_path, Origin.AUTHORS, ConfigError, choice)


@pytest.mark.parametrize("origin", Origin)
def test_a_missing_a_surplus_and_a_bent_tensor_are_named(tmp_path: Path, origin: Origin) -> None:
    net = foreign(origin)
    state = dict(net.authors_state() if origin is Origin.AUTHORS else net.anomalib_state())
    head = "discriminator.seg.1" if origin is Origin.AUTHORS else "model.segdec.seg_head.1"
    name = f"{head}.running_var"
    path = tmp_path / "w.pt"
    choice = NetChoice(variant=Variant.JOURNAL, regime=Regime.FULL, backbone=BACKBONE)

    def message(changed: dict[str, Tensor]) -> str:
        torch.save(changed, path)
        return refusal(path, tmp_path, origin, choice=choice)

    less = {key: value for key, value in state.items() if key != name}
    assert f"{origin.value}, lacks '{name}'; is it whole" in message(less)
    more = {**state, "model.memory_bank": torch.zeros(1)}
    assert "not known here: 'model.memory_bank'" in message(more)
    bent = message({**state, name: torch.zeros(5)})
    assert f"'{name}' has shape (5,), (24,) fits" in bent
    assert "has shape (), " in message({**state, f"{head}.weight": torch.tensor(1.0)})


@pytest.mark.parametrize("origin", Origin)
def test_a_tensor_of_the_wrong_rank_is_refused_where_widths_are_read(
    tmp_path: Path, origin: Origin
) -> None:
    net = foreign(origin)
    state = dict(net.authors_state() if origin is Origin.AUTHORS else net.anomalib_state())
    bias = next(key for key in state if key.endswith(("seg.0.bias", "seg_head.0.bias")))
    torch.save({**state, bias: torch.zeros(0)}, tmp_path / "w.pt")
    choice = NetChoice(variant=Variant.JOURNAL, regime=Regime.FULL, backbone=BACKBONE)
    assert "has shape" in refusal(tmp_path / "w.pt", tmp_path, origin, choice=choice)


def test_a_backbone_that_lacks_or_adds_a_tensor_is_named(tmp_path: Path) -> None:
    net = foreign(Origin.ANOMALIB)
    state = net.anomalib_state()
    inner = "model.feature_extractor.feature_extractor.feature_extractor."
    path = tmp_path / "model.ckpt"

    def message(changed: dict[str, Tensor]) -> str:
        torch.save({**net.anomalib_checkpoint(), "state_dict": changed}, path)
        return refusal(path, tmp_path, Origin.ANOMALIB)

    less = {key: value for key, value in state.items() if not key.endswith("stem.bn.running_mean")}
    assert "backbone test_byobnet, lacks 'stem.bn.running_mean'" in message(less)
    more = {**state, f"{inner}stages_9.0.conv1.weight": torch.zeros(1)}
    assert "not known here: 'stages_9.0.conv1.weight'" in message(more)
    bent = {**state, f"{inner}stem.conv.weight": torch.zeros(1)}
    assert "'stem.conv.weight' has shape (1,), " in message(bent)
    twice = {**state, "model.feature_extractor.feature_extractor.stem.bn.bias": torch.zeros(9)}
    assert "two tensors for 'stem.bn.bias'" in message(twice)


def test_another_blur_of_the_map_is_refused(tmp_path: Path) -> None:
    net = foreign(Origin.ANOMALIB)
    name = "model.anomaly_map_generator.smoothing.kernel"
    for kernel in (torch.full((1, 1, 25, 25), 1 / 625), torch.ones(1, 1, 1, 1)):
        state = {**net.anomalib_state(), name: kernel}
        torch.save({**net.anomalib_checkpoint(), "state_dict": state}, tmp_path / "model.ckpt")
        message = refusal(tmp_path / "model.ckpt", tmp_path, Origin.ANOMALIB)
        assert "sigma 4 over 25 x 25 pixels" in message


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"model.memory_bank": torch.zeros(3)}, tmp_path / "patchcore.pt")
    message = refusal(tmp_path / "patchcore.pt", tmp_path, Origin.ANOMALIB, choice=NetChoice())
    assert "'model.memory_bank'" in message
    assert "none is of a SuperSimpleNet" in message


@pytest.mark.parametrize(
    ("settings", "choice", "words"),
    [
        ({}, NetChoice(variant=Variant.CONFERENCE), "--variant conference .* says journal"),
        ({}, NetChoice(backbone="resnet34"), "--backbone resnet34 .* says test_byobnet"),
        ({}, NetChoice(backbone_weights=Path("w.pth")), "--backbone-weights w.pth.* leave"),
        (
            {"layers": ["layer1", "layer2"]},
            NetChoice(),
            "layers layer1, layer2 .* stages.1, stages.2",
        ),
        ({"backbone": "resnet99"}, NetChoice(), "'resnet99'"),
        ({"backbone": "tf_efficientnet_lite0"}, NetChoice(), "both origins take ImageNet's"),
    ],
)
def test_what_the_file_says_is_not_overruled(
    tmp_path: Path, settings: dict[str, object], choice: NetChoice, words: str
) -> None:
    path = anomalib_file(tmp_path, foreign(Origin.ANOMALIB), **settings)
    with pytest.raises(ConfigError, match=words):
        imported(path, tmp_path, Origin.ANOMALIB, choice=choice)


def test_a_backbone_of_other_channels_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = authors_file(tmp_path, foreign(Origin.AUTHORS))
    choice = NetChoice(variant=Variant.JOURNAL, regime=Regime.FULL, backbone="test_efficientnet")
    message = refusal(path, tmp_path, Origin.AUTHORS, choice=choice)
    assert "192 channels, test_efficientnet gives 80" in message
    assert "--backbone NAME" in message


def test_the_wrong_origin_is_told_by_what_is_lacking(tmp_path: Path) -> None:
    path = authors_file(tmp_path, foreign(Origin.AUTHORS))
    choice = NetChoice(origin=Origin.ANOMALIB, variant=Variant.JOURNAL, backbone=BACKBONE)
    message = refusal(path, tmp_path, Origin.ANOMALIB, choice=choice)
    assert "as a checkpoint of anomalib, lacks 'model.adaptor.projection.bias'" in message
