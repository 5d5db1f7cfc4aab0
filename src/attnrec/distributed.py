"""The processes of one `torchrun`: how they share work and exchange values."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from attnrec.errors import AttnrecError

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """The processes that work together; a single one without torchrun."""

    rank: int = 0  # rank of this process, from 0
    size: int = 1  # number of processes
    local_rank: int = 0  # rank of this process on its machine
    local_size: int = 1  # number of processes on this machine

    @property
    def is_first(self) -> bool:
        """Whether this is the first process, which prints and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of items: every `size`-th, beginning with its rank."""
        return items[self.rank :: self.size]

    def gather(self, value: Any) -> list[Any]:
        """Gather every process's value on every process, by rank. All processes must call it.

        Raises:
            AttnrecError: Another process has ended.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise self.ended(error) from None
        return values

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum values over the processes, in order of rank so that all get equal sums. All processes must call it.

        Raises:
            AttnrecError: Another process has ended.
        """
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        mine = torch.tensor(values, dtype=torch.float64)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        try:
            dist.all_gather(everyones, mine)
        except RuntimeError as error:
            raise self.ended(error) from None
        return torch.stack(everyones).sum(dim=0).tolist()

    def ended(self, error: RuntimeError) -> AttnrecError:
        """The error for a process that waited for another one that has ended."""
        return AttnrecError(f"rank {self.rank}: another rank has ended ({str(error).splitlines()[0]})")

    def rows(self, num_rows: int) -> slice:
        """This process's rows of a batch: consecutive, each row in one process, shares equal up to one row."""
        return slice(num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size)

    def from_first(self, value: Any) -> Any:
        """Send the first process's value to every process. All processes must call it. Raises as `gather`."""
        return self.gather(value if self.is_first else None)[0]


def world_of_torchrun() -> World:
    """The world by torchrun's environment variables, without connecting to other processes."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return World(*(int(os.environ[name]) for name in names))


@contextlib.contextmanager
def joined_world(*, cuda: bool = False) -> Iterator[World]:
    """Connect the processes of this torchrun while the block runs.

    Args:
        cuda: Also exchange tensors of CUDA devices, by NCCL; those of the CPU always use gloo.
    """
    world = world_of_torchrun()
    if world.size == 1:
        yield world
        return
    import datetime

    import torch.distributed as dist

    # Ranks wait for the slowest of them, which may have hours of video more than the others.
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=datetime.timedelta(days=7))
    try:
        yield world
    finally:
        dist.destroy_process_group()
