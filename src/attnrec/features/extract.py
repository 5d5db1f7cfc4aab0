"""Videos to CNN feature cubes: finds, decodes, runs the trunk and packs one feature store."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from attnrec.datasets.dataset import Dataset
from attnrec.datasets.read import read_dataset
from attnrec.distributed import World, joined_world
from attnrec.errors import DataError, FeatureStoreError
from attnrec.features.annotation import Annotation, BoxSummary, packed_boxes, read_annotation
from attnrec.features.earlier import (
    earlier_store,
    is_unchanged,
    require_nothing_lost,
    require_same_settings,
    require_store_or_nothing,
)
from attnrec.features.extractor import CubeExtractor
from attnrec.features.pack import VideoRow, pack_store, remove_parts, stored_sources
from attnrec.features.parts import FeatureSource, parts_dir, sole_writer, video_id
from attnrec.features.pipeline import Extraction, Findings
from attnrec.features.plan import DatasetSummary, estimated_frames, summary_of
from attnrec.features.trunk import frame_bytes, prepare_trunk
from attnrec.files import require_disk_space
from attnrec.runtime import (
    OnProgress,
    Progress,
    default_jobs,
    no_progress,
    prepare_cpu,
    resolve_device,
    resolve_precision,
    versions,
)
from attnrec.settings import ExtractConfig


@dataclass(frozen=True)
class ExtractReport:
    """What `extract` did.

    Attributes:
        out: The store.
        data: The videos in it.
        boxes: Where annotated things are in them; None where nothing is known.
        num_extracted: Videos decoded this time; the others were there already.
        num_frames: Frames in it.
        cubes: Shape of a feature cube, K, K, D, by layer.
        precision: That the network computed in.
        skipped: Path and reason of each video left out.
        damaged: Path and status of each video that was kept though its end or some frames are missing.
        num_variable_rate: Videos whose frames come at uneven times.
        size_bytes: Of the file.
        seconds: Taken.
    """

    out: str
    data: DatasetSummary
    boxes: BoxSummary | None
    num_extracted: int
    num_frames: int
    cubes: dict[str, tuple[int, int, int]]
    precision: str
    skipped: list[tuple[str, str]]
    damaged: list[tuple[str, str]]
    num_variable_rate: int
    size_bytes: int
    seconds: float


def extract(
    videos: str | Path, out: str | Path, config: ExtractConfig | None = None, *, on_progress: OnProgress = no_progress
) -> ExtractReport:
    """Extract the feature cubes of a folder of videos into one store.

    Running it again continues after an interruption, and takes up videos that were added or changed. Under torchrun
    the processes share the videos, and the first packs the store.

    Args:
        videos: Folder of videos, laid out in any of the ways of `datasets.layouts`; a CSV file of labels; or one video.
        out: The store, an HDF5 file.
        config: Settings.
        on_progress: Told of every finished video.

    Returns:
        What was done.

    Raises:
        DataError: There are no videos, their lists or boxes cannot be used, or none could be decoded.
        FeatureStoreError: `out` was made with other settings, is something else, or is being written by another.
        VideoError: A video cannot be decoded and `config.on_error` is `fail`.
        WeightsError: The backbone's weights cannot be had.
        AttnrecError: The store cannot be written.
    """
    config = config or ExtractConfig()
    videos, out = Path(videos), Path(out)
    started = time.monotonic()
    data = _read_dataset(videos, config)
    require_store_or_nothing(out)
    with joined_world() as world:
        annotation = read_annotation(data, config.boxes) if world.is_first else None
        job = _Job(data, out, config, world, on_progress)
        if not world.is_first:
            job.work()
            report = None
        else:
            with sole_writer(out):
                findings = job.work()
                report = replace(job.pack(findings, annotation), seconds=time.monotonic() - started)
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
        self.earlier = earlier_store(self.out, self.config)
        if self.earlier is not None and not self.config.overwrite:
            require_same_settings(self.earlier, self.specs)
        stored = {} if self.earlier is None else stored_sources(self.earlier)
        self.extraction = Extraction(self.root, self.out, self.specs, self.config, stored, self.on_progress)
        mine = self.extraction.check(self.world.share(self.entries), self.jobs)
        everyones = self._merged(mine)
        if self.world.is_first:
            self._require_room(everyones)
        self.world.gather(None)
        frames = estimated_frames(self.root, mine.missing, self.config.sample_fps)
        self.extraction.run(mine, self.extractor, self.jobs, frames)
        return self._merged(mine)

    def _merged(self, mine: Findings) -> Findings:
        merged = Findings()
        for findings in self.world.gather(mine):
            merged.merge(findings)
        return merged

    def _require_room(self, findings: Findings) -> None:
        """Say what the work takes on disk, and refuse it where it would lose videos or the disk has less."""
        if self.earlier is not None and not self.config.overwrite:
            require_nothing_lost(self.earlier, self.entries, findings.content)
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

    def pack(self, findings: Findings, annotation: Annotation | None) -> ExtractReport:
        """Put all videos into the store with their boxes, and tell what it holds."""
        data, sources = self._kept(findings)
        rows = _rows(data, findings.content)
        skipped = [
            (str(entry.path), findings.failed[entry.path][0]) for entry in self.entries if entry.path in findings.failed
        ]
        boxes, summary_of_boxes = None, None
        if annotation is not None:
            boxes, summary_of_boxes = packed_boxes(annotation, self.root, rows, sources, self.earlier, self.jobs)
        if self.earlier is not None and is_unchanged(self.earlier, rows, data, skipped, boxes):
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
                boxes=boxes,
            )
        summaries = [(row.path, source.summary) for row, source in zip(rows, sources, strict=True)]
        return ExtractReport(
            out=str(self.out),
            data=summary_of(data),
            boxes=summary_of_boxes,
            num_extracted=len(set(findings.missing) - findings.failed.keys()),
            num_frames=sum(source.num_frames for source in sources),
            cubes={spec.layer: (spec.grid_size, spec.grid_size, spec.feature_dim) for spec in self.specs},
            precision=self.specs[0].precision,
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
            source = self.extraction.source(entry.path, findings.content[entry.path])
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


def _rows(data: Dataset, content: dict[Path, str]) -> list[VideoRow]:
    labels = [-1] * len(data.entries) if data.multilabel else data.label_index.tolist()
    return [
        VideoRow(video_id(entry.path), str(entry.path), content[entry.path], label, entry.group)
        for entry, label in zip(data.entries, labels, strict=True)
    ]
