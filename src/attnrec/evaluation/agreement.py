"""How alike the attention of runs is that differ by chance alone, such as seeds."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.evaluation.faithfulness import donors_of
from attnrec.evaluation.measures import jensen_shannon, rank_correlation
from attnrec.evaluation.perturb import CHUNK_BLOCKS, donor_blocks
from attnrec.evaluation.report import Agreement
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.training.score import RunBlocks, score_blocks


def attention_agreement(
    runs: Sequence[RunBlocks], device: torch.device, *, seed: int = 0, on_progress: OnProgress = no_progress
) -> list[Agreement]:
    """Compare the attention of every pair of runs that see the same frames in the same blocks.

    Args:
        runs: Runs with attention.
        device: Device to run on.
        seed: Seed of the draw of other videos.
        on_progress: Called after every chunk of blocks.
    """
    pairs = [(one, other) for one, other in combinations(runs, 2) if _see_the_same(one, other)]
    return [_agreement(*pair, device, seed, on_progress) for pair in pairs]


def _see_the_same(one: RunBlocks, other: RunBlocks) -> bool:
    """Whether two runs see the same frames in the same blocks and have the same grid."""
    return (
        one.store.fingerprint == other.store.fingerprint
        and one.store.spec.num_locations == other.store.spec.num_locations
        and np.array_equal(one.table.frames, other.table.frames)
    )


def _agreement(one: RunBlocks, other: RunBlocks, device: torch.device, seed: int, on_progress: OnProgress) -> Agreement:
    look, other_look = (_attention_of(run, device) for run in (one, other))
    table, donor = one.table, donors_of(one, seed)
    elsewhere = donor_blocks(table.video, donor) if donor else None
    names = ("jensen_shannon", "rank_correlation", "other_jensen_shannon", "other_rank_correlation")
    means = {name: _Mean() for name in names}
    for start in range(0, len(table), CHUNK_BLOCKS):
        blocks = np.arange(start, min(start + CHUNK_BLOCKS, len(table)))
        attention = look(blocks)
        for kind, others in (("", blocks), ("other_", None if elsewhere is None else elsewhere[blocks])):
            if others is not None:
                maps = other_look(others)
                means[f"{kind}jensen_shannon"].add(jensen_shannon(attention, maps))
                means[f"{kind}rank_correlation"].add(rank_correlation(attention, maps))
        on_progress(Progress("agreement", int(blocks[-1]) + 1, len(table), f"{one.run.name}, {other.run.name}"))
    return Agreement(
        runs=(str(one.run.path), str(other.run.path)),
        num_maps=means["jensen_shannon"].number,
        **{name: mean.value for name, mean in means.items()},
    )


class _Mean:
    """Running mean of numbers, ignoring NaN."""

    def __init__(self) -> None:
        self.total, self.number = 0.0, 0

    def add(self, values: NDArray[np.float64]) -> None:
        known = values[~np.isnan(values)]
        self.total, self.number = self.total + float(known.sum()), self.number + known.size

    @property
    def value(self) -> float | None:
        return self.total / self.number if self.number else None


def _attention_of(run: RunBlocks, device: torch.device) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """A function from block indices to the run's attention in these blocks, (m, T, L)."""
    model = run.run.load_model(device)
    feed = run.feed(model)

    def look(blocks: NDArray[np.int64]) -> NDArray[np.float32]:
        attention = score_blocks(model, feed, run.table.frames[blocks], keep_attention=True).attention
        assert attention is not None
        return attention

    return look
