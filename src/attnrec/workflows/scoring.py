"""Running a recogniser over blocks: the one path that training, evaluation, prediction and pictures share.

Legend: N stored frames, M blocks, B blocks in a batch, T time-steps, K grid side, L = K * K locations, D channels,
C classes.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnrec.models.head import class_probs

# One batch shape, so that a video's scores do not depend on what else is scored with it.
BATCH_BLOCKS = 16


class BlockScores(NamedTuple):
    """What a recogniser says of blocks.

    Attributes:
        frame_probs: Class probabilities of each time-step, shape (M, T, C).
        attention: Location probabilities, shape (M, T, L); None without attention or where not asked for.
    """

    frame_probs: NDArray[np.float32]
    attention: NDArray[np.float32] | None


def gather_cubes(
    features: NDArray[np.float16],
    frames: NDArray[np.int64],
    scale: float,
    device: torch.device,
    out: Tensor | None = None,
) -> Tensor:
    """Cubes of a batch of blocks.

    Args:
        features: Stored cubes, shape (N, K, K, D).
        frames: Rows of each block's samples, shape (B, T).
        scale: Factor on the features.
        device: Where the cubes go.
        out: Memory to use on the CPU, of at least as many blocks; fresh memory costs more than the copy into it.

    Returns:
        Shape (B, T, L, D), float32. Written anew by the next call where `out` is given.
    """
    if device.type != "cpu":
        cubes = torch.from_numpy(features[frames]).to(device).float()  # (B, T, K, K, D)
        return cubes.flatten(2, 3).mul_(scale)
    _, K, _, D = features.shape
    cubes = torch.empty(*frames.shape, K * K, D) if out is None else out[: len(frames)]
    for block, rows in zip(cubes, frames, strict=True):
        # From the map into float32, a block at a time, so that the scale finds it in the processor's cache.
        for steps, run in _runs(rows):
            block[steps].copy_(torch.from_numpy(features[run]).flatten(1, 2))
        if scale != 1:
            block.mul_(scale)
    return cubes


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Slices of steps, and of the rows that they show, of as many neighbouring rows as there are."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    for start, end in itertools.pairwise([0, *ends.tolist(), len(rows)]):
        first = int(rows[start])
        yield slice(start, end), slice(first, first + end - start)


def score_blocks(
    model: nn.Module,
    features: NDArray[np.float16],
    frames: NDArray[np.int64],
    *,
    scale: float,
    multilabel: bool = False,
    keep_attention: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> BlockScores:
    """Score blocks in batches of one fixed shape, the last one filled up.

    Args:
        model: A recogniser, left in evaluation mode.
        features: Stored cubes, shape (N, K, K, D).
        frames: Rows of each block's samples, shape (M, T), M at least 1.
        scale: Factor on the features.
        multilabel: Sigmoids in place of the softmax.
        keep_attention: Keep the location probabilities.
        on_batch: Called with the number of blocks done so far.

    Returns:
        Scores of all blocks in order.
    """
    device = next(model.parameters()).device
    model.eval()
    probs: NDArray[np.float32] | None = None
    attention: NDArray[np.float32] | None = None
    cubes: Tensor | None = None
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH_BLOCKS):
            batch = frames[start : start + BATCH_BLOCKS]
            done = start + len(batch)
            filled = np.concatenate([batch, np.repeat(batch[-1:], BATCH_BLOCKS - len(batch), axis=0)])
            cubes = gather_cubes(features, filled, scale, device, out=cubes)
            output = model(cubes)
            if probs is None:
                # All at once: small results that stay between large ones that go would leave holes in memory.
                probs = _empty_like(output.frame_logits, len(frames))
                if keep_attention and output.attention is not None:
                    attention = _empty_like(output.attention, len(frames))
            probs[start:done] = class_probs(output.frame_logits, multilabel)[: len(batch)].cpu().numpy()
            if attention is not None:
                attention[start:done] = output.attention[: len(batch)].cpu().numpy()
            if on_batch is not None:
                on_batch(done)
    assert probs is not None
    return BlockScores(probs, attention)


def _empty_like(batch: Tensor, num_blocks: int) -> NDArray[np.float32]:
    return np.empty((num_blocks, *batch.shape[1:]), np.float32)
