from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.variant import Variant
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.regime import Regime
from ssn_edge.training.request import RunRequest, request_from_dict, request_to_dict
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import CheckpointError
from ssn_edge_runtime.preprocess import Geometry, Interpolation


def test_a_request_survives_json_with_every_field(tmp_path: Path) -> None:
    request = RunRequest(
        data=tmp_path / "parts.csv",
        columns={"label": "defect"},
        mask_above=0,
        fold=2,
        mask_split=20,
        backbone="resnet18",
        backbone_weights=tmp_path / "w.safetensors",
        geometry=Geometry((96, 64), (1, 2, 30, 40), Interpolation.LINEAR),
        variant=Variant.CONFERENCE,
        widths=HeadWidths(24, 16),
        labels=LabelChoice(Regime.MIXED, masks=2, max_normal=7, max_anomalous=3),
        scoring=ScoringMethod.MAP_MAX,
        calibration_share=0.0,
        split_seed=5,
        device="cpu",
        settings=TrainingSettings(epochs=9, seed=4, noise_std=0.1, perlin_threshold=0.3),
    )
    assert request_from_dict(json.loads(json.dumps(request_to_dict(request)))) == request
    plain = RunRequest(data=tmp_path)
    assert request_from_dict(json.loads(json.dumps(request_to_dict(plain)))) == plain


@pytest.mark.parametrize(
    "change",
    [{"variant": "other"}, {"widths": {"wrong": 1}}, {"roi_xywh": 3}, {"settings": {"x": 1}}],
)
def test_a_request_that_was_mangled_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    document = {**request_to_dict(RunRequest(data=tmp_path)), **change}
    with pytest.raises(CheckpointError, match="lacks or misstates"):
        request_from_dict(document)


def test_a_request_that_lacks_a_field_is_refused(tmp_path: Path) -> None:
    document = request_to_dict(RunRequest(data=tmp_path))
    del document["geometry" if "geometry" in document else "interpolation"]
    with pytest.raises(CheckpointError, match="interpolation"):
        request_from_dict(document)
