"""Faithfulness of a run's attention: figures with other attention, with cells removed, and against boxes.

Legend: V videos, M blocks, C classes, P points of a curve.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attnrec.errors import RunError
from attnrec.evaluation.intervals import (
    Statistic,
    accuracy_statistic,
    bootstrap_interval,
    less,
    map_statistic,
    mean_of_statistics,
    mean_statistic,
    of_all,
)
from attnrec.evaluation.localization import Targets, block_sums, localization
from attnrec.evaluation.measures import area_statistic, changed_share, donors, prediction_shift
from attnrec.evaluation.perturb import (
    Probe,
    donor_blocks,
    removal_curves,
    removed_shares,
    replaced_scores,
    spread_blocks,
)
from attnrec.evaluation.report import Faithfulness
from attnrec.features.blocks import BlockTable
from attnrec.features.store import FeatureStore
from attnrec.metrics import reduce_blocks
from attnrec.models.attention import AttentionLSTM
from attnrec.runtime import OnProgress, Progress, derived_seed, no_progress
from attnrec.settings import Reduction
from attnrec.training.run import Run
from attnrec.training.score import RunBlocks

FILLER_FRAMES = 512  # frames whose mean slice replaces a removed cell


def require_attention(run: Run) -> None:
    """Check that a run has attention to test.

    Raises:
        RunError: The run has no attention.
    """
    if run.manifest.model.architecture != "attention":
        raise RunError(f"{run.path}: {run.manifest.model.architecture} has no attention to test; name another by --run")


def attention_faithfulness(
    blocks: RunBlocks,
    model: nn.Module,
    *,
    reduction: Reduction,
    last_steps: int,
    targets: Targets | None = None,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> Faithfulness:
    """Test whether a run's predictions rest on where it looks.

    Args:
        blocks: Blocks of a run with attention.
        model: The run's recogniser.
        reduction: How the probabilities of blocks are reduced to a video's: `mean` or `vote`.
        last_steps: Number of last time-steps of a block to predict from.
        targets: The boxes to test against; None skips that test.
        seed: Seed of everything random.
        on_progress: Called after every batch.

    Raises:
        DataError: No annotated frame is in a block.
    """
    assert isinstance(model, AttentionLSTM)
    manifest, store, table, groups = blocks.run.manifest, blocks.store, blocks.table, blocks.groups
    probe = Probe(model, blocks.feed(model), manifest.model.multilabel, last_steps, seed)
    donor = donors_of(blocks, seed)
    block_probs, sums = _replaced(probe, table, donor, targets, on_progress)
    probs = {
        name: [reduce_blocks(drawn[:, None], table.video, reduction) for drawn in several]
        for name, several in block_probs.items()
    }
    chosen = spread_blocks(table.video)
    filler = mean_slices(store, store.split_members(manifest.split["name"], "train"), manifest.feature_scales)
    curves = removal_curves(
        probe, table.frames[chosen], filler, lambda n: on_progress(Progress("cells", n, len(chosen)))
    )
    shares = removed_shares(store.spec.num_locations)
    parts = [
        _of_replacements(store.targets[blocks.videos], probs, groups),
        _of_curves(curves, shares, table.video[chosen], groups),
    ]
    if targets is not None:
        parts.append(_of_boxes(localization(sums, table.video), groups))
        parts[-1].figures["num_boxed_frames"] = int((targets.row[np.unique(table.frames)] >= 0).sum())
    return Faithfulness(
        metric="map" if store.multilabel else "accuracy",
        other_class_share=_other_class_share(store, donor),
        num_curve_blocks=len(chosen),
        differences={name: of_all(each, len(of.groups)) for of in parts for name, each in of.differences.items()},
        intervals={
            name: bootstrap_interval(each, of.groups, seed=seed)
            for of in parts
            for name, each in of.differences.items()
        },
        **{name: value for part in parts for name, value in part.figures.items()},
    )


def donors_of(blocks: RunBlocks, seed: int) -> dict[int, int]:
    """Another video for each video, with other labels wherever possible; empty for a single video."""
    store, videos = blocks.store, blocks.videos
    if len(videos) < 2:
        return {}
    kinds = np.unique(store.label_matrix[videos], axis=0, return_inverse=True)[1].ravel()
    chosen = donors(kinds, np.random.default_rng(derived_seed(seed, "donors")))
    return dict(zip(videos.tolist(), videos[chosen].tolist(), strict=True))


def mean_slices(store: FeatureStore, videos: NDArray[np.int64], scales: Sequence[float]) -> NDArray[np.float32]:
    """An average cell: the mean feature slice, times its layer's scale, of frames spread over some videos of a store.

    Returns:
        The slice of each location's layer, with zeros up to the deepest layer's channels, shape (L, D).
    """
    rows = np.concatenate([store.videos.first_frame[v] + np.arange(store.videos.num_frames[v]) for v in videos])
    places = np.linspace(0, len(rows) - 1, min(len(rows), FILLER_FRAMES))
    chosen, slices = rows[np.rint(places).astype(np.int64)], []
    for layer, scale in zip(store.layer_features(), scales, strict=True):
        mean = layer[chosen].mean(axis=(0, 1, 2), dtype=np.float64) * scale
        padded = np.pad(mean, (0, store.spec.feature_dim - len(mean))).astype(np.float32)
        slices.append(np.tile(padded, (layer.shape[1] * layer.shape[2], 1)))
    return np.concatenate(slices)


def _other_class_share(store: FeatureStore, donor: Mapping[int, int]) -> float | None:
    labels = store.label_matrix
    differs = [(labels[video] != labels[other]).any() for video, other in donor.items()]
    return float(np.mean(differs)) if differs else None


def _replaced(
    probe: Probe, table: BlockTable, donor: Mapping[int, int], targets: Targets | None, on_progress: OnProgress
) -> tuple[dict[str, list[NDArray[np.float64]]], dict[str, NDArray[np.float64]]]:
    """Class probabilities (M, C) of all blocks under each attention, and `block_sums` of the learned one."""
    chunks: dict[str, list[list[NDArray[np.float64]]]] = {}
    sums: dict[str, list[NDArray[np.float64]]] = {}
    given = donor_blocks(table.video, donor) if donor else None
    for scores in replaced_scores(probe, table, given):
        for name, drawn in scores.block_probs.items():
            chunks.setdefault(name, []).append(drawn)
        if targets is not None:
            for name, of_blocks in block_sums(scores.attention, table.frames[scores.blocks], targets).items():
                sums.setdefault(name, []).append(of_blocks)
        on_progress(Progress("attention", scores.blocks.stop, len(table)))
    probs = {name: [np.concatenate(draw) for draw in zip(*parts, strict=True)] for name, parts in chunks.items()}
    return probs, {name: np.concatenate(parts) for name, parts in sums.items()}


class _Part(NamedTuple):
    """Some fields of `Faithfulness`, and the statistics of some of its differences, over videos in these groups."""

    figures: dict[str, Any]
    differences: dict[str, Statistic]
    groups: Sequence[str]


def _of_replacements(
    targets: NDArray[Any], probs: dict[str, list[NDArray[np.float64]]], groups: Sequence[str]
) -> _Part:
    several = targets.ndim > 1
    metric = map_statistic if several else accuracy_statistic
    statistics = {name: mean_of_statistics([metric(targets, each) for each in drawn]) for name, drawn in probs.items()}
    (learned,) = probs["learned"]

    def mean(measure: Callable[..., float], **options: bool) -> dict[str, float]:
        """Mean of a measure between the learned predictions and those of each replacement, over its draws."""
        others = {name: drawn for name, drawn in probs.items() if name != "learned"}
        return {n: float(np.mean([measure(learned, each, **options) for each in drawn])) for n, drawn in others.items()}

    changed = mean(changed_share)
    return _Part(
        {name: of_all(statistic, len(groups)) for name, statistic in statistics.items()}
        | {"changed": changed, "shift": mean(prediction_shift, multilabel=several)},
        {name: less(statistics["learned"], statistics[name]) for name in changed},
        groups,
    )


def _of_curves(
    block_curves: dict[str, NDArray[np.float64]],
    shares: NDArray[np.float64],
    owner: NDArray[np.int64],
    groups: Sequence[str],
) -> _Part:
    curves = {
        name: np.stack([curve[owner == video].mean(axis=0) for video in np.unique(owner)])  # (V, P)
        for name, curve in block_curves.items()
    }
    means = {name: curve.mean(axis=0).tolist() for name, curve in curves.items()}
    areas = {name: area_statistic(curve, shares) for name, curve in curves.items()}
    figures: dict[str, Any] = {name: of_all(area, len(groups)) for name, area in areas.items()}
    differences = {
        "deletion": less(areas["random"], areas["deletion"]),
        "insertion": less(areas["insertion"], areas["random"]),
    }
    if np.isnan(list(figures.values())).any():
        figures, differences = {}, {}
    return _Part(figures | {"curve_shares": shares.tolist(), "curves": means}, differences, groups)


def _of_boxes(figures: dict[str, NDArray[np.float64]], groups: Sequence[str]) -> _Part:
    """Means of each video's figures (V,) over the videos that have a box."""
    boxed = np.isfinite(figures["pointing"])
    own = [group for group, has_box in zip(groups, boxed, strict=True) if has_box]
    statistics = {name: mean_statistic(values[boxed]) for name, values in figures.items()}
    others = [name for name in figures if "_" in name]
    by_video = {name: [None if v != v else v for v in values.tolist()] for name, values in figures.items()}
    return _Part(
        {name: of_all(statistic, len(own)) for name, statistic in statistics.items()}
        | {"num_boxed_videos": len(own), "by_video": by_video},
        {name: less(statistics[name.split("_")[0]], statistics[name]) for name in others},
        own,
    )
