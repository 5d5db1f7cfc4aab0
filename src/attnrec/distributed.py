"""The processes of one `torchrun`: who does what, and how they tell each other."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from attnrec.errors import AttnrecError

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """The processes that work together; a single one where there is no torchrun.

    Attributes:
        rank: Number of this process, from 0.
        size: Processes in all.
        local_rank: Number of this process on its machine.
        local_size: Processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and packs."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `size`-th of some items, from the rank's own on."""
        return items[self.rank :: self.size]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, on every process, by rank. All must call it.

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
            raise AttnrecError(f"rank {self.rank}: another rank has ended ({str(error).splitlines()[0]})") from None
        return values

    def from_first(self, value: Any) -> Any:
        """The first process's value, on every process. All must call it. Raises as `gather`."""
        return self.gather(value if self.is_first else None)[0]


def world_of_torchrun() -> World:
    """What torchrun's environment says, without joining anyone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return World(*(int(os.environ[name]) for name in names))


@contextlib.contextmanager
def joined_world() -> Iterator[World]:
    """The processes of this torchrun, connected while the block runs."""
    world = world_of_torchrun()
    if world.size == 1:
        yield world
        return
    import datetime

    import torch.distributed as dist

    # Ranks wait for the slowest of them, which may have hours of video more than the others.
    dist.init_process_group("gloo", timeout=datetime.timedelta(days=7))
    try:
        yield world
    finally:
        dist.destroy_process_group()
