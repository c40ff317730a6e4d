from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssn_edge.model.backbone import Backbone
from ssn_edge.reproduction import PublishedDataset, ReproductionRequest

TINY_BACKBONE = "test_resnet"
"""timm's smallest network with strides 8 and 16."""

Ask = Callable[..., ReproductionRequest]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
def ask(tiny_weights: Path) -> Ask:
    """Asks for runs of one epoch at 32 pixels with two seeds."""

    def make(dataset: PublishedDataset, root: Path, **others: object) -> ReproductionRequest:
        given = {
            "epochs": 1,
            "seeds": (0, 1),
            "input_size_hw": (32, 32),
            "backbone_weights": tiny_weights,
            **others,
        }
        return ReproductionRequest(
            dataset=dataset,
            root=root,
            backbone=TINY_BACKBONE,
            batch_size=2,
            device="cpu",
            **given,  # type: ignore[arg-type]
        )

    return make
