"""Mean attention of runs: over the videos of each class, and at each step of a block.

Legend: V videos, M blocks, T time-steps, K grid side, L = K * K locations, C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.evaluation.evaluate import CHUNK_BLOCKS
from attnrec.evaluation.on_frame import on_frame
from attnrec.runtime import prepare_cpu, resolve_device
from attnrec.training.origin import store_of_run
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run
from attnrec.training.score import RunBlocks, score_blocks

Maps = NDArray[np.float64]


def mean_attention(
    runs: Sequence[Run], part: str, *, store: Path | None = None, device: str = "auto", jobs: int | None = None
) -> tuple[Maps, Maps]:
    """Mean attention of runs with attention, such as the folds of one seed.

    Blocks start T stored frames apart: end to end at the stored rate, overlapping at lower rates.

    Args:
        runs: Runs of one row, with the same grid, block length and classes.
        part: Part of their splits.
        store: The feature store, as in `evaluate`.
        device: Device to run on, see `runtime.resolve_device`.
        jobs: CPU threads.

    Returns:
        For each class the mean over its videos, NaN without videos, shape (C, K, K); and for each step the mean over
        all blocks, shape (T, K, K).

    Raises:
        RunError: A run cannot be used or belongs to another store.
        FeatureStoreError: The store cannot be used.
    """
    prepare_cpu(jobs)
    found = [_means_of(run, part, store, device) for run in runs]
    videos, targets = np.concatenate([of.videos for of in found]), np.concatenate([of.labels for of in found])
    counts = targets.sum(axis=0)[:, None]
    by_class = np.full((targets.shape[1], videos.shape[1]), np.nan)
    np.divide(targets.T @ videos, counts, out=by_class, where=counts > 0)
    spec = runs[0].manifest.features
    by_step = np.sum([of.steps for of in found], axis=0) / sum(of.num_blocks for of in found)
    seen_by_class, seen_by_step = (
        on_frame(maps, spec.grids).reshape(-1, spec.grid_size, spec.grid_size) for maps in (by_class, by_step)
    )
    return seen_by_class, seen_by_step


class _Means(NamedTuple):
    """Means of a run's attention."""

    videos: Maps  # mean attention of each video, shape (V, L)
    labels: NDArray[np.float64]  # 1 for each class of each video, shape (V, C)
    steps: Maps  # sum of the attention over blocks at each step, shape (T, L)
    num_blocks: int


def _means_of(run: Run, part: str, store: Path | None, device: str) -> _Means:
    features, training = store_of_run(run, store), run.manifest.training
    blocks = RunBlocks(run, features, run_blocks(features, training, part, training.block_frames))
    model, table = run.load_model(resolve_device(device)), blocks.table
    feed = blocks.feed(model)
    videos, owner = np.unique(table.video, return_inverse=True)
    L = run.manifest.features.num_locations
    totals, steps = np.zeros((len(videos), L)), np.zeros((training.block_frames, L))
    for start in range(0, len(table), CHUNK_BLOCKS):
        chosen = slice(start, start + CHUNK_BLOCKS)
        scores = score_blocks(model, feed, table.frames[chosen], keep_attention=True)
        assert scores.attention is not None
        np.add.at(totals, owner[chosen], scores.attention.mean(axis=1, dtype=np.float64))
        steps += scores.attention.sum(axis=0, dtype=np.float64)
    means = totals / np.bincount(owner)[:, None]
    return _Means(means, features.label_matrix[videos].astype(np.float64), steps, len(table))
