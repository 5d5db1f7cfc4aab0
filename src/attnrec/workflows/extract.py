"""Videos to CNN feature cubes: finds, decodes, runs the trunk and packs one feature store."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attnrec.config import ExtractConfig, FeatureSpec
from attnrec.data.dataset import Dataset, Problem, VideoEntry
from attnrec.data.layouts import read_dataset
from attnrec.data.packing import VideoRow, pack_store, remove_parts, stored_sources
from attnrec.data.parts import FeatureSource, parts_dir, sole_writer, video_id
from attnrec.data.store import FeatureStore, is_store
from attnrec.data.video import probe
from attnrec.distributed import World, joined_world
from attnrec.errors import DataError, FeatureStoreError, VideoError
from attnrec.models.backbone import Trunk
from attnrec.models.inference import BATCH_FRAMES, CubeExtractor
from attnrec.runtime import (
    OnProgress,
    Progress,
    default_jobs,
    no_progress,
    prepare_cpu,
    require_disk_space,
    resolve_device,
    resolve_precision,
    versions,
)
from attnrec.workflows.extraction import Extraction, Findings
from attnrec.workflows.features import IMAGE_SIZE, frame_bytes, prepare_trunk

_PROBED_VIDEOS = 24
_LEAST_FRAME_BYTES = 20  # of a frame that repeats the last, in the codecs at hand


@dataclass(frozen=True)
class ExtractPlan:
    """What `extract` would do.

    Attributes:
        out: The store.
        dataset: Name of the dataset.
        layout: That labels and splits were read off.
        multilabel: A video may have several labels.
        num_videos: Videos found.
        classes: Number of videos of each class.
        num_groups: Groups among them.
        splits: Number of videos in each part, by split.
        leaking_splits: Splits that part a group.
        problems: What is odd about the videos and their lists.
        estimated_frames: Frames to store, from the headers of some of the videos.
        estimated_bytes: Size of the store.
        needed_bytes: Disk space while parts and store are both there.
        free_bytes: What the disk has.
        estimated_seconds: For all videos on this machine.
    """

    out: str
    dataset: str
    layout: str
    multilabel: bool
    num_videos: int
    classes: dict[str, int]
    num_groups: int
    splits: dict[str, dict[str, int]]
    leaking_splits: list[str]
    problems: list[Problem]
    estimated_frames: int
    estimated_bytes: int
    needed_bytes: int
    free_bytes: int
    estimated_seconds: float


@dataclass(frozen=True)
class ExtractReport:
    """What `extract` did.

    Attributes:
        out: The store.
        dataset: Name of the dataset.
        layout: That labels and splits were read off.
        multilabel: A video may have several labels.
        num_videos: Videos in it.
        num_extracted: Videos decoded this time; the others were there already.
        num_frames: Frames in it.
        cubes: Shape of a feature cube, K, K, D, by layer.
        precision: That the network computed in.
        classes: Number of videos of each class.
        num_groups: Groups among them.
        splits: Number of videos in each part, by split.
        leaking_splits: Splits that part a group.
        problems: What is odd about the videos and their lists.
        skipped: Path and reason of each video left out.
        damaged: Path and status of each video that was kept though its end or some frames are missing.
        num_variable_rate: Videos whose frames come at uneven times.
        size_bytes: Of the file.
        seconds: Taken.
    """

    out: str
    dataset: str
    layout: str
    multilabel: bool
    num_videos: int
    num_extracted: int
    num_frames: int
    cubes: dict[str, tuple[int, int, int]]
    precision: str
    classes: dict[str, int]
    num_groups: int
    splits: dict[str, dict[str, int]]
    leaking_splits: list[str]
    problems: list[Problem]
    skipped: list[tuple[str, str]]
    damaged: list[tuple[str, str]]
    num_variable_rate: int
    size_bytes: int
    seconds: float


def plan_extraction(videos: Path, out: Path, config: ExtractConfig) -> ExtractPlan:
    """Estimate an extraction without decoding more than headers.

    Args:
        videos: As in `extract`.
        out: The store to be made.
        config: Settings.

    Returns:
        The plan.

    Raises:
        DataError: There are no videos, or their lists cannot be used.
        ConfigError: The settings do not fit together.
    """
    data = _read_dataset(videos, config)
    trunk = Trunk(config.backbone, layers=config.layers, grid_size=config.grid_size)
    prepare_cpu(config.jobs)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    frames = estimated_frames(data.root, [entry.path for entry in data.entries], config.sample_fps)
    size = frames * sum(K * K * D * 2 for K, D in trunk.cube_shapes(IMAGE_SIZE).values())
    return ExtractPlan(
        out=str(out),
        dataset=data.name,
        layout=data.layout,
        multilabel=data.multilabel,
        num_videos=len(data.entries),
        classes=data.class_counts,
        num_groups=len(set(data.groups)),
        splits=data.split_counts,
        leaking_splits=data.leaking_splits,
        problems=list(data.problems),
        estimated_frames=frames,
        estimated_bytes=size,
        needed_bytes=2 * size,
        free_bytes=require_disk_space(out.absolute().parent, 0),
        estimated_seconds=(
            frames * _seconds_per_frame(CubeExtractor(trunk, device=device, precision=precision)) if frames else 0.0
        ),
    )


def extract(
    videos: str | Path, out: str | Path, config: ExtractConfig | None = None, *, on_progress: OnProgress = no_progress
) -> ExtractReport:
    """Extract the feature cubes of a folder of videos into one store.

    Running it again continues after an interruption, and takes up videos that were added or changed. Under torchrun
    the processes share the videos, and the first packs the store.

    Args:
        videos: Folder of videos, laid out in any of the ways of `data.layouts`; a CSV file of labels; or one video.
        out: The store, an HDF5 file.
        config: Settings.
        on_progress: Told of every finished video.

    Returns:
        What was done.

    Raises:
        DataError: There are no videos, their lists cannot be used, or none could be decoded.
        FeatureStoreError: `out` was made with other settings, is something else, or is being written by another.
        VideoError: A video cannot be decoded and `config.on_error` is `fail`.
        WeightsError: The backbone's weights cannot be had.
        AttnrecError: The store cannot be written.
    """
    config = config or ExtractConfig()
    videos, out = Path(videos), Path(out)
    started = time.monotonic()
    data = _read_dataset(videos, config)
    _require_store_or_nothing(out)
    with joined_world() as world:
        job = _Job(data, out, config, world, on_progress)
        if not world.is_first:
            job.work()
            report = None
        else:
            with sole_writer(out):
                findings = job.work()
                report = replace(job.pack(findings), seconds=time.monotonic() - started)
        shared: ExtractReport = world.from_first(report)
        return shared


class _Job:
    """One store in the making, as one process of the world sees it."""

    def __init__(self, data: Dataset, out: Path, config: ExtractConfig, world: World, on_progress: OnProgress) -> None:
        self.data = data
        self.root = data.root
        self.out = out
        self.entries = data.entries
        self.config = config
        self.world = world
        self.on_progress = on_progress
        self.jobs = config.jobs or max(1, default_jobs() // world.local_size)
        prepare_cpu(config.jobs if world.size == 1 else self.jobs)
        device = resolve_device(config.device, world.local_rank if world.size > 1 else None)
        precision = resolve_precision(config.precision, device)
        self.trunk, self.specs = prepare_trunk(config, precision)
        self.extractor = CubeExtractor(self.trunk, device=device, precision=precision)

    def work(self) -> Findings:
        """Compute the features that are missing, together with the other processes."""
        self.world.gather(None)  # the first has checked the store's name and holds its lock
        self.earlier = _earlier_store(self.out, self.config)
        if self.earlier is not None and not self.config.overwrite:
            _require_same_settings(self.earlier, self.specs)
        stored = {} if self.earlier is None else stored_sources(self.earlier)
        pass_ = Extraction(self.root, self.out, self.specs, self.config, stored, self.on_progress)
        mine = pass_.check(self.world.share(self.entries), self.jobs)
        everyones = self._merged(mine)
        if self.world.is_first:
            self._require_room(everyones)
        self.world.gather(None)
        frames = estimated_frames(self.root, mine.missing, self.config.sample_fps)
        pass_.run(mine, self.extractor, self.jobs, frames)
        findings = self._merged(mine)
        self._find = pass_.source
        return findings

    def _merged(self, mine: Findings) -> Findings:
        merged = Findings()
        for findings in self.world.gather(mine):
            merged.merge(findings)
        return merged

    def _require_room(self, findings: Findings) -> None:
        """Say what the work takes on disk, and refuse it where it would lose videos or the disk has less."""
        if self.earlier is not None and not self.config.overwrite:
            _require_nothing_lost(self.earlier, self.entries, findings.content)
        if not findings.missing:
            return
        each = frame_bytes(self.specs)
        new = estimated_frames(self.root, findings.missing, self.config.sample_fps) * each
        needed = 2 * new + findings.num_frames * each  # parts and store are there at once
        free = require_disk_space(parts_dir(self.out).absolute().parent, needed)
        message = (
            f"{len(findings.missing)} of {len(self.entries)} videos to extract, {self.specs[0].precision} on "
            f"{self.extractor.device}, about {new / 1e9:.2f} GB of features; "
            f"needs {needed / 1e9:.2f} GB, {free / 1e9:.0f} GB free"
        )
        self.on_progress(Progress("extract", message=message))

    def pack(self, findings: Findings) -> ExtractReport:
        """Put all videos into the store, and tell what it holds."""
        data, sources = self._kept(findings)
        rows = _rows(data, findings.content)
        skipped = [
            (str(entry.path), findings.failed[entry.path][0]) for entry in self.entries if entry.path in findings.failed
        ]
        if self.earlier is not None and _unchanged(self.earlier, rows, data, skipped):
            remove_parts(self.out)
        else:
            self.on_progress(Progress("pack", 0, 1, str(self.out)))
            pack_store(
                self.out,
                self.specs,
                rows,
                sources,
                classes=data.classes,
                splits=data.splits,
                skipped=skipped,
                backbone_state=self.trunk.weights_state(),
                dataset=data.name,
                videos_dir=str(self.root.absolute()),
                program_version=versions()["attnrec"],
                label_matrix=data.label_matrix if data.multilabel else None,
            )
        summaries = [(row.path, source.summary) for row, source in zip(rows, sources, strict=True)]
        return ExtractReport(
            out=str(self.out),
            dataset=data.name,
            layout=data.layout,
            multilabel=data.multilabel,
            num_videos=len(rows),
            num_extracted=len(set(findings.missing) - findings.failed.keys()),
            num_frames=sum(source.num_frames for source in sources),
            cubes={spec.layer: (spec.grid_size, spec.grid_size, spec.feature_dim) for spec in self.specs},
            precision=self.specs[0].precision,
            classes=data.class_counts,
            num_groups=len(set(data.groups)),
            splits=data.split_counts,
            leaking_splits=data.leaking_splits,
            problems=list(data.problems),
            skipped=skipped,
            damaged=[(path, summary.status) for path, summary in summaries if summary.status != "ok"],
            num_variable_rate=sum(summary.is_variable_rate for _, summary in summaries),
            size_bytes=self.out.stat().st_size,
            seconds=0.0,
        )

    def _kept(self, findings: Findings) -> tuple[Dataset, list[FeatureSource]]:
        """The videos that can be packed and where their features are."""
        kept: set[Path] = set()
        sources = []
        for entry in self.entries:
            if entry.path in findings.failed:
                continue
            source = self._find(entry.path, findings.content[entry.path])
            if source is None:
                raise FeatureStoreError(
                    f"{parts_dir(self.out)}: lost {entry.path} while it was needed; run `attnrec extract` again"
                )
            kept.add(entry.path)
            sources.append(source)
        if not kept:
            path, (reason, _) = next(iter(findings.failed.items()))
            raise DataError(
                f"{self.root}: none of {len(self.entries)} videos could be decoded; the first is {path}: {reason}"
            )
        return self.data.restricted_to(kept), sources


def _read_dataset(videos: Path, config: ExtractConfig) -> Dataset:
    return read_dataset(videos, config.dataset, splits=config.splits, labels=config.labels, seed=config.seed)


def _require_store_or_nothing(out: Path) -> None:
    if out.exists() and not is_store(out):
        raise FeatureStoreError(f"{out}: exists and is not a feature store; choose another name")


def _earlier_store(out: Path, config: ExtractConfig) -> FeatureStore | None:
    if not out.exists():
        return None
    try:
        return FeatureStore(out)
    except FeatureStoreError:
        if config.overwrite:
            return None
        raise


def _require_same_settings(store: FeatureStore, specs: Sequence[FeatureSpec]) -> None:
    if store.layers != [spec.layer for spec in specs]:
        changed = f"layers {', '.join(store.layers)} -> {', '.join(spec.layer for spec in specs)}"
    else:
        pairs = [(old, replace(new, weights_id=old.weights_id)) for old, new in zip(store.specs, specs, strict=True)]
        changes = {
            f"{name} {value} -> {getattr(new, name)}"
            for old, new in pairs
            for name, value in vars(old).items()
            if value != getattr(new, name)
        }
        changed = ", ".join(sorted(changes))
    if changed:
        raise FeatureStoreError(
            f"{store.path}: was made with other settings ({changed}); choose another name, or --overwrite to replace it"
        )


def _require_nothing_lost(store: FeatureStore, entries: Sequence[VideoEntry], content: dict[Path, str]) -> None:
    """Videos of the store must be there, by name or by content: a folder may not be mounted, or be another one."""
    names, contents = {str(entry.path) for entry in entries}, set(content.values())
    fingerprints = store.videos.fingerprint
    gone = [
        store.path_of(i)
        for i in range(len(store.videos))
        if store.path_of(i) not in names and fingerprints[i].decode() not in contents
    ]
    if gone:
        raise FeatureStoreError(
            f"{store.path}: {len(gone)} of its {len(store.videos)} videos are not here any more, the first {gone[0]}; "
            "choose another name, or --overwrite to drop them"
        )


def _rows(data: Dataset, content: dict[Path, str]) -> list[VideoRow]:
    labels = [-1] * len(data.entries) if data.multilabel else data.label_index.tolist()
    return [
        VideoRow(video_id(entry.path), str(entry.path), content[entry.path], label, entry.group)
        for entry, label in zip(data.entries, labels, strict=True)
    ]


def _unchanged(
    store: FeatureStore, rows: Sequence[VideoRow], data: Dataset, skipped: Sequence[tuple[str, str]]
) -> bool:
    old = [
        VideoRow(v.id[i].decode(), store.path_of(i), v.fingerprint[i].decode(), int(v.label[i]), store.groups[i])
        for v in (store.videos,)
        for i in range(len(v))
    ]
    return (
        old == list(rows)
        and (store.dataset, store.classes, store.multilabel) == (data.name, list(data.classes), data.multilabel)
        and np.array_equal(store.label_matrix, data.label_matrix)
        and set(store.split_names) == data.splits.keys()
        and all(np.array_equal(store.split(name), codes) for name, codes in data.splits.items())
        and store.skipped == skipped
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


def _seconds_per_frame(extractor: CubeExtractor) -> float:
    frames = np.zeros((BATCH_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    extractor(frames)  # the first pass sets things up
    started = time.monotonic()
    extractor(frames)
    return (time.monotonic() - started) / BATCH_FRAMES
