"""Two processes that share every batch train the net that one process trains alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.model.batch_norm import BatchNorm
from ssn_edge.training.checkpoint import load_checkpoint
from ssn_edge.training.processes import Processes

from .conftest import TINY_BACKBONE

DRIFTING = {
    "heads.adaptor.projection.bias",
    "heads.segmentation.hidden.bias",
    "heads.segmentation.norm.running_mean",
    "heads.classification.hidden.bias",
    "heads.classification.norm.running_mean",
}
"""The gradient of a bias in front of a batch norm is zero but for rounding, which AdamW brings to
the size of a step; the norm takes it out again."""


@given(st.integers(0, 50), st.integers(1, 8))
def test_the_parts_of_a_batch_are_all_of_it_in_order_and_alike(total: int, count: int) -> None:
    parts = [range(total)[Processes(rank, count).share(total)] for rank in range(count)]
    assert [place for part in parts for place in part] == list(range(total))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_moments_over_processes_are_those_of_torchs_own_batch_norm() -> None:
    torch.manual_seed(0)
    values = (3 + 2 * torch.randn(6, 4, 5, 3, dtype=torch.float64)).requires_grad_()
    ours, theirs = BatchNorm(4).double(), torch.nn.BatchNorm2d(4).double()
    ours.sum_over_processes = lambda tensor: tensor
    grown = torch.randn(6, 4, 5, 3, dtype=torch.float64)
    for norm in (ours, theirs):
        torch.nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
        values.grad = None
        (norm(values) * grown).sum().backward()
        norm.values_grad = values.grad
    assert torch.allclose(ours(values), theirs(values))
    assert torch.allclose(ours.values_grad, theirs.values_grad)  # type: ignore[arg-type]
    assert torch.allclose(ours.weight.grad, theirs.weight.grad)  # type: ignore[arg-type]
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(mine, other)
    ours.eval()
    theirs.eval()
    assert torch.allclose(ours(values), theirs(values))


def train(
    folder: Path, tiles: Path, weights: Path, *options: str, processes: int, batch_size: int
) -> None:
    """`ssn-edge train` as a user starts it, with torchrun where there is more than one process."""
    folder.mkdir()
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    command = [
        *start,
        *("ssn_edge", "train", str(tiles), "--output", "run", "--device", "cpu"),
        *("--backbone", TINY_BACKBONE, "--backbone-weights", str(weights)),
        *("--input-size", "64", "--epochs", "3", "--batch-size", str(batch_size)),
        *("--segmentation-width", "8", "--classification-width", "6", *options),
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained ") == 1
    assert done.stderr.count("MVTec layout") == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--regime", "unsupervised"), ("--masks", "2")], ids=str)
def test_two_processes_train_the_net_of_one_with_the_doubled_batch(
    tmp_path: Path, tiles: Path, tiny_weights: Path, options: tuple[str, ...]
) -> None:
    # Seven pictures a step: four and three. The last, partial batch of the eight normals is one
    # picture, and none for the second process.
    train(tmp_path / "one", tiles, tiny_weights, *options, processes=1, batch_size=7)
    train(tmp_path / "two", tiles, tiny_weights, *options, processes=2, batch_size=7)
    one, two = (
        load_checkpoint(tmp_path / name / "run" / "checkpoint.safetensors")
        for name in ("one", "two")
    )
    assert one.header["steps"] == two.header["steps"] >= 6
    assert np.allclose(one.header["losses"], two.header["losses"], rtol=1e-5)
    for name, value in one.net.state_dict().items():
        if name in DRIFTING:
            continue
        scale = float(value.abs().max()) or 1.0
        assert F.l1_loss(two.net.state_dict()[name].double(), value.double()) < 1e-4 * scale, name
    assert not list((tmp_path / "two" / "run").glob("unfinished*"))


def test_processes_on_several_machines_are_refused(
    tmp_path: Path, tiles: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    from ssn_edge.training.processes import joined_processes
    from ssn_edge_runtime.errors import ConfigError

    with (
        pytest.raises(ConfigError, match="4 processes, 2 of them on this machine"),
        joined_processes(),
    ):
        pass
