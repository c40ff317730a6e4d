"""The processes that train one net together, each with a share of every batch.

Started by torchrun, one process a GPU:

    torchrun --nproc-per-node 4 -m ssn_edge train DATA

Every sum over a batch is a sum over all processes: the batch norms' moments (with their
gradient), the losses' counts, the weights' gradients. So the number of processes changes who
computes what, and not what is computed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from ssn_edge.training.storage import SharedFolder
from ssn_edge_runtime.errors import ConfigError

_PATIENCE = timedelta(minutes=30)
"""For the slowest process to cache its features."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Processes:
    """One of the processes that train together; the only one unless torchrun started more.

    Args:
        rank: This one's number.
        count: All of them.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and speaks to people."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This process's part of so many; parts differ by one at most, first ones are larger."""
        least, more = divmod(total, self.count)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; gradients are summed likewise."""
        return tensor if self.count == 1 else _AllReduce.apply(tensor)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.count == 1:
            return flag
        flags = torch.tensor([float(flag)])
        distributed.all_reduce(flags)
        return bool(flags.item())

    def agree(self, value: _T) -> _T:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: _T) -> list[_T]:
        """Every process's value, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in parameters if p.requires_grad
        ]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        trained = [p for p in parameters if p.requires_grad]
        for parameter, summed in zip(trained, flat.split_with_sizes(sizes), strict=True):
            parameter.grad = summed.view_as(parameter)


ALONE = Processes()


def are_many() -> bool:
    """Whether torchrun started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that torchrun started; alone without it.

    Raises:
        ConfigError: They are on several machines.
    """
    if not are_many():
        yield ALONE
        return
    count, here = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if here != count:
        raise ConfigError(
            f"torchrun started {count} processes, {here} of them on this machine; they share "
            "cached features in a file: start all on one machine"
        )
    if torch.cuda.is_available():
        # Collectives without a tensor of their own, as a barrier, go by the current GPU.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE
    )
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


@contextmanager
def shared_folder(processes: Processes) -> Iterator[SharedFolder | None]:
    """A temporary folder that all processes see; None for one that is alone."""
    if processes.count == 1:
        yield None
        return
    path = Path(
        processes.agree(tempfile.mkdtemp(prefix="ssn-edge-shared-") if processes.is_first else "")
    )
    try:
        yield SharedFolder(path, is_mine=processes.is_first, wait=distributed.barrier)
    finally:
        # Open maps outlive their names, so nobody has to wait for the others.
        if processes.is_first:
            shutil.rmtree(path, ignore_errors=True)


class _AllReduce(torch.autograd.Function):
    """Sum over processes, forwards and backwards: every process's loss depends on the sum."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        distributed.all_reduce(summed)
        return summed
