"""Videos to CNN feature cubes: finds, decodes, runs the trunk and packs one feature store."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attnrec.config import ExtractConfig, FeatureSpec
from attnrec.data.layouts import (
    SPLIT_PARTS,
    VideoEntry,
    class_names,
    dataset_root,
    default_splits,
    leaking_groups,
    scan_videos,
)
from attnrec.data.packing import (
    FeatureSource,
    VideoRow,
    file_sha256,
    pack_store,
    part_fingerprint,
    parts_dir,
    read_part,
    remove_parts,
    stored_sources,
    video_id,
    writing_part,
)
from attnrec.data.prefetch import DecodeAhead, FrameBatch
from attnrec.data.store import FeatureStore, is_store
from attnrec.data.video import FrameReader, probe
from attnrec.errors import DataError, FeatureStoreError, VideoError
from attnrec.models.backbone import BATCH_FRAMES, Trunk, build_trunk, weights_sha256
from attnrec.runtime import (
    OnProgress,
    Progress,
    default_jobs,
    no_progress,
    prepare_cpu,
    require_disk_space,
    resolve_device,
    versions,
)

IMAGE_SIZE = 224  # side in px of what the network sees
_PROBED_VIDEOS = 24
_LEAST_FRAME_BYTES = 20  # of a frame that repeats the last, in the codecs at hand


@dataclass(frozen=True)
class ExtractPlan:
    """What `extract` would do.

    Attributes:
        out: The store.
        num_videos: Videos found.
        classes: Number of videos of each class.
        num_groups: Groups among them.
        splits: Number of videos in each part, by split.
        estimated_frames: Frames to store, from the headers of some of the videos.
        estimated_bytes: Size of the store.
        needed_bytes: Disk space while parts and store are both there.
        free_bytes: What the disk has.
        estimated_seconds: For all videos on this machine.
    """

    out: str
    num_videos: int
    classes: dict[str, int]
    num_groups: int
    splits: dict[str, dict[str, int]]
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
        num_videos: Videos in it.
        num_extracted: Videos decoded this time; the others were there already.
        num_frames: Frames in it.
        cube: Shape of a feature cube, K, K, D.
        classes: Number of videos of each class.
        num_groups: Groups among them.
        splits: Number of videos in each part, by split.
        leaking_splits: Splits that part a group.
        skipped: Path and reason of each video left out.
        damaged: Path and status of each video that was kept though its end or some frames are missing.
        size_bytes: Of the file.
        seconds: Taken.
    """

    out: str
    num_videos: int
    num_extracted: int
    num_frames: int
    cube: tuple[int, int, int]
    classes: dict[str, int]
    num_groups: int
    splits: dict[str, dict[str, int]]
    leaking_splits: list[str]
    skipped: list[tuple[str, str]]
    damaged: list[tuple[str, str]]
    size_bytes: int
    seconds: float


def plan_extraction(videos: Path, out: Path, config: ExtractConfig) -> ExtractPlan:
    """Estimate an extraction without decoding more than headers.

    Args:
        videos: Folder of videos, or one video.
        out: The store to be made.
        config: Settings.

    Returns:
        The plan.

    Raises:
        DataError: There are no videos.
        ConfigError: The settings do not fit together.
    """
    entries = scan_videos(videos)
    trunk = Trunk(config.backbone, layer=config.layer, grid_size=config.grid_size)
    prepare_cpu(config.jobs)
    device = resolve_device(config.device)
    trunk.to(device)
    K, D = trunk.cube_shape(IMAGE_SIZE)
    frames = _estimated_frames(dataset_root(videos), entries, config.sample_fps)
    size = frames * K * K * D * 2
    labels, groups = _labels(entries), [entry.group for entry in entries]
    return ExtractPlan(
        out=str(out),
        num_videos=len(entries),
        classes=_class_counts(entries),
        num_groups=len(set(groups)),
        splits=_split_counts(default_splits(labels, groups, config.seed)),
        estimated_frames=frames,
        estimated_bytes=size,
        needed_bytes=2 * size,
        free_bytes=require_disk_space(out.absolute().parent, 0),
        estimated_seconds=frames * _seconds_per_frame(trunk),
    )


def extract(
    videos: str | Path, out: str | Path, config: ExtractConfig | None = None, *, on_progress: OnProgress = no_progress
) -> ExtractReport:
    """Extract the feature cubes of a folder of videos into one store.

    Running it again continues after an interruption, and takes up videos that were added or changed.

    Args:
        videos: Folder of videos, in class folders or named `v_<class>_g<group>_c<clip>`; or one video.
        out: The store, an HDF5 file.
        config: Settings.
        on_progress: Told of every finished video.

    Returns:
        What was done.

    Raises:
        DataError: There are no videos, or none could be decoded.
        FeatureStoreError: `out` was made with other settings or is something else.
        VideoError: A video cannot be decoded and `config.on_error` is `fail`.
        WeightsError: The backbone's weights cannot be had.
        AttnrecError: The store cannot be written.
    """
    config = config or ExtractConfig()
    videos, out = Path(videos), Path(out)
    started = time.monotonic()
    entries = scan_videos(videos)
    earlier = _earlier_store(out, config)
    prepare_cpu(config.jobs)
    device = resolve_device(config.device)
    trunk, spec = prepare_trunk(config)
    if earlier is not None and not config.overwrite:
        _require_same_settings(earlier, spec)
    trunk.to(device)
    root = dataset_root(videos)

    work = _Extraction(root, out, spec, trunk, config, on_progress)
    try:
        kept, sources = work.run(entries, earlier)
    finally:
        work.remove_empty_parts()
    rows = _rows(kept, work.content)
    skipped = work.skipped
    labels, groups = np.array([row.label for row in rows], np.int32), [row.group for row in rows]
    splits = default_splits(labels, groups, config.seed)
    if earlier is not None and _unchanged(earlier, rows, splits, skipped):
        remove_parts(out)
    else:
        on_progress(Progress("pack", 0, 1, str(out)))
        pack_store(
            out,
            spec,
            rows,
            sources,
            classes=class_names(kept),
            splits=splits,
            skipped=skipped,
            backbone_state=trunk.weights_state(),
            dataset=root.absolute().name,
            videos_dir=str(root.absolute()),
            program_version=versions()["attnrec"],
        )
    return ExtractReport(
        out=str(out),
        num_videos=len(rows),
        num_extracted=work.num_extracted,
        num_frames=sum(source.num_frames for source in sources),
        cube=(spec.grid_size, spec.grid_size, spec.feature_dim),
        classes=_class_counts(kept),
        num_groups=len(set(groups)),
        splits=_split_counts(splits),
        leaking_splits=[name for name, codes in splits.items() if leaking_groups(codes, groups)],
        skipped=skipped,
        damaged=[
            (row.path, source.summary.status)
            for row, source in zip(rows, sources, strict=True)
            if source.summary.status != "ok"
        ],
        size_bytes=out.stat().st_size,
        seconds=time.monotonic() - started,
    )


def prepare_trunk(config: ExtractConfig) -> tuple[Trunk, FeatureSpec]:
    """The trunk that the settings ask for, on the CPU, and what identifies its features."""
    trunk, weights_id = build_trunk(config.backbone, config.weights, layer=config.layer, grid_size=config.grid_size)
    K, D = trunk.cube_shape(IMAGE_SIZE)
    spec = FeatureSpec(
        backbone=config.backbone,
        layer=trunk.layer,
        weights_id=weights_id,
        weights_sha256=weights_sha256(trunk.weights_state()),
        grid_size=K,
        feature_dim=D,
        image_size=IMAGE_SIZE,
        resize=config.resize,
        sample_fps=config.sample_fps,
    )
    return trunk, spec


def frame_reader(path: Path, spec: FeatureSpec) -> FrameReader:
    """A reader of the frames that features of these settings are computed from."""
    return FrameReader(path, width=spec.image_size, height=spec.image_size, resize=spec.resize, max_fps=spec.sample_fps)


class _Extraction:
    """One pass over the videos: what is there already is kept, the rest is decoded ahead and sent through the trunk."""

    def __init__(
        self, root: Path, out: Path, spec: FeatureSpec, trunk: Trunk, config: ExtractConfig, on_progress: OnProgress
    ) -> None:
        self.root = root
        self.parts = parts_dir(out)
        self.spec = spec
        self.trunk = trunk
        self.config = config
        self.on_progress = on_progress
        self.content: dict[Path, str] = {}
        self.skipped: list[tuple[str, str]] = []
        self.num_extracted = 0

    def run(
        self, entries: Sequence[VideoEntry], earlier: FeatureStore | None
    ) -> tuple[list[VideoEntry], list[FeatureSource]]:
        stored = {} if earlier is None else stored_sources(earlier)
        found: dict[Path, FeatureSource] = {}
        missing = []
        for done, entry in enumerate(entries):
            self.on_progress(Progress("check", done, len(entries), str(entry.path)))
            source = self._finished(entry, stored)
            if source is not None:
                found[entry.path] = source
            elif entry.path in self.content:
                missing.append(entry)
        self.on_progress(Progress("check", len(entries), len(entries)))
        if earlier is not None and not self.config.overwrite:
            _require_nothing_lost(earlier, entries, self.content)
        self._require_space(missing, sum(source.num_frames for source in found.values()))
        readers = (frame_reader(self.root / entry.path, self.spec) for entry in missing)
        jobs = self.config.jobs or default_jobs()
        with DecodeAhead(readers, jobs=jobs, batch_frames=BATCH_FRAMES) as decoded:
            for entry, (reader, batches) in zip(missing, decoded, strict=True):
                self.on_progress(Progress("extract", len(found) + len(self.skipped), len(entries), str(entry.path)))
                try:
                    found[entry.path] = self._extract_one(entry, reader, batches)
                except VideoError as error:
                    self._skip(entry, error)
        self.on_progress(Progress("extract", len(entries), len(entries)))
        kept = [entry for entry in entries if entry.path in found]
        if not kept:
            path, reason = self.skipped[0]
            raise DataError(
                f"{self.root}: none of {len(entries)} videos could be decoded; the first is {path}: {reason}"
            )
        return kept, [found[entry.path] for entry in kept]

    def _require_space(self, missing: Sequence[VideoEntry], num_found: int) -> None:
        """Say what the work takes on disk, and refuse it where the disk has less. Parts and store are there at once."""
        if not missing:
            return
        frame_bytes = self.spec.num_locations * self.spec.feature_dim * 2
        new = _estimated_frames(self.root, missing, self.spec.sample_fps) * frame_bytes
        needed = 2 * new + num_found * frame_bytes
        free = require_disk_space(self.parts.absolute().parent, needed)
        message = (
            f"{len(missing)} videos to extract, about {new / 1e9:.2f} GB of features; "
            f"needs {needed / 1e9:.2f} GB, {free / 1e9:.0f} GB free"
        )
        self.on_progress(Progress("extract", message=message))

    def _finished(self, entry: VideoEntry, stored: dict[str, FeatureSource]) -> FeatureSource | None:
        path = self.root / entry.path
        try:
            frame_reader(path, self.spec).check()
            self.content[entry.path] = file_sha256(path)
        except VideoError as error:
            self._skip(entry, error)
            return None
        except OSError as error:
            self._skip(entry, VideoError("unreadable", f"{path}: unreadable: {error.strerror}"))
            return None
        fingerprint = part_fingerprint(self.content[entry.path], self.spec)
        return stored.get(fingerprint) or read_part(self._part_path(entry), fingerprint)

    def _extract_one(self, entry: VideoEntry, reader: FrameReader, batches: Iterable[FrameBatch]) -> FeatureSource:
        path = self._part_path(entry)
        fingerprint = part_fingerprint(self.content[entry.path], self.spec)
        with writing_part(path, self.spec) as part:
            for batch in batches:
                part.append(self.trunk.extract(batch.frames), batch.pts)
            assert reader.summary is not None
            part.finish(fingerprint, reader.summary)
        self.num_extracted += 1
        source = read_part(path, fingerprint)
        if source is None:
            raise FeatureStoreError(f"{path}: vanished while it was needed; run `attnrec extract` again")
        return source

    def _skip(self, entry: VideoEntry, error: VideoError) -> None:
        if self.config.on_error == "fail":
            raise error
        self.skipped.append((str(entry.path), error.reason))
        self.on_progress(Progress("extract", message=f"skipped {error}"))

    def _part_path(self, entry: VideoEntry) -> Path:
        return self.parts / f"{video_id(entry.path)}.h5"

    def remove_empty_parts(self) -> None:
        """Leave no folder of parts without parts."""
        if self.parts.is_dir() and not any(self.parts.iterdir()):
            self.parts.rmdir()


def _earlier_store(out: Path, config: ExtractConfig) -> FeatureStore | None:
    if not out.exists():
        return None
    if not is_store(out):
        raise FeatureStoreError(f"{out}: exists and is not a feature store; choose another name")
    try:
        return FeatureStore(out)
    except FeatureStoreError:
        if config.overwrite:
            return None
        raise


def _require_same_settings(store: FeatureStore, spec: FeatureSpec) -> None:
    if store.spec == replace(spec, weights_id=store.spec.weights_id):
        return
    old, new = vars(store.spec), vars(spec)
    changed = ", ".join(f"{name} {old[name]} -> {new[name]}" for name in old if old[name] != new[name])
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


def _rows(entries: Sequence[VideoEntry], content: dict[Path, str]) -> list[VideoRow]:
    labels = _labels(entries)
    return [
        VideoRow(video_id(entry.path), str(entry.path), content[entry.path], int(label), entry.group)
        for entry, label in zip(entries, labels, strict=True)
    ]


def _labels(entries: Sequence[VideoEntry]) -> NDArray[np.int32]:
    index = {name: i for i, name in enumerate(class_names(entries))}
    return np.array([-1 if entry.label is None else index[entry.label] for entry in entries], np.int32)


def _unchanged(
    store: FeatureStore, rows: Sequence[VideoRow], splits: dict[str, NDArray[np.uint8]], skipped: list[tuple[str, str]]
) -> bool:
    old = [
        VideoRow(v.id[i].decode(), store.path_of(i), v.fingerprint[i].decode(), int(v.label[i]), store.groups[i])
        for v in (store.videos,)
        for i in range(len(v))
    ]
    same_splits = all(name in store.split_names and np.array_equal(store.split(name), splits[name]) for name in splits)
    return old == list(rows) and same_splits and store.skipped == skipped


def _class_counts(entries: Sequence[VideoEntry]) -> dict[str, int]:
    labels = [entry.label for entry in entries]
    return {name: labels.count(name) for name in class_names(entries)}


def _split_counts(splits: dict[str, NDArray[np.uint8]]) -> dict[str, dict[str, int]]:
    return {
        name: {part: int((codes == code).sum()) for code, part in enumerate(SPLIT_PARTS)}
        for name, codes in splits.items()
    }


def _estimated_frames(root: Path, entries: Sequence[VideoEntry], sample_fps: float | None) -> int:
    """Frames of all videos, from the headers of some; videos that cannot be opened count for nothing.

    A header may lie, so a video counts for no more frames than its bytes could hold.
    """
    chosen = [entries[i] for i in np.linspace(0, len(entries) - 1, min(len(entries), _PROBED_VIDEOS)).astype(int)]
    counts = []
    for entry in chosen:
        try:
            info = probe(root / entry.path)
        except VideoError:
            counts.append(0.0)
            continue
        rate = info.fps if info.fps > 0 else 30.0
        duration = info.duration_seconds if info.duration_seconds > 0 else 0.0
        most = (root / entry.path).stat().st_size / _LEAST_FRAME_BYTES
        counts.append(min(duration * min(rate, sample_fps or rate), most) + 1)
    return int(np.mean(counts) * len(entries))


def _seconds_per_frame(trunk: Trunk) -> float:
    frames = np.zeros((BATCH_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    trunk.extract(frames)  # the first pass sets things up
    started = time.monotonic()
    trunk.extract(frames)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.monotonic() - started) / BATCH_FRAMES
