"""Is a run's attention faithful? Its figures with other attention, with cells removed, and against boxes.

Legend: V videos, M blocks, C classes, P points of a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from attnrec.errors import RunError
from attnrec.evaluation.figures import Interval
from attnrec.evaluation.intervals import (
    Statistic,
    accuracy_statistic,
    bootstrap_interval,
    map_statistic,
    mean_of_statistics,
    mean_statistic,
)
from attnrec.evaluation.localization import Localization, Targets, block_sums, localization
from attnrec.evaluation.measures import area_statistic, changed_share, donors, prediction_shift
from attnrec.evaluation.perturb import (
    CURVES,
    Probe,
    donor_blocks,
    removal_curves,
    removed_shares,
    replaced_scores,
    spread_blocks,
)
from attnrec.evaluation.report import Faithfulness
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.metrics import reduce_blocks
from attnrec.models.attention import AttentionLSTM
from attnrec.runtime import OnProgress, Progress, derived_seed, no_progress
from attnrec.settings import Reduction
from attnrec.training.run import Run

FILLER_FRAMES = 512  # whose mean slice stands for a removed cell


def require_attention(run: Run) -> None:
    """Refuse a run that has no attention to test.

    Raises:
        RunError: It has none.
    """
    if run.manifest.model.architecture != "attention":
        raise RunError(f"{run.path}: {run.manifest.model.architecture} has no attention to test; name another by --run")


def attention_faithfulness(
    run: Run,
    model: nn.Module,
    store: FeatureStore,
    table: BlockTable,
    *,
    reduction: Reduction,
    last_steps: int,
    targets: Targets | None = None,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> Faithfulness:
    """Test whether a run's predictions rest on where it looks.

    Args:
        run: With attention.
        model: Its recogniser.
        store: Its feature store.
        table: Blocks to test on.
        reduction: How blocks make a video's probabilities.
        last_steps: Time-steps at a block's end that count.
        targets: Where annotated things are.
        seed: Of everything random.
        on_progress: Told of every batch.

    Raises:
        DataError: No annotated frame is in a block.
    """
    assert isinstance(model, AttentionLSTM)
    manifest = run.manifest
    feed = CubeFeed(store.features(), manifest.feature_scale, next(model.parameters()).device)
    probe = Probe(model, feed, manifest.model.multilabel, last_steps, seed)
    videos = np.unique(table.video)
    donor = donors_of(store, videos, seed)
    block_probs, sums = _replaced(probe, table, donor, targets, on_progress)
    probs = {
        name: [reduce_blocks(drawn[:, None], table.video, reduction) for drawn in several]
        for name, several in block_probs.items()
    }
    chosen = spread_blocks(table.video)
    filler = mean_slice(store, store.split_members(manifest.split["name"], "train")) * manifest.feature_scale
    curves = removal_curves(
        probe, table.frames[chosen], filler.astype(np.float32), lambda n: on_progress(Progress("cells", n, len(chosen)))
    )
    groups = [store.groups[video] for video in videos]
    parts = [
        _of_replacements(store.targets[videos], probs, groups, seed),
        _of_curves(curves, removed_shares(store.spec.num_locations), table.video[chosen], groups, seed),
    ]
    if targets is not None:
        parts.append(_of_boxes(sums, table, targets, store, seed))
    differences = {name: found for part in parts for name, found in part.differences.items()}
    return Faithfulness(
        metric="map" if store.multilabel else "accuracy",
        other_class_share=_other_class_share(store, donor),
        num_curve_blocks=len(chosen),
        differences={name: value for name, (value, _) in differences.items()},
        intervals={name: interval for name, (_, interval) in differences.items()},
        **{name: value for part in parts for name, value in part.figures.items()},
    )


def donors_of(store: FeatureStore, videos: NDArray[np.int64], seed: int) -> dict[int, int]:
    """Another video for each, of other labels wherever possible; nothing for a single video."""
    if len(videos) < 2:
        return {}
    kinds = np.unique(store.label_matrix[videos], axis=0, return_inverse=True)[1].ravel()
    chosen = donors(kinds, np.random.default_rng(derived_seed(seed, "donors")))
    return dict(zip(videos.tolist(), videos[chosen].tolist(), strict=True))


def mean_slice(store: FeatureStore, videos: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean feature slice of frames spread over some videos of a store, shape (D,): what a cell holds on average."""
    rows = np.concatenate([store.videos.first_frame[v] + np.arange(store.videos.num_frames[v]) for v in videos])
    places = np.linspace(0, len(rows) - 1, min(len(rows), FILLER_FRAMES))
    cubes = store.features()[rows[np.rint(places).astype(np.int64)]]
    mean: NDArray[np.float64] = cubes.mean(axis=(0, 1, 2), dtype=np.float64)
    return mean


def _other_class_share(store: FeatureStore, donor: Mapping[int, int]) -> float | None:
    labels = store.label_matrix
    differs = [(labels[video] != labels[other]).any() for video, other in donor.items()]
    return float(np.mean(differs)) if differs else None


def _replaced(
    probe: Probe, table: BlockTable, donor: Mapping[int, int], targets: Targets | None, on_progress: OnProgress
) -> tuple[dict[str, list[NDArray[np.float64]]], NDArray[np.float64]]:
    """Class probabilities (M, C) of all blocks under each attention, and `block_sums` of the learned one."""
    chunks: dict[str, list[list[NDArray[np.float64]]]] = {}
    sums = []
    given = donor_blocks(table.video, donor) if donor else None
    for scores in replaced_scores(probe, table, given):
        for name, drawn in scores.block_probs.items():
            chunks.setdefault(name, []).append(drawn)
        if targets is not None:
            sums.append(block_sums(scores.attention, table.frames[scores.blocks], targets))
        on_progress(Progress("attention", scores.blocks.stop, len(table)))
    probs = {name: [np.concatenate(draw) for draw in zip(*parts, strict=True)] for name, parts in chunks.items()}
    return probs, np.concatenate(sums) if sums else np.empty((0, 0))


class _Part(NamedTuple):
    """Some fields of `Faithfulness`, and some of its differences with their intervals."""

    figures: dict[str, Any]
    differences: dict[str, tuple[float, Interval]]


def _of_replacements(
    targets: NDArray[Any], probs: dict[str, list[NDArray[np.float64]]], groups: Sequence[str], seed: int
) -> _Part:
    metric = accuracy_statistic if targets.ndim == 1 else map_statistic
    statistics = {
        name: mean_of_statistics([metric(targets, table) for table in drawn]) for name, drawn in probs.items()
    }
    (learned,) = probs["learned"]
    others = {name: drawn for name, drawn in probs.items() if name != "learned"}
    several = targets.ndim > 1
    return _Part(
        {name: _of_all(statistic, len(groups)) for name, statistic in statistics.items()}
        | {
            "changed": {n: float(np.mean([changed_share(learned, p) for p in drawn])) for n, drawn in others.items()},
            "shift": {
                n: float(np.mean([prediction_shift(learned, p, multilabel=several) for p in drawn]))
                for n, drawn in others.items()
            },
        },
        {name: _difference(statistics["learned"], statistics[name], groups, seed) for name in others},
    )


def _of_curves(
    block_curves: NDArray[np.float64],
    shares: NDArray[np.float64],
    owner: NDArray[np.int64],
    groups: Sequence[str],
    seed: int,
) -> _Part:
    curves = np.stack([block_curves[owner == video].mean(axis=0) for video in np.unique(owner)])  # (V, 3, P)
    areas = {name: area_statistic(curves[:, i], shares) for i, name in enumerate(CURVES)}
    figures = {name: _of_all(area, len(groups)) for name, area in areas.items()}
    if np.isnan(list(figures.values())).any():
        figures, differences = {}, {}
    else:
        differences = {
            "deletion": _difference(areas["random"], areas["deletion"], groups, seed),
            "insertion": _difference(areas["insertion"], areas["random"], groups, seed),
        }
    means = dict(zip(CURVES, curves.mean(axis=0).tolist(), strict=True))
    return _Part(figures | {"curve_shares": shares.tolist(), "curves": means}, differences)


def _of_boxes(sums: NDArray[np.float64], table: BlockTable, targets: Targets, store: FeatureStore, seed: int) -> _Part:
    found = localization(sums, table, targets)
    groups = [store.groups[video] for video in found.videos]
    statistics = {name: mean_statistic(values) for name, values in found.figures.items()}
    figures = {name: _of_all(statistic, len(groups)) for name, statistic in statistics.items()}
    differences = {
        name: _difference(statistics[name.split("_")[0]], statistic, groups, seed)
        for name, statistic in statistics.items()
        if "_" in name
    }
    numbers = {"num_boxed_videos": len(found.videos), "num_boxed_frames": found.num_frames}
    return _Part(figures | numbers | {"by_video": _by_video(found, np.unique(table.video))}, differences)


def _by_video(found: Localization, videos: NDArray[np.int64]) -> dict[str, list[float | None]]:
    """Figures of all videos, None of those without a box."""
    known = {
        name: dict(zip(found.videos.tolist(), values.tolist(), strict=True)) for name, values in found.figures.items()
    }
    return {name: [of.get(video) for video in videos.tolist()] for name, of in known.items()}


def _of_all(statistic: Statistic, num_videos: int) -> float:
    """A statistic of all videos, each once."""
    return float(statistic(np.ones((1, num_videos)))[0])


def _difference(one: Statistic, other: Statistic, groups: Sequence[str], seed: int) -> tuple[float, Interval]:
    """A difference, and its interval: both of its terms are of the same resample."""

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return one(weights) - other(weights)

    return _of_all(statistic, len(groups)), bootstrap_interval(statistic, groups, seed=seed)
