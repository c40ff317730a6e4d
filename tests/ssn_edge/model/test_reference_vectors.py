"""Features, heads, map and losses against numbers made with the authors' published code."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from ssn_edge.imports.foreign_file import read_foreign_file
from ssn_edge.imports.foreign_names import Origin, heads_from_tensors
from ssn_edge.model.anomaly_map import AnomalyMap
from ssn_edge.model.features import FeatureBuilder
from ssn_edge.model.heads import Heads
from ssn_edge.model.variant import Variant
from ssn_edge.training.losses import classification_loss, segmentation_loss_terms


class Vectors:
    def __init__(self, path: Path, folder: Path) -> None:
        self.weights = folder / "weights.pt"
        with safe_open(path, "pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.variant = (
                Variant.JOURNAL if file.metadata()["variant"] == "jims" else Variant.CONFERENCE
            )

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def heads(self) -> Heads:
        """As imported from the authors' file; its counters are integers there, floats here."""
        state = {}
        for name, value in self.tensors.items():
            if name.startswith("state/"):
                is_counter = name.endswith("num_batches_tracked")
                state[name.removeprefix("state/")] = value.long().squeeze() if is_counter else value
        torch.save(OrderedDict(state), self.weights)
        file = read_foreign_file(self.weights)
        return heads_from_tensors(file.tensors, Origin.AUTHORS, self.variant, file.path)


@pytest.fixture(params=["heads_jims_square", "heads_icpr_rect"])
def vectors(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> Vectors:
    return Vectors(shared / "golden" / f"{request.param}.safetensors", tmp_path)


def assert_agrees(found: Tensor, wanted: Tensor) -> None:
    tolerance = 1e-5 * float(wanted.abs().max())
    assert float((found - wanted.view_as(found)).abs().max()) <= tolerance


def test_evaluation_agrees_with_the_authors_code_to_1e_5(vectors: Vectors) -> None:
    builder = FeatureBuilder((vectors["layer2"].shape[1], vectors["layer3"].shape[1]))
    heads = vectors.heads().eval()
    with torch.no_grad():
        feature = builder(vectors["layer2"], vectors["layer3"])
        assert_agrees(feature, vectors["features"])
        assert_agrees(heads.adaptor(feature), vectors["adapted"])
        map_logits, score_logits = heads(feature)
        assert_agrees(map_logits, vectors["anomaly_map_lowres"])
        assert_agrees(score_logits, vectors["score_logit"])
        size = vectors["anomaly_map"].shape[-2:]
        final = AnomalyMap((size[0], size[1]))(map_logits)
        assert_agrees(final, vectors["anomaly_map"])


def test_training_mode_and_losses_agree_with_the_authors_code_to_1e_5(vectors: Vectors) -> None:
    heads = vectors.heads().train()
    with torch.no_grad():
        map_logits, score_logits = heads(vectors["features"])
        assert_agrees(map_logits, vectors["train/map"])
        assert_agrees(score_logits, vectors["train/score_logit"])
        terms = segmentation_loss_terms(
            map_logits[:, 0], vectors["train/mask"][:, 0] > 0.5, known=torch.ones(2).bool()
        )
        assert_agrees(terms.l1_normal, vectors["train/l1_normal"])
        assert_agrees(terms.l1_anomalous, vectors["train/l1_anomalous"])
        assert_agrees(terms.focal, vectors["train/focal_map"])
        focal = classification_loss(score_logits, vectors["train/label"] > 0.5)
        assert_agrees(focal, vectors["train/focal_score"])
        total = terms.l1_normal + terms.l1_anomalous + terms.focal + focal
        assert_agrees(total, vectors["train/total"])
