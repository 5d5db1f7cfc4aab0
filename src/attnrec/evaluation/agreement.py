"""Whether runs that differ by chance alone look at the same places."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.evaluation.faithfulness import donors_of
from attnrec.evaluation.measures import jensen_shannon, rank_correlation
from attnrec.evaluation.perturb import CHUNK_BLOCKS, donor_blocks
from attnrec.evaluation.report import Agreement
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.training.run import Run
from attnrec.training.score import score_blocks


class AttendingRun(NamedTuple):
    """A run with attention, its store, and the blocks to compare it on."""

    run: Run
    store: FeatureStore
    table: BlockTable


def attention_agreement(
    runs: Sequence[AttendingRun], device: torch.device, *, seed: int = 0, on_progress: OnProgress = no_progress
) -> list[Agreement]:
    """Compare the attention of each two runs that see the same frames in the same blocks; others do not compare.

    Args:
        runs: With attention.
        device: To run on.
        seed: Of the draw of other videos.
        on_progress: Told of every chunk of blocks.
    """
    pairs = [(one, other) for one, other in combinations(runs, 2) if _see_the_same(one, other)]
    return [_agreement(*pair, device, seed, on_progress) for pair in pairs]


def _see_the_same(one: AttendingRun, other: AttendingRun) -> bool:
    """Whether attention on the same places of the same frames can be compared."""
    return (
        one.store.fingerprint == other.store.fingerprint
        and one.store.spec.num_locations == other.store.spec.num_locations
        and np.array_equal(one.table.frames, other.table.frames)
    )


def _agreement(
    one: AttendingRun, other: AttendingRun, device: torch.device, seed: int, on_progress: OnProgress
) -> Agreement:
    look, other_look = (_attention_of(run, device) for run in (one, other))
    table, donor = one.table, donors_of(one.store, np.unique(one.table.video), seed)
    elsewhere = donor_blocks(table.video, donor) if donor else None
    sums = np.zeros((2, 4))
    for start in range(0, len(table), CHUNK_BLOCKS):
        blocks = np.arange(start, min(start + CHUNK_BLOCKS, len(table)))
        attention = look(blocks)
        sums[0] += _sums(attention, other_look(blocks))
        if elsewhere is not None:
            sums[1] += _sums(attention, other_look(elsewhere[blocks]))
        on_progress(Progress("agreement", int(blocks[-1]) + 1, len(table), f"{one.run.name}, {other.run.name}"))
    means = [[None if not row[i + 1] else float(row[i] / row[i + 1]) for i in (0, 2)] for row in sums]
    return Agreement((str(one.run.path), str(other.run.path)), int(sums[0, 1]), *means[0], *means[1])


def _attention_of(run: AttendingRun, device: torch.device) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """From numbers of blocks to the run's attention in them, (m, T, L)."""
    model, feed = run.run.load_model(device), CubeFeed(run.store.features(), run.run.manifest.feature_scale, device)

    def look(blocks: NDArray[np.int64]) -> NDArray[np.float32]:
        attention = score_blocks(model, feed, run.table.frames[blocks], keep_attention=True).attention
        assert attention is not None
        return attention

    return look


def _sums(attention: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum and number of the divergences of maps, and of their correlations as far as there are any, shape (4,)."""
    divergence, correlation = jensen_shannon(attention, other), rank_correlation(attention, other)
    known = correlation[~np.isnan(correlation)]
    return np.array([divergence.sum(), divergence.size, known.sum(), known.size])
