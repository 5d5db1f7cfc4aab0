"""Presets: the settings of a training that the user leaves open, from the paper, the released code, or the data."""

import math
import re
from typing import Any, NamedTuple

from attnrec.errors import ConfigError
from attnrec.metrics import require_fitting
from attnrec.settings import OF_CHOICES, BlockStarts, OptimizerName, Precision, Recipe, TrainConfig

PAPER_BACKBONE = "bvlc_googlenet"  # Caffe's GoogLeNet
PAPER_BATCH, PAPER_EPOCHS, ADAM_RATE = 128, 15, 2e-4
# The released code takes plain gradient steps on these, at a rate for a loss that is summed over the batch.
AUTHORS_SGD_RATES = {"hmdb51": 1e-5, "hollywood2": 1e-4}
AUTHORS_LAST_STEPS = 16  # steps of a block to predict from, on the same datasets

AUTO_CLIP = 500.0  # gradient norm; some ten times the usual one, so that only outliers are touched

_AUTO_UPDATES = 600
_AUTO_BATCHES = ((5_000, 16), (20_000, 32), (50_000, 64))  # (number of blocks, batch size for fewer)
_AUTO_LARGE = 20_000  # number of blocks from which the paper's 15 epochs are enough updates
_AUTO_SMALL = 5_000  # blocks below which fewer and narrower layers generalise better, see `attnrec guide results`
_SMALL_HIDDEN = 128
PAPER_FRAMES = 30  # T, frames of a block


def canonical_dataset(name: str) -> str:
    """A dataset's name in lower case without spaces and punctuation: `UCF-11` is `ucf11`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Sampling(NamedTuple):
    """The part of a recipe that decides which blocks there are."""

    split: str
    fps: float
    block_frames: int
    block_stride: int
    block_starts: BlockStarts


def sampling_of(config: TrainConfig, split: str, typical_frames: float) -> Sampling:
    """Decide how blocks are sampled.

    Args:
        config: Settings that the user gave.
        split: Name of the split.
        typical_frames: Frames of the median video at the training rate.
    """
    starts: BlockStarts = "by-frame" if config.preset == "authors-code" else "by-time"
    frames = config.block_frames or _block_frames(config, typical_frames)
    return Sampling(split, config.fps, frames, config.block_stride, config.block_starts or starts)


def recipe_of(
    config: TrainConfig,
    sampling: Sampling,
    *,
    dataset: str,
    feature_dim: int,
    multilabel: bool,
    num_blocks: int,
    has_validation: bool,
    precision: Precision,
) -> Recipe:
    """Fill the gaps of the user's settings by the preset; settings that were given stay.

    Args:
        config: Settings that the user gave.
        sampling: How blocks are sampled.
        dataset: Name of the dataset.
        feature_dim: D, channels of the features.
        multilabel: Whether a video may have several labels.
        num_blocks: Number of training blocks.
        has_validation: Whether there are validation videos.
        precision: Precision to train in on the device.

    Raises:
        ConfigError: The settings do not fit the dataset or each other.
    """
    known = canonical_dataset(dataset)
    given = {name: value for name, value in vars(config).items() if value is not None}
    given |= sampling._asdict() | {"precision": precision}
    chosen = _protocol(config, sampling.block_frames, known, feature_dim, multilabel) | given
    chosen = _schedule(config, chosen["optimizer"], known, num_blocks) | chosen
    patience = _patience(config, chosen["epochs"]) if has_validation else 0
    recipe = Recipe(**{"patience": patience} | chosen | ({} if has_validation else {"patience": 0}))
    if recipe.attention != "content" and (recipe.scorer_layers != 1 or recipe.attention_dim is not None):
        raise ConfigError("scorer_layers and attention_dim are for --attention content")
    if recipe.glimpse == "soft" and any(getattr(recipe, name) != value for name, value in OF_CHOICES.items()):
        raise ConfigError(f"{' and '.join(OF_CHOICES)} are for --glimpse hard")
    require_fitting(recipe.reduction, multilabel=multilabel)
    return recipe


def _protocol(config: TrainConfig, block_frames: int, known: str, feature_dim: int, multilabel: bool) -> dict[str, Any]:
    """The settings that do not depend on the number of blocks: model, loss, optimiser and prediction."""
    auto = config.preset == "auto"
    values: dict[str, Any] = {
        "attention": "saliency" if auto else "location",
        "add_mean": auto,
        "init_layers": 2,
        "scorer_layers": 1,
        "input_dropout": config.dropout,
        "penalty_reduction": "sum",
        "decay_per": "block",
        "optimizer": "adam",
        "reduction": "mean",
        "last_steps": block_frames,
        "clip": AUTO_CLIP if auto else 0.0,
    }
    if config.preset == "authors-code":
        content = config.attention in (None, "content") and config.model == "attention"
        values |= {
            "attention": "content",
            "init_layers": 1,
            "scorer_layers": 3 if known == "hmdb51" and content else 1,
            "attention_dim": feature_dim if content else None,
            "input_dropout": 0.0,
            "penalty_reduction": "mean",
            "decay_per": "batch",
            "optimizer": "sgd" if known in AUTHORS_SGD_RATES else "adam",
            "reduction": "mean" if multilabel else "vote",
        }
        if known in AUTHORS_SGD_RATES:
            values["last_steps"] = min(AUTHORS_LAST_STEPS, block_frames)
    return values


def _schedule(config: TrainConfig, optimizer: OptimizerName, known: str, num_blocks: int) -> dict[str, Any]:
    """The settings that follow from the number of blocks: batch size, epochs, learning rate, size of the LSTM."""
    hidden_dim = 1024 if known == "hmdb51" else 512
    num_layers = 1 if config.preset == "authors-code" else 3
    if config.preset == "auto":
        # The paper's 15 epochs at batch 128 are 15 updates on 48 short clips, which is chance: enough updates first.
        batch_size = config.batch_size or next((size for limit, size in _AUTO_BATCHES if num_blocks < limit), 128)
        epochs = min(200, max(4, math.ceil(_AUTO_UPDATES / math.ceil(num_blocks / batch_size))))
        epochs = PAPER_EPOCHS if num_blocks >= _AUTO_LARGE else epochs
        if num_blocks < _AUTO_SMALL:
            hidden_dim, num_layers = _SMALL_HIDDEN, 1
    else:
        batch_size, epochs = config.batch_size or PAPER_BATCH, PAPER_EPOCHS
    learning_rate = ADAM_RATE
    if optimizer == "sgd":
        # Our loss is the mean over the batch: the same step takes a rate that is `batch_size` times as large.
        learning_rate = AUTHORS_SGD_RATES.get(known, 1e-4) * batch_size
    return {
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
    }


def _block_frames(config: TrainConfig, typical_frames: float) -> int:
    """T: the paper's; `auto` takes fewer for short videos, whose last frame would fill most of a block."""
    if config.preset != "auto":
        return PAPER_FRAMES
    return max(1, round(min(PAPER_FRAMES, typical_frames)))


def _patience(config: TrainConfig, epochs: int) -> int:
    """Patience of early stopping; 0, none, in the paper and the released code."""
    return max(3, math.ceil(epochs / 3)) if config.preset == "auto" else 0


def notes_on(asked: TrainConfig, recipe: Recipe, dataset: str, backbone: str) -> list[str]:
    """Notes on settings that the dataset decided, and on features of another network than the paper's."""
    known, notes = canonical_dataset(dataset), []
    if asked.preset != "auto" and backbone != PAPER_BACKBONE:
        notes.append(f"features of {backbone}; those of the paper are of {PAPER_BACKBONE}, see `extract --backbone`")
    if known == "hmdb51" and asked.hidden_dim is None and recipe.hidden_dim == 1024:
        notes.append("1024 hidden units, the paper's for HMDB-51")
    if recipe.optimizer == "sgd" and asked.learning_rate is None:
        rate, size = recipe.learning_rate, recipe.batch_size
        notes.append(f"SGD at {rate:g}: the released code's {rate / size:g} for a loss summed over a batch of {size}")
    if asked.preset == "authors-code" and asked.last_steps is None and known in AUTHORS_SGD_RATES:
        notes.append(f"predictions from the last {recipe.last_steps} steps of a block, the released code's here")
    if recipe.scorer_layers == 3 and asked.scorer_layers is None:
        notes.append("three layers score locations, the released code's for HMDB-51")
    return notes
