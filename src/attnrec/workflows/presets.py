"""What a preset decides of a training where the user does not: the paper's numbers, the released code's, or our own."""

import dataclasses
import math
import re
from typing import Any

from attnrec.config import BackboneName, TrainConfig
from attnrec.errors import ConfigError
from attnrec.metrics import require_fitting

PAPER_BACKBONE: BackboneName = "bvlc_googlenet"  # Caffe's GoogLeNet
PAPER_BATCH, PAPER_EPOCHS, ADAM_RATE = 128, 15, 2e-4
# The released code takes plain gradient steps on these, at a rate for a loss that is summed over the batch.
AUTHORS_SGD_RATES = {"hmdb51": 1e-5, "hollywood2": 1e-4}
AUTHORS_LAST_STEPS = 16  # of a block, on the same datasets

AUTO_CLIP = 500.0  # gradient norm; some ten times the usual one, so that only outliers are touched

_AUTO_UPDATES = 600
_AUTO_BATCHES = ((5_000, 16), (20_000, 32), (50_000, 64))  # below so many blocks, batches of so many
_AUTO_LARGE = 20_000  # from so many on the paper's 15 epochs are enough updates
_AUTO_SMALL = 5_000  # blocks below which fewer and narrower layers generalise better, see README
_SMALL_HIDDEN = 128
PAPER_FRAMES = 30  # of a block, T


def canonical_dataset(name: str) -> str:
    """A dataset's name without case, spaces and punctuation, as in the paper's table: `UCF-11` is `ucf11`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def with_protocol(
    config: TrainConfig, *, dataset: str, feature_dim: int, multilabel: bool, typical_frames: float
) -> TrainConfig:
    """Fill in what does not depend on the number of blocks.

    Args:
        config: Settings; what is given stays.
        dataset: Name of the dataset.
        feature_dim: D.
        multilabel: A video may have several labels.
        typical_frames: Samples of the median video at the rate to train at.

    Returns:
        Settings whose model form, block starts, loss, optimiser and prediction are set.

    Raises:
        ConfigError: The settings do not fit the dataset or each other.
    """
    block_frames = config.block_frames or _block_frames(config, typical_frames)
    values: dict[str, Any] = {
        "block_frames": block_frames,
        "attention": "saliency" if config.preset == "auto" else "location",
        "add_mean": config.preset == "auto",
        "init_layers": 2,
        "scorer_layers": 1,
        "input_dropout": config.dropout,
        "block_starts": "by-time",
        "penalty_reduction": "sum",
        "decay_per": "block",
        "optimizer": "adam",
        "reduction": "mean",
        "last_steps": block_frames,
        "clip": AUTO_CLIP if config.preset == "auto" else 0.0,
    }
    if config.preset == "authors-code":
        known = canonical_dataset(dataset)
        content = config.attention in (None, "content") and config.model == "attention"
        values |= {
            "attention": "content",
            "init_layers": 1,
            "scorer_layers": 3 if known == "hmdb51" and content else 1,
            "attention_dim": feature_dim if content else None,
            "input_dropout": 0.0,
            "block_starts": "by-frame",
            "penalty_reduction": "mean",
            "decay_per": "batch",
            "optimizer": "sgd" if known in AUTHORS_SGD_RATES else "adam",
            "reduction": "mean" if multilabel else "vote",
        }
        if known in AUTHORS_SGD_RATES:
            values["last_steps"] = min(AUTHORS_LAST_STEPS, block_frames)
    filled = _filled(config, values)
    if filled.attention != "content" and (filled.scorer_layers != 1 or filled.attention_dim is not None):
        raise ConfigError("--scorer-layers and --scorer-width are for --attention content")
    require_fitting(str(filled.reduction), multilabel=multilabel)
    return filled


def with_schedule(config: TrainConfig, *, dataset: str, num_blocks: int) -> TrainConfig:
    """Fill in batch size, epochs, learning rate, LSTM layers and hidden units.

    Args:
        config: Settings that `with_protocol` filled in.
        dataset: Name of the dataset.
        num_blocks: Blocks to train on.

    Returns:
        Settings without gaps.
    """
    known = canonical_dataset(dataset)
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
    if config.optimizer == "sgd":
        # Ours is the mean over the batch: the same step takes a rate that is as many times as great.
        learning_rate = AUTHORS_SGD_RATES.get(known, 1e-4) * batch_size
    return _filled(
        config,
        {
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
        },
    )


def _block_frames(config: TrainConfig, typical_frames: float) -> int:
    """T: the paper's, but `auto` fits it to short videos, whose last frame would fill most of a block."""
    if config.preset != "auto":
        return PAPER_FRAMES
    return max(1, round(min(PAPER_FRAMES, typical_frames)))


def patience_of(config: TrainConfig, has_validation: bool) -> int | None:
    """Epochs without a better validation after which training ends; None for never, as in the paper."""
    if not has_validation:
        return None
    if config.patience is not None:
        return config.patience or None
    if config.preset != "auto":
        return None
    assert config.epochs is not None
    return max(3, math.ceil(config.epochs / 3))


def notes_on(given: TrainConfig, filled: TrainConfig, dataset: str, backbone: str) -> list[str]:
    """What the dataset, not the user, decided, in words, and whether the features are of another network."""
    known, notes, values = canonical_dataset(dataset), [], vars(filled)
    if given.preset != "auto" and backbone != PAPER_BACKBONE:
        notes.append(f"features of {backbone}; those of the paper are of {PAPER_BACKBONE}, see `extract --backbone`")
    if known == "hmdb51" and given.hidden_dim is None and filled.hidden_dim == 1024:
        notes.append("1024 hidden units, the paper's for HMDB-51")
    if filled.optimizer == "sgd" and given.learning_rate is None:
        rate, size = values["learning_rate"], values["batch_size"]
        notes.append(f"SGD at {rate:g}: the released code's {rate / size:g} for a loss summed over a batch of {size}")
    if given.preset == "authors-code" and given.last_steps is None and known in AUTHORS_SGD_RATES:
        notes.append(f"predictions from the last {filled.last_steps} steps of a block, the released code's here")
    if filled.scorer_layers == 3 and given.scorer_layers is None:
        notes.append("three layers score locations, the released code's for HMDB-51")
    return notes


def _filled(config: TrainConfig, values: dict[str, Any]) -> TrainConfig:
    return dataclasses.replace(config, **{name: v for name, v in values.items() if getattr(config, name) is None})
