"""Running a recogniser over blocks: the one path that training, evaluation, prediction and pictures share.

Legend: V videos, M blocks, T time-steps, L locations, C classes.
"""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnrec.capture import Captured
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.models.head import RecognizerOutput, class_probs
from attnrec.training.run import Run

# One batch shape, so that a video's scores do not depend on what else is scored with it.
BATCH_BLOCKS = 16
_PLAIN_CALLS = 8  # a single clip is not worth a recording

_Item = TypeVar("_Item", bound=np.generic)


class BlockScores(NamedTuple):
    """The outputs of a recogniser on blocks."""

    frame_probs: NDArray[np.float32]  # class probabilities of each time-step, shape (M, T, C)
    attention: NDArray[np.float32] | None  # location probabilities, shape (M, T, L); None if not kept or there are none


@dataclass(frozen=True, eq=False)
class RunBlocks:
    """Blocks of a run's feature store, for the run to score."""

    run: Run
    store: FeatureStore
    table: BlockTable

    @property
    def videos(self) -> NDArray[np.int64]:
        """Indices of the videos that the blocks come from, rising, shape (V,)."""
        return np.unique(self.table.video)

    @property
    def groups(self) -> list[str]:
        """Group of each of `videos`."""
        return [self.store.groups[video] for video in self.videos]

    def feed(self, model: nn.Module) -> CubeFeed:
        """A feed of the store's cubes for the run's recogniser, with its feature scale and on its device."""
        return CubeFeed(self.store.layer_features(), self.run.manifest.feature_scales, next(model.parameters()).device)


def score_blocks(
    model: nn.Module,
    feed: CubeFeed,
    frames: NDArray[np.int64],
    *,
    multilabel: bool = False,
    keep_attention: bool = False,
    given: NDArray[np.float32] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> BlockScores:
    """Score blocks in batches of one fixed shape.

    Args:
        model: A recogniser, which is put into evaluation mode.
        feed: Feed of the feature cubes, on the model's device.
        frames: Rows of each block's samples, shape (M, T), M at least 1.
        multilabel: Use sigmoids instead of the softmax.
        keep_attention: Return the location probabilities as well.
        given: Attention that replaces the model's own, shape (M, T, L).
        on_batch: Called with the number of blocks done so far.

    Returns:
        Scores of all blocks in order.
    """
    model.eval()
    probs: NDArray[np.float32] | None = None
    attention: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for rows, cubes in cube_batches(feed, frames):
            output = _forward(model, feed, cubes, None if given is None else torch.from_numpy(_filled(given[rows])))
            if probs is None:
                # All at once: small arrays that stay between large ones that are freed would fragment memory.
                probs = _empty_like(output.frame_logits, len(frames))
                if keep_attention and output.attention is not None:
                    attention = _empty_like(output.attention, len(frames))
            num_blocks = rows.stop - rows.start
            probs[rows] = class_probs(output.frame_logits, multilabel)[:num_blocks].cpu().numpy()
            if attention is not None and output.attention is not None:
                attention[rows] = output.attention[:num_blocks].cpu().numpy()
            if on_batch is not None:
                on_batch(rows.stop)
    assert probs is not None
    return BlockScores(probs, attention)


_Forward = tuple[Captured[RecognizerOutput], Tensor | None]  # a forward pass, and where it reads given attention
_forwards: weakref.WeakKeyDictionary[CubeFeed, dict[tuple[nn.Module, int, bool], _Forward]]
_forwards = weakref.WeakKeyDictionary()


def _forward(model: nn.Module, feed: CubeFeed, cubes: Tensor, given: Tensor | None) -> RecognizerOutput:
    """The output on a batch of the fixed shape, of the forward pass that is recorded once for a model and a feed."""
    known = _forwards.setdefault(feed, {})
    key = model, cubes.data_ptr(), given is not None
    if key not in known:
        replaced = {} if given is None else {"given": given.to(cubes.device)}
        known[key] = (
            Captured(lambda: model(cubes, **replaced), cubes.device, plain_calls=_PLAIN_CALLS),
            replaced.get("given"),
        )
    forward, held = known[key]
    if held is not None and given is not None:
        held.copy_(given)
    return forward()


def cube_batches(feed: CubeFeed, frames: NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
    """Cubes of blocks in batches of one fixed shape, the last one padded.

    Args:
        feed: Feed of the feature cubes.
        frames: Rows of each block's samples, shape (M, T).

    Yields:
        The slice of blocks in a batch, and their cubes, valid until the next batch is requested.
    """
    starts = range(0, len(frames), BATCH_BLOCKS)
    parts = [slice(start, min(start + BATCH_BLOCKS, len(frames))) for start in starts]
    yield from zip(parts, feed.batches(_filled(frames[rows]) for rows in parts), strict=True)


def _filled(batch: NDArray[_Item]) -> NDArray[_Item]:
    """A batch padded to the fixed shape by repeating its last row."""
    return np.concatenate([batch, np.repeat(batch[-1:], BATCH_BLOCKS - len(batch), axis=0)])


def _empty_like(batch: Tensor, num_blocks: int) -> NDArray[np.float32]:
    return np.empty((num_blocks, *batch.shape[1:]), np.float32)
