"""What the origin calls its map is kept, and leads to no other order of pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssn_edge.model.anomaly_map import MapOutput
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.training.checkpoint import (
    architecture_from_dict,
    architecture_to_dict,
    load_checkpoint,
    save_checkpoint,
)

ARCHITECTURE = Architecture("test_resnet", (64, 64), HeadWidths(4, 4))


@pytest.mark.parametrize("output", MapOutput)
def test_it_survives_the_checkpoint(tmp_path: Path, output: MapOutput) -> None:
    architecture = replace(ARCHITECTURE, map_output=output)
    save_checkpoint(tmp_path / "net", SuperSimpleNet(architecture), {})
    assert load_checkpoint(tmp_path / "net").net.architecture == architecture


def test_a_checkpoint_from_before_has_logits() -> None:
    document = architecture_to_dict(ARCHITECTURE)
    del document["map_output"]
    assert architecture_from_dict(document) == ARCHITECTURE


def test_a_sigmoid_keeps_the_order_and_logits_stay() -> None:
    logits = torch.linspace(-12, 8, 401).view(1, 1, 401)
    net = SuperSimpleNet(replace(ARCHITECTURE, map_output=MapOutput.SIGMOID))
    found = net.map_of_origin(logits)
    assert bool((found.diff() > 0).all())
    assert torch.allclose(found, 1 / (1 + torch.exp(-logits)), rtol=1e-5)
    assert torch.equal(SuperSimpleNet(ARCHITECTURE).map_of_origin(logits), logits)
