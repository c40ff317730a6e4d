"""Checkpoints are whole, unchanged and ours, or they are refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.checkpoint import (
    architecture_to_dict,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from ssn_edge_runtime.errors import CheckpointError, StorageError

TENSORS = {
    "a": torch.arange(3.0),
    "b": torch.tensor(5, dtype=torch.int64),
    "c": torch.tensor([True, False]),
}
HEADER = {"note": "x", "steps": 7, "share": 0.1}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_tensors(path, TENSORS, HEADER)
    return path


def refusal(path: Path, load: Callable[[Path], object] = load_tensors) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert caught.value.exit_code == 3
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_tensors_and_header_come_back_as_they_were(small: Path) -> None:
    tensors, header = load_tensors(small)
    assert set(tensors) == set(TENSORS)
    for name, value in tensors.items():
        assert torch.equal(value, TENSORS[name])
        assert value.dtype == TENSORS[name].dtype
    assert header == {**HEADER, "schema": 1}


def test_the_same_content_is_the_same_file(small: Path, tmp_path: Path) -> None:
    save_tensors(tmp_path / "again", dict(reversed(TENSORS.items())), HEADER)
    assert (tmp_path / "again").read_bytes() == small.read_bytes()


def test_a_bit_that_changed_anywhere_is_noticed(small: Path) -> None:
    whole = small.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        small.write_bytes(changed)
        with pytest.raises(CheckpointError):
            load_tensors(small)


def test_every_shorter_or_longer_file_is_refused(small: Path) -> None:
    whole = small.read_bytes()
    for length in range(len(whole)):
        small.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_tensors(small)
    small.write_bytes(whole + b"\0")
    refusal(small)


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert "ssn-edge train" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "metadata", [None, {"other": "x"}, {"ssn_edge": "no JSON"}, {"ssn_edge": "[1]"}]
)
def test_a_safetensors_file_of_someone_else_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file(TENSORS, path, metadata=metadata)
    assert "not a checkpoint of ssn-edge" in refusal(path)


def test_another_schema_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "later.safetensors"
    save_file(TENSORS, path, metadata={"ssn_edge": json.dumps({"schema": 2})})
    assert "schema 2; 1 is needed" in refusal(path)


@pytest.fixture
def net(tiny_net: Callable[..., SuperSimpleNet]) -> SuperSimpleNet:
    net = tiny_net(size_hw=(64, 96), variant=Variant.CONFERENCE, align_corners=False)
    net.features.standardise_by(torch.arange(240.0), torch.full((240,), 2.0))
    return net


def test_a_net_comes_back_whole_with_its_architecture(net: SuperSimpleNet, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "net", net.train(), {"regime": "full"})
    loaded = load_checkpoint(tmp_path / "net")
    assert loaded.header["regime"] == "full"
    assert loaded.net.architecture == net.architecture
    assert not loaded.net.training
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for found, wanted in zip(loaded.net(image), net.eval()(image), strict=True):
            assert torch.equal(found, wanted)


def written(
    path: Path, net: SuperSimpleNet, change: Callable[[dict[str, torch.Tensor]], object]
) -> Path:
    tensors = dict(net.state_dict())
    change(tensors)
    save_tensors(path, tensors, {"architecture": architecture_to_dict(net.architecture)})
    return path


def test_a_missing_tensor_is_named(net: SuperSimpleNet, tmp_path: Path) -> None:
    path = written(
        tmp_path / "net", net, lambda tensors: tensors.pop("heads.adaptor.projection.bias")
    )
    message = refusal(path, load_checkpoint)
    assert "lacks 'heads.adaptor.projection.bias' and 0 more" in message


def test_a_surplus_tensor_is_named(net: SuperSimpleNet, tmp_path: Path) -> None:
    path = written(tmp_path / "net", net, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert "unknown tensor 'extra'" in refusal(path, load_checkpoint)


def test_a_tensor_of_another_shape_is_named(net: SuperSimpleNet, tmp_path: Path) -> None:
    path = written(
        tmp_path / "net", net, lambda tensors: tensors.update({"features.mean": torch.zeros(3)})
    )
    assert "'features.mean' has shape (3,), (240,) fits" in refusal(path, load_checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "no_such_network"},
        {"segmentation_width": 0},
        {"variant": "third"},
        {"input_size_hw": [64]},
        {"input_size_hw": None},
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(
    net: SuperSimpleNet, tmp_path: Path, change: dict[str, object]
) -> None:
    architecture = {**architecture_to_dict(net.architecture), **change}
    save_tensors(tmp_path / "net", net.state_dict(), {"architecture": architecture})
    refusal(tmp_path / "net", load_checkpoint)


def test_tensors_without_an_architecture_are_no_net(small: Path) -> None:
    assert "'architecture'" in refusal(small, load_checkpoint)


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_beside_it(
    small: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    whole = small.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((Path, "replace") if failing == "replace" else (os, "fsync")), full)
    with pytest.raises(StorageError, match="No space left"):
        save_tensors(small, TENSORS, {"note": "new"})
    assert small.read_bytes() == whole
    assert [file.name for file in small.parent.iterdir()] == [small.name]
