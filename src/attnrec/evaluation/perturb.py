"""Runs a recogniser over blocks with other attention than its own, and with cells removed.

Legend: M blocks, B blocks in a batch, T time-steps, L locations, D channels, C classes, P levels.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnrec.evaluation.measures import removal_ranks
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.metrics import block_means
from attnrec.models.attention import AttentionLSTM
from attnrec.models.head import RecognizerOutput, class_probs
from attnrec.runtime import derived_seed
from attnrec.training.score import BATCH_BLOCKS, cube_batches, score_blocks

CHUNK_BLOCKS = 4 * BATCH_BLOCKS  # blocks whose attention is in memory at a time
NUM_SCORERS = 3  # untrained scorers
NUM_ORDERS = 3  # random orders of cells
NUM_LEVELS = 8  # steps from all cells to none
CURVE_BLOCKS = 4  # blocks of a video, at most


class Probe(NamedTuple):
    """A recogniser with everything needed to run it over blocks of a store."""

    model: AttentionLSTM  # in evaluation mode
    feed: CubeFeed  # feed of the feature cubes, on the model's device
    multilabel: bool  # use sigmoids instead of the softmax
    last_steps: int  # number of last time-steps of a block to predict from
    seed: int  # seed of everything random

    def attention(self, frames: NDArray[np.int64], model: AttentionLSTM | None = None) -> NDArray[np.float32]:
        """Attention of the model, or of another one, in blocks (M, T), shape (M, T, L)."""
        attention = score_blocks(model or self.model, self.feed, frames, keep_attention=True).attention
        assert attention is not None
        return attention

    def block_probs(self, frames: NDArray[np.int64], given: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities (M, C) of blocks (M, T) under a given attention (M, T, L)."""
        scores = score_blocks(self.model, self.feed, frames, multilabel=self.multilabel, given=given)
        return block_means(scores.frame_probs, self.last_steps)


class ReplacedScores(NamedTuple):
    """The outputs of a recogniser on a chunk of blocks under each attention."""

    blocks: slice
    attention: NDArray[np.float32]  # learned attention, shape (m, T, L)
    # Class probabilities (m, C) by the name of the attention, one array per draw.
    block_probs: dict[str, list[NDArray[np.float64]]]


def replaced_scores(
    probe: Probe, table: BlockTable, donor_blocks: NDArray[np.int64] | None
) -> Iterator[ReplacedScores]:
    """Score blocks with the learned attention and with replacements.

    Replacements are `uniform` attention, that of an `other_video`, the block's own `time_shuffled`, and that of an
    `untrained` scorer in the trained model. Hard attention looks at the most probable location of each; uniform
    attention has none, and there the glimpse is the expected one: the mean slice.

    Args:
        probe: The recogniser.
        table: The blocks.
        donor_blocks: For each block, the block of another video that gives its attention, shape (M,); None skips this.

    Yields:
        Scores of one chunk of blocks after another.
    """
    T = table.frames.shape[1]
    untrained = [untrained_scorer(probe.model, derived_seed(probe.seed, "scorer", i)) for i in range(NUM_SCORERS)]
    rng = np.random.default_rng(derived_seed(probe.seed, "time"))
    for start in range(0, len(table), CHUNK_BLOCKS):
        blocks = slice(start, min(start + CHUNK_BLOCKS, len(table)))
        frames = table.frames[blocks]
        own = probe.attention(frames)
        order = rng.permuted(np.tile(np.arange(T), (len(frames), 1)), axis=1)
        maps = {
            "learned": [own],
            "uniform": [np.full_like(own, 1 / own.shape[-1])],
            "time_shuffled": [np.take_along_axis(own, order[:, :, None], axis=1)],
            "untrained": [probe.attention(frames, model) for model in untrained],
        }
        if donor_blocks is not None:
            maps["other_video"] = [probe.attention(table.frames[donor_blocks[blocks]])]
        if probe.model.glimpse == "hard":
            maps = {name: drawn if name == "uniform" else [*map(at_peaks, drawn)] for name, drawn in maps.items()}
        # All attention is given, even the learned, so that nothing else differs in the computation.
        probs = {name: [probe.block_probs(frames, given) for given in drawn] for name, drawn in maps.items()}
        yield ReplacedScores(blocks, own, probs)


def at_peaks(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention (..., L) that is 1 at its most probable location, and 0 elsewhere."""
    peaks = attention.argmax(axis=-1)[..., None] == np.arange(attention.shape[-1])
    return np.asarray(peaks, np.float32)


def untrained_scorer(model: AttentionLSTM, seed: int) -> AttentionLSTM:
    """A copy of a recogniser whose scorer is initialised anew."""
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh.to("cpu").reset_scorer()
    return fresh.to(next(model.parameters()).device)


def donor_blocks(videos: NDArray[np.int64], donor: Mapping[int, int]) -> NDArray[np.int64]:
    """For each block, the block at the same relative position in the other video, which gives its attention.

    Args:
        videos: Owner of each block, blocks of one video following one another, shape (M,).
        donor: The other video of each video.

    Returns:
        Indices of blocks, shape (M,).
    """
    firsts = dict(zip(*np.unique(videos, return_index=True), strict=True))
    counts = dict(zip(*np.unique(videos, return_counts=True), strict=True))
    others = [
        firsts[donor[video]] + np.arange(count) * counts[donor[video]] // count
        for video, count in sorted(counts.items(), key=lambda item: firsts[item[0]])
    ]
    return np.concatenate(others)


def spread_blocks(videos: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of at most `CURVE_BLOCKS` blocks per video, spread evenly over it, given each block's video (M,)."""
    chosen = []
    for video in np.unique(videos):
        own = np.flatnonzero(videos == video)
        places = np.linspace(0, len(own) - 1, min(len(own), CURVE_BLOCKS))
        chosen.append(own[np.rint(places).astype(np.int64)])
    return np.concatenate(chosen)


def removed_counts(num_locations: int) -> NDArray[np.int64]:
    """Number of cells removed at each level, from none to all, shape (P,)."""
    return np.unique(np.rint(np.linspace(0, num_locations, NUM_LEVELS + 1)).astype(np.int64))


def removed_shares(num_locations: int) -> NDArray[np.float64]:
    """Share of all cells removed at each level, from 0 to 1, shape (P,)."""
    return removed_counts(num_locations) / num_locations


def removal_curves(
    probe: Probe, frames: NDArray[np.int64], filler: NDArray[np.float32], on_batch: Callable[[int], None]
) -> dict[str, NDArray[np.float64]]:
    """Probability of each block's predicted class as more and more cells of every frame are removed.

    A removed cell is replaced by an uninformative slice; the recogniser attends freely to the result.

    Args:
        probe: The recogniser.
        frames: Stored frame of each step of the blocks, shape (M, T).
        filler: Slice that replaces each location's where it is removed, scaled like the features, shape (L, D).
        on_batch: Called with the number of blocks done so far.

    Returns:
        Curves of shape (M, P): `deletion` removes the most attended cells first, `insertion` the least attended, and
        `random` is the mean of `NUM_ORDERS` random orders. All share both end points.
    """
    batches: list[dict[str, NDArray[np.float64]]] = []
    rng = np.random.default_rng(derived_seed(probe.seed, "cells"))
    nothing = torch.from_numpy(filler).to(next(probe.model.parameters()).device)
    with torch.inference_mode():
        for rows, cubes in cube_batches(probe.feed, frames):
            curves = _batch_curves(probe, cubes, nothing, rng)
            batches.append({name: curve[: rows.stop - rows.start] for name, curve in curves.items()})
            on_batch(rows.stop)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _batch_curves(
    probe: Probe, cubes: Tensor, nothing: Tensor, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """The removal curves of a batch, shape (B, P) each."""
    B, _, L, _ = cubes.shape

    def block_probs(output: RecognizerOutput) -> NDArray[np.float64]:
        return block_means(class_probs(output.frame_logits, probe.multilabel).cpu().numpy(), probe.last_steps)

    def without(removed: NDArray[np.bool_]) -> NDArray[np.float64]:
        cells = torch.from_numpy(removed).to(cubes.device)[..., None]
        picked: NDArray[np.float64] = block_probs(probe.model(torch.where(cells, nothing, cubes)))[blocks, predicted]
        return picked

    whole = probe.model(cubes)
    full = block_probs(whole)
    blocks, predicted = np.arange(B), full.argmax(axis=1)
    by_attention = removal_ranks(whole.attention.cpu().numpy(), rng)
    orders = {
        "deletion": [by_attention],
        "insertion": [L - 1 - by_attention],
        "random": [rng.permuted(by_attention, axis=-1) for _ in range(NUM_ORDERS)],
    }
    emptied = without(by_attention < L)

    def curve(ranks: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        between = [np.mean([without(order < k) for order in ranks], axis=0) for k in removed_counts(L)[1:-1]]
        return np.stack([full.max(axis=1), *between, emptied], axis=1)

    return {name: curve(ranks) for name, ranks in orders.items()}
