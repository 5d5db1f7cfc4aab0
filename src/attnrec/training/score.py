"""Running a recogniser over blocks: the one path that training, evaluation, prediction and pictures share.

Legend: V videos, M blocks, T time-steps, L locations, C classes, N passes.
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
from attnrec.errors import ConfigError
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.models.hard import gumbel
from attnrec.models.head import RecognizerOutput, class_probs
from attnrec.runtime import derived_seed
from attnrec.training.run import Run

# One batch shape, so that a video's scores do not depend on what else is scored with it.
BATCH_BLOCKS = 16
_PLAIN_CALLS = 8  # a single clip is not worth a recording

_Item = TypeVar("_Item", bound=np.generic)


class BlockScores(NamedTuple):
    """The outputs of a recogniser on blocks."""

    frame_probs: NDArray[np.float32]  # class probabilities of each time-step, shape (M, T, C)
    attention: NDArray[np.float32] | None  # location probabilities, shape (M, T, L); None if not kept or there are none
    # Share of the passes in which hard attention looked at each location, (M, T, L); None if not kept, and for others.
    looked_at: NDArray[np.float32] | None = None


class Passes(NamedTuple):
    """Passes over every block in which hard attention draws where it looks; their outputs are averaged.

    What is drawn depends on a block's place in its video, not on the video: so it is the same whatever else is scored.
    """

    number: int  # N
    seed: int
    places: NDArray[np.int64]  # number of each block within its video, shape (M,)

    def noise(self, index: int, rows: slice, num_steps: int, num_locations: int) -> NDArray[np.float32]:
        """The noise of one pass for some of the blocks, shape (m, T, L), see `AttentionLSTM.forward`."""
        drawn = [
            np.random.default_rng(derived_seed(self.seed, "pass", index, place)).random((num_steps, num_locations))
            for place in self.places[rows].tolist()
        ]
        return gumbel(torch.from_numpy(np.stack(drawn))).float().numpy()


def passes_of(run: Run, number: int, video: NDArray[np.int64]) -> Passes | None:
    """The passes over blocks, given the video of each (M,), one after another; None for the most probable locations.

    Raises:
        ConfigError: The run has no hard attention that could draw.
    """
    require_draws(run, number)
    if not number:
        return None
    _, first, owner = np.unique(video, return_index=True, return_inverse=True)
    return Passes(number, run.manifest.training.seed, np.arange(len(video)) - first[owner])


def require_draws(run: Run, number: int) -> None:
    """Check that a run has hard attention if passes that draw are asked for. Raises as `passes_of`."""
    if number and run.manifest.model.glimpse != "hard":
        raise ConfigError(f"--samples {number}: {run.path} draws no locations; that takes a run with --glimpse hard")


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
    passes: Passes | None = None,
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
        passes: Passes to average over, for a model with hard attention; None takes one, which looks at the most
            probable locations.
        on_batch: Called with the number of blocks done so far.

    Returns:
        Scores of all blocks in order.
    """
    model.eval()
    kept: BlockScores | None = None
    number = passes.number if passes else 1
    with torch.inference_mode():
        for rows, cubes in cube_batches(feed, frames):
            replaced = {} if given is None else {"given": torch.from_numpy(_filled(given[rows]))}
            for index in range(number):
                if passes is not None:
                    replaced["noise"] = torch.from_numpy(_filled(passes.noise(index, rows, *cubes.shape[1:3])))
                output = _forward(model, feed, cubes, replaced)
                if kept is None:
                    # All at once: small arrays that stay between large ones that are freed would fragment memory.
                    kept = _zeros_for(output, len(frames), keep_attention)
                _add(kept, rows, output, multilabel, number)
            if on_batch is not None:
                on_batch(rows.stop)
    assert kept is not None
    return kept


def _zeros_for(output: RecognizerOutput, num_blocks: int, keep_attention: bool) -> BlockScores:
    probs, attention = (
        None if batch is None else np.zeros((num_blocks, *batch.shape[1:]), np.float32) for batch in output[:2]
    )
    assert probs is not None
    attention = attention if keep_attention else None
    looks = attention is not None and output.looked_at is not None
    return BlockScores(probs, attention, np.zeros_like(attention) if looks else None)


def _add(kept: BlockScores, rows: slice, output: RecognizerOutput, multilabel: bool, number: int) -> None:
    """Add the share of one of several passes to the outputs on some blocks; of one pass, its outputs as they are."""
    num_blocks = rows.stop - rows.start
    kept.frame_probs[rows] += class_probs(output.frame_logits, multilabel)[:num_blocks].cpu().numpy() / number
    if kept.attention is not None and output.attention is not None:
        kept.attention[rows] += output.attention[:num_blocks].cpu().numpy() / number
    if kept.looked_at is not None and output.looked_at is not None:
        cells = output.looked_at[:num_blocks].cpu().numpy()[..., None]
        kept.looked_at[rows] += (cells == np.arange(kept.looked_at.shape[-1])) / number


# A forward pass, and where it reads what is given to it.
_Forward = tuple[Captured[RecognizerOutput], dict[str, Tensor]]
_forwards: weakref.WeakKeyDictionary[CubeFeed, dict[tuple[nn.Module, int, tuple[str, ...]], _Forward]]
_forwards = weakref.WeakKeyDictionary()


def _forward(model: nn.Module, feed: CubeFeed, cubes: Tensor, replaced: dict[str, Tensor]) -> RecognizerOutput:
    """The output on a batch of the fixed shape, of the forward pass that is recorded once for a model and a feed."""
    known = _forwards.setdefault(feed, {})
    key = model, cubes.data_ptr(), tuple(replaced)
    if key not in known:
        held = {name: value.to(cubes.device, copy=True) for name, value in replaced.items()}
        known[key] = Captured(lambda: model(cubes, **held), cubes.device, plain_calls=_PLAIN_CALLS), held
    forward, held = known[key]
    for name, value in replaced.items():
        held[name].copy_(value)
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
