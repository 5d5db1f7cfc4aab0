"""What an extraction will take, before it begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnrec.datasets.dataset import Dataset, Problem
from attnrec.datasets.read import read_dataset
from attnrec.errors import VideoError
from attnrec.features.annotation import BoxSummary, read_annotation
from attnrec.features.backbone import Trunk
from attnrec.features.extractor import BATCH_FRAMES, CubeExtractor
from attnrec.features.trunk import IMAGE_SIZE
from attnrec.files import require_disk_space
from attnrec.runtime import prepare_cpu, resolve_device, resolve_precision
from attnrec.settings import ExtractConfig
from attnrec.video.decode import probe

_PROBED_VIDEOS = 24
_LEAST_FRAME_BYTES = 20  # of a frame that repeats the last, in the codecs at hand


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset in numbers.

    Attributes:
        dataset: Its name.
        layout: That labels and splits were read off.
        multilabel: A video may have several labels.
        num_videos: Videos in it.
        classes: Number of videos of each class.
        num_groups: Groups among them.
        splits: Number of videos in each part, by split.
        leaking_splits: Splits that part a group.
        problems: What is odd about the videos and their lists.
    """

    dataset: str
    layout: str
    multilabel: bool
    num_videos: int
    classes: dict[str, int]
    num_groups: int
    splits: dict[str, dict[str, int]]
    leaking_splits: list[str]
    problems: list[Problem]


def summary_of(data: Dataset) -> DatasetSummary:
    """A dataset in numbers."""
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
    """What `extract` would do.

    Attributes:
        out: The store.
        data: The videos found.
        boxes: Where annotated things are in them; None where nothing is known.
        estimated_frames: Frames to store, from the headers of some of the videos.
        estimated_bytes: Size of the store.
        needed_bytes: Disk space while parts and store are both there.
        free_bytes: What the disk has.
        estimated_seconds: For all videos on this machine.
    """

    out: str
    data: DatasetSummary
    boxes: BoxSummary | None
    estimated_frames: int
    estimated_bytes: int
    needed_bytes: int
    free_bytes: int
    estimated_seconds: float


def plan_extraction(videos: Path, out: Path, config: ExtractConfig) -> ExtractPlan:
    """Estimate an extraction without decoding more than headers.

    Args:
        videos: As in `extract`.
        out: The store to be made.
        config: Settings.

    Returns:
        The plan.

    Raises:
        DataError: There are no videos, or their lists or boxes cannot be used.
        ConfigError: The settings do not fit together.
    """
    data = read_dataset(videos, config.dataset, splits=config.splits, labels=config.labels, seed=config.seed)
    annotation = read_annotation(data, config.boxes)
    trunk = Trunk(config.backbone, layers=config.layers, grid_size=config.grid_size)
    prepare_cpu(config.jobs)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    frames = estimated_frames(data.root, [entry.path for entry in data.entries], config.sample_fps)
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
            frames * seconds_per_frame(CubeExtractor(trunk, device=device, precision=precision)) if frames else 0.0
        ),
    )


def estimated_frames(root: Path, paths: Sequence[Path], sample_fps: float | None) -> int:
    """Frames of all videos, from the headers of some; videos that cannot be opened count for nothing.

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


def seconds_per_frame(extractor: CubeExtractor) -> float:
    """Time that the network takes for a frame on this machine."""
    frames = np.zeros((BATCH_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    extractor(frames)  # the first pass sets things up
    started = time.monotonic()
    extractor(frames)
    return (time.monotonic() - started) / BATCH_FRAMES
