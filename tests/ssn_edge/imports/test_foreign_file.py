"""Tensors and plain values are read, objects never; whatever else is refused by name."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from ssn_edge.imports.foreign_file import read_foreign_file
from ssn_edge_runtime.errors import CheckpointError

TENSORS = {"a.weight": torch.arange(3.0), "a.bias": torch.tensor(4)}


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_foreign_file(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", ["state dict", "lightning", "safetensors"])
def test_tensors_come_by_name_from_each_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(TENSORS, path)
    elif form == "state dict":
        torch.save(TENSORS, path)
    else:
        torch.save({"state_dict": TENSORS, "hyper_parameters": {"supervised": True}}, path)
    file = read_foreign_file(path)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(file.tensors) == set(TENSORS)
    assert all(torch.equal(file.tensors[name], value) for name, value in TENSORS.items())
    assert file.hyper_parameters == ({"supervised": True} if form == "lightning" else None)


@pytest.mark.parametrize("form", ["checkpoint", "bare pickle", "old format"])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, form: str
) -> None:
    path, made = tmp_path / "weights.pt", tmp_path / "made"
    content = {"state_dict": TENSORS, "hyper_parameters": Attack(made)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Attack(made), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "checkpoint")
    message = refusal(path)
    assert not made.exists()
    assert f"{os.mkdir.__module__}.mkdir" in message
    pickle.loads(pickle.dumps(Attack(made)))
    assert made.is_dir()  # it would have worked


def test_an_object_in_a_checkpoint_is_named_with_the_way_to_keep_the_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS, "hyper_parameters": {"transform": nn.ReLU()}}, path)
    message = refusal(path)
    assert "torch.nn.modules.activation.ReLU" in message
    command = message.split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    exec(command, {})
    converted = read_foreign_file(tmp_path / "state_dict.pt")
    assert set(converted.tensors) == set(TENSORS)


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, {"state_dict": {}}, torch.zeros(2)]
)
def test_what_is_not_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pt")
    assert "not a dictionary of tensors by name" in refusal(tmp_path / "odd.pt")


def test_a_file_that_is_not_there_is_told_with_what_to_name(tmp_path: Path) -> None:
    assert "weights.pt" in refusal(tmp_path / "none.ckpt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-40])
    assert "cut short" in refusal(path)


@given(st.binary(max_size=200), st.sampled_from([".pt", ".ckpt", ".safetensors"]))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_other_bytes_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(content)
    refusal(path)
