"""Estimates what an extraction will take, before it begins."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnrec.datasets.dataset import Dataset, Problem
from attnrec.datasets.read import read_dataset
from attnrec.errors import VideoError
from attnrec.features.annotation import BoxSummary, read_annotation
from attnrec.features.store import FeatureStore
from attnrec.files import require_disk_space
from attnrec.runtime import prepare_cpu, resolve_device, resolve_precision
from attnrec.settings import ExtractConfig
from attnrec.video.decode import probe

if TYPE_CHECKING:
    from attnrec.features.extractor import CubeExtractor

_PROBED_VIDEOS = 24
_LEAST_FRAME_BYTES = 20  # smallest encoded frame, one that repeats the last


def dataset_of(videos: Path, config: ExtractConfig) -> Dataset:
    """Read the dataset of an extraction. Raises as `datasets.layouts.read_dataset`."""
    return read_dataset(videos, config.dataset, splits=config.splits, labels=config.labels, seed=config.seed)


# Settings that decide features; a store that is extended has them already.
OF_FEATURES = ("backbone", "weights", "layers", "grid_size", "fps", "resize", "precision")


def as_in_store(config: ExtractConfig, path: Path) -> ExtractConfig:
    """The settings with those that decide features, the network's weights included, as a store has them.

    Raises:
        FeatureStoreError: The store cannot be used.
    """
    store = FeatureStore(path)
    return dataclasses.replace(
        config,
        backbone=store.spec.backbone,
        weights=str(path),
        layers=tuple(store.layers),
        grid_size=max(spec.grid_size for spec in store.specs),
        fps=store.spec.sample_fps,
        resize=store.spec.resize,
        precision="bf16" if store.spec.precision == "bf16" else "fp32",
    )


@dataclass(frozen=True)
class DatasetSummary:
    """Summary of a dataset."""

    dataset: str  # name of the dataset
    layout: str  # layout that labels and splits were read from
    multilabel: bool  # a video may have several labels
    num_videos: int
    classes: dict[str, int]  # number of videos of each class
    num_groups: int
    splits: dict[str, dict[str, int]]  # number of videos in each part, by split
    leaking_splits: list[str]  # splits with videos of one group on both sides
    problems: list[Problem]  # problems found in the videos and their lists


def summary_of(data: Dataset) -> DatasetSummary:
    """Summarise a dataset."""
    return DatasetSummary(
        dataset=data.name,
        layout=data.layout,
        multilabel=data.multilabel,
        num_videos=len(data.entries),
        classes=data.class_counts,
        num_groups=len(set(data.groups)),
        splits=data.split_counts,
        leaking_splits=data.leaking_splits,
        problems=list(data.problems),
    )


@dataclass(frozen=True)
class ExtractPlan:
    """Plan of an extraction, with estimates."""

    out: str  # path of the store
    data: DatasetSummary  # the videos found
    boxes: BoxSummary | None  # annotated boxes of the videos; None without any
    estimated_frames: int  # frames to store, from the headers of some videos
    estimated_bytes: int  # size of the store
    needed_bytes: int  # disk space needed while parts and store both exist
    free_bytes: int  # free space on that disk
    estimated_seconds: float  # time for all videos on this machine


def plan_extraction(videos: Path, out: Path, config: ExtractConfig) -> ExtractPlan:
    """Estimate an extraction from the headers of videos; takes the arguments of `extract`.

    Raises:
        DataError: There are no videos, or their lists or boxes cannot be used.
        ConfigError: The settings do not fit together.
    """
    data = dataset_of(videos, config)
    annotation = read_annotation(data, config.boxes)
    from attnrec.features.backbone import Trunk  # takes seconds, which an error in the data above need not wait for
    from attnrec.features.extractor import IMAGE_SIZE, CubeExtractor

    trunk = Trunk(config.backbone, layers=config.layers, grid_size=config.grid_size)
    device = resolve_device(config.device)
    prepare_cpu(1 if device.type == "cuda" else config.jobs)
    precision = resolve_precision(config.precision, device)
    frames = estimated_frames(data.root, [entry.path for entry in data.entries], config.fps)
    size = frames * sum(K * K * D * 2 for K, D in trunk.cube_shapes(IMAGE_SIZE).values())
    return ExtractPlan(
        out=str(out),
        data=summary_of(data),
        boxes=None if annotation is None else annotation.summary(),
        estimated_frames=frames,
        estimated_bytes=size,
        needed_bytes=2 * size,
        free_bytes=require_disk_space(out.absolute().parent, 0),
        estimated_seconds=(
            frames * _seconds_per_frame(CubeExtractor(trunk, device=device, precision=precision)) if frames else 0.0
        ),
    )


def estimated_frames(root: Path, paths: Sequence[Path], sample_fps: float | None) -> int:
    """Estimate the frames of all videos from the headers of some; videos that cannot be opened count as 0.

    A header may lie, so a video counts for no more frames than its bytes could hold.
    """
    if not paths:
        return 0
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), _PROBED_VIDEOS)).astype(int)]
    counts = []
    for path in chosen:
        try:
            info = probe(root / path)
        except VideoError:
            counts.append(0.0)
            continue
        rate = info.fps if info.fps > 0 else 30.0
        duration = info.duration_seconds if info.duration_seconds > 0 else 0.0
        most = (root / path).stat().st_size / _LEAST_FRAME_BYTES
        counts.append(min(duration * min(rate, sample_fps or rate), most) + 1)
    return int(np.mean(counts) * len(paths))


def _seconds_per_frame(extractor: "CubeExtractor") -> float:
    """Measure the seconds that the network takes per frame on this machine."""
    (batch,) = extractor.batches(1)
    extractor.submit(batch, len(batch))()  # the first pass sets things up
    started = time.monotonic()
    extractor.submit(batch, len(batch))()
    return (time.monotonic() - started) / len(batch)
