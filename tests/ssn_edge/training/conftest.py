from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssn_edge.data import Surface, make_samples
from ssn_edge.model.backbone import Backbone
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.request import RunRequest
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.preprocess import Geometry

TINY_BACKBONE = "test_resnet"
"""timm's smallest network with strides 8 and 16: 48 and 192 channels."""
WIDTHS = HeadWidths(8, 6)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_net() -> Callable[..., SuperSimpleNet]:
    """Builds a net for a tiny backbone; the same seed gives the same net."""

    def build(
        *,
        size_hw: tuple[int, int] = (64, 64),
        variant: Variant = Variant.JOURNAL,
        align_corners: bool = True,
        seed: int = 0,
    ) -> SuperSimpleNet:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            architecture = Architecture(TINY_BACKBONE, size_hw, WIDTHS, variant, align_corners)
            return SuperSimpleNet(architecture).eval()

    return build


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour pictures of 64 x 80 pixels: ten good and five defective ones to train."""
    root = tmp_path_factory.mktemp("data") / "tiles"
    make_samples(
        root,
        surface=Surface.WOVEN,
        normal_train=10,
        defective_train=5,
        normal_test=2,
        defective_test=3,
        size_hw=(64, 80),
        seed=1,
    )
    return root


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny backbone in a file."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        state = Backbone(TINY_BACKBONE).extractor.state_dict()
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def request_for(tiles: Path, tiny_weights: Path) -> Callable[..., RunRequest]:
    """Asks for a tiny run of three epochs: supervised, or unsupervised on the normals alone."""

    def ask(
        *,
        supervised: bool = True,
        data: Path | None = None,
        seed: int = 0,
        epochs: int = 3,
        backbone_weights: Path | None = None,
        labels: LabelChoice | None = None,
        **others: object,
    ) -> RunRequest:
        return RunRequest(
            data=data or tiles,
            backbone=TINY_BACKBONE,
            backbone_weights=backbone_weights or tiny_weights,
            geometry=Geometry((64, 64)),
            widths=WIDTHS,
            labels=labels or LabelChoice(max_anomalous=2 if supervised else 0),
            device="cpu",
            settings=TrainingSettings(epochs=epochs, batch_size=6, seed=seed),
            **others,  # type: ignore[arg-type]
        )

    return ask
