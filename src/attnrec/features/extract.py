"""`extract`: finds videos, decodes them, runs the CNN trunk and packs one feature store."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnrec.datasets.dataset import Dataset
from attnrec.distributed import World, joined_world
from attnrec.drawing.tables import TextTable
from attnrec.errors import DataError, FeatureStoreError
from attnrec.features.annotation import Annotation, BoxSummary, packed_boxes, read_annotation
from attnrec.features.pack import VideoRow, pack_store, remove_parts, rows_of, stored_rows
from attnrec.features.parts import FeatureSource, identity, parts_dir, sole_writer
from attnrec.features.plan import DatasetSummary, dataset_of, estimated_frames, summary_of
from attnrec.features.store import FeatureStore, is_store
from attnrec.features.stored_boxes import StoredBoxes
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
from attnrec.specs import FeatureSpec, frame_bytes

if TYPE_CHECKING:
    import torch

    from attnrec.features.backbone import Trunk
    from attnrec.features.extractor import CubeExtractor
    from attnrec.features.pipeline import Extraction, Outcome


@dataclass(frozen=True)
class ExtractReport:
    """Report of an extraction."""

    out: str  # the store
    data: DatasetSummary = field(repr=False)  # the videos in it
    boxes: BoxSummary | None  # annotated boxes of the videos; None without any
    num_extracted: int  # videos extracted this time; the others were in the store already
    num_frames: int  # frames in the store
    cubes: dict[str, tuple[int, int, int]]  # shape of a feature cube, K, K, D, by layer
    precision: str  # precision of the CNN
    skipped: list[tuple[str, str]]  # path and reason of each video left out
    damaged: list[tuple[str, str]]  # path and status of each video that was kept though frames or its end are missing
    num_variable_rate: int  # videos with a variable frame rate
    size_bytes: int  # size of the store
    seconds: float  # time taken

    def _repr_html_(self) -> str:
        from attnrec.drawing.notebook import table_html

        splits = [f"split {name}: {_counts(parts)}" for name, parts in self.data.splits.items()]
        left_out = [f"skipped {path}: {reason}" for path, reason in self.skipped]
        title = f"{self.out}: {self.data.num_videos} videos, {self.num_frames} frames"
        rows = [(name, str(count)) for name, count in self.data.classes.items()]
        return table_html(TextTable(title, ["class", "videos"], rows, notes=[*splits, *left_out]))


def extract(
    videos: str | Path, out: str | Path, config: ExtractConfig | None = None, *, on_progress: OnProgress = no_progress
) -> ExtractReport:
    """Extract the feature cubes of a folder of videos into one store.

    Running it again continues after an interruption, and extracts videos that were added or changed. Under torchrun
    the processes share the videos, and the first process packs the store.

    Args:
        videos: Folder of videos in any layout of `datasets.layouts`; a CSV file of labels; or one video.
        out: Path of the store, an HDF5 file.
        config: Settings.
        on_progress: Called after every video.

    Returns:
        Report of the extraction.

    Raises:
        DataError: There are no videos, their lists or boxes cannot be used, or none could be decoded.
        FeatureStoreError: `out` was made with other settings, is not a store, or is being written by another process.
        VideoError: A video cannot be decoded and `config.on_error` is `fail`.
        WeightsError: The backbone's weights cannot be found, downloaded or used.
        AttnrecError: The store cannot be written.
    """
    config = config or ExtractConfig()
    videos, out = Path(videos), Path(out)
    started = time.monotonic()
    on_progress(Progress("videos", detail=f"finding the videos and labels of {videos}"))
    data = dataset_of(videos, config)
    require_store_or_nothing(out)
    on_progress(Progress("network", detail=f"loading torch and {config.backbone}"))
    # Torch takes seconds to load, which an error in the data above need not wait for.
    from attnrec.features.extractor import CubeExtractor, prepare_trunk
    from attnrec.features.pipeline import Extraction, Outcome

    with joined_world() as world:
        annotation = read_annotation(data, config.boxes) if world.is_first else None
        jobs, device, precision = _resources(config, world)
        trunk, specs = prepare_trunk(config, precision)
        extractor = CubeExtractor(trunk, device=device, precision=precision)
        report = None
        with _sole_writer(out, world):
            earlier = _earlier_store(out, config, specs)
            extraction = Extraction(data, out, config, specs, jobs, earlier, on_progress)
            mine = extraction.check(world.share([entry.path for entry in data.entries]))
            found = sum(world.gather(mine), Outcome())
            _require_room(extraction, found, extractor, world)
            frames = estimated_frames(data.root, mine.missing, config.fps)
            found = sum(world.gather(extraction.compute(mine, extractor, frames)), found)
            if world.is_first:
                report = _packed(extraction, found, trunk, annotation, started)
        shared: ExtractReport = world.from_first(report)
        return shared


def require_store_or_nothing(out: Path) -> None:
    """Check that the path of the store is free or holds a store."""
    if out.exists() and not is_store(out):
        raise FeatureStoreError(f"{out}: exists and is not a feature store; choose another name")


def _resources(config: ExtractConfig, world: World) -> "tuple[int, torch.device, str]":
    """Choose jobs, device and precision of this process, and set its threads."""
    jobs = config.jobs or max(1, default_jobs() // world.local_size)
    device = resolve_device(config.device, world.local_rank if world.size > 1 else None)
    # Beside a network elsewhere torch's threads would only take the cores from the decoders.
    prepare_cpu(1 if device.type == "cuda" else config.jobs if world.size == 1 else jobs)
    return jobs, device, resolve_precision(config.precision, device)


@contextlib.contextmanager
def _sole_writer(out: Path, world: World) -> Iterator[None]:
    """Let the first process check the store's path and hold its lock before any process reads what is there."""
    with sole_writer(out) if world.is_first else contextlib.nullcontext():
        world.gather(None)
        yield


def _earlier_store(out: Path, config: ExtractConfig, specs: Sequence[FeatureSpec]) -> FeatureStore | None:
    """Open the existing store; None if there is none, or a damaged one that may be replaced.

    Raises:
        FeatureStoreError: The store is damaged, or of other settings, and may not be replaced.
    """
    if not out.exists():
        return None
    try:
        store = FeatureStore(out)
    except FeatureStoreError:
        if config.overwrite:
            return None
        raise
    if not config.overwrite and (changed := _changed_settings(store, specs)):
        raise FeatureStoreError(
            f"{out}: was made with other settings ({changed}); choose another name, or --overwrite to replace it"
        )
    return store


def _changed_settings(store: FeatureStore, specs: Sequence[FeatureSpec]) -> str:
    """The settings that differ from a store's, with both values, as text; empty if none differ."""
    layers = [spec.layer for spec in specs]
    if store.layers != layers:
        return f"layers {', '.join(store.layers)} -> {', '.join(layers)}"
    changes = {
        f"{name} {old} -> {getattr(new, name)}"
        for stored, new in zip(store.specs, specs, strict=True)
        for name, old in identity(stored).items()
        if old != getattr(new, name)
    }
    return ", ".join(sorted(changes))


def _counts(parts: dict[str, int]) -> str:
    return ", ".join(f"{count} {part}" for part, count in parts.items() if count)


def _require_room(extraction: "Extraction", found: "Outcome", extractor: "CubeExtractor", world: World) -> None:
    """Report the disk space that the work needs; raise if it would lose videos or the disk has too little.

    The first process does this, and the others wait for it.
    """
    if world.is_first:
        data, earlier, config = extraction.data, extraction.earlier, extraction.config
        if earlier is not None and not config.overwrite:
            _require_nothing_lost(earlier, data, found.content)
        if found.missing:
            each = frame_bytes(extraction.specs)
            new = estimated_frames(data.root, found.missing, config.fps) * each
            needed = 2 * new + found.num_frames * each  # parts and store exist at the same time
            free = require_disk_space(parts_dir(extraction.out).absolute().parent, needed)
            work = f"{len(found.missing)} of {len(data.entries)} videos to extract into {extraction.out}"
            room = f"about {new / 1e9:.2f} GB of features; needs {needed / 1e9:.2f} GB, {free / 1e9:.0f} GB free"
            for message in (f"{work}, {extractor.precision} on {extractor.device}", room):
                extraction.on_progress(Progress("extract", message=message))
    world.gather(None)


def _require_nothing_lost(store: FeatureStore, data: Dataset, content: dict[Path, str]) -> None:
    """Check that no video of the store is missing, by path or content: the folder may be unmounted or another one."""
    names, contents = {str(entry.path) for entry in data.entries}, set(content.values())
    gone = [row.path for row in stored_rows(store) if row.path not in names and row.fingerprint not in contents]
    if gone:
        raise FeatureStoreError(
            f"{store.path}: {len(gone)} of its {len(store.videos)} videos are not here any more, the first {gone[0]}; "
            "choose another name, or --overwrite to drop them"
        )


def _packed(
    extraction: "Extraction", found: "Outcome", trunk: "Trunk", annotation: Annotation | None, started: float
) -> ExtractReport:
    """Pack all videos with their boxes into the store, and report on it."""
    out, specs, earlier = extraction.out, extraction.specs, extraction.earlier
    data, sources = _kept(extraction, found)
    rows = rows_of(data, found.content)
    paths = [entry.path for entry in extraction.data.entries]
    skipped = [(str(path), found.failed[path][0]) for path in paths if path in found.failed]
    boxes, summary_of_boxes = None, None
    if annotation is not None:
        boxes, summary_of_boxes = packed_boxes(annotation, data.root, rows, sources, earlier, extraction.jobs)
    if earlier is not None and _is_unchanged(earlier, rows, data, skipped, boxes):
        remove_parts(out)
    else:
        pack_store(
            out,
            specs,
            data,
            found.content,
            sources,
            skipped=skipped,
            backbone_state=trunk.weights_state(),
            program_version=versions()["attnrec"],
            boxes=boxes,
            on_progress=extraction.on_progress,
        )
    summaries = [(row.path, source.summary) for row, source in zip(rows, sources, strict=True)]
    return ExtractReport(
        out=str(out),
        data=summary_of(data),
        boxes=summary_of_boxes,
        num_extracted=len(set(found.missing) - found.failed.keys()),
        num_frames=sum(source.num_frames for source in sources),
        cubes={spec.layer: spec.cube_shape for spec in specs},
        precision=specs[0].precision,
        skipped=skipped,
        damaged=[(path, summary.status) for path, summary in summaries if summary.status != "ok"],
        num_variable_rate=sum(summary.is_variable_rate for _, summary in summaries),
        size_bytes=out.stat().st_size,
        seconds=time.monotonic() - started,
    )


def _kept(extraction: "Extraction", found: "Outcome") -> tuple[Dataset, list[FeatureSource]]:
    """The videos that can be packed and where their features are."""
    data, sources = extraction.data, []
    kept = [entry.path for entry in data.entries if entry.path not in found.failed]
    if not kept:
        path, (reason, _) = next(iter(found.failed.items()))
        raise DataError(
            f"{data.root}: none of {len(data.entries)} videos could be decoded; the first is {path}: {reason}"
        )
    for path in kept:
        source = extraction.source(path, found.content[path])
        if source is None:
            raise FeatureStoreError(
                f"{parts_dir(extraction.out)}: lost {path} while it was needed; run `attnrec extract` again"
            )
        sources.append(source)
    return data.restricted_to(set(kept)), sources


def _is_unchanged(
    store: FeatureStore,
    rows: Sequence[VideoRow],
    data: Dataset,
    skipped: Sequence[tuple[str, str]],
    boxes: StoredBoxes | None,
) -> bool:
    """Whether a store already holds exactly these videos, labels, splits and boxes."""
    return (
        stored_rows(store) == rows
        and (store.dataset, store.classes, store.multilabel) == (data.name, list(data.classes), data.multilabel)
        and np.array_equal(store.label_matrix, data.label_matrix)
        and set(store.split_names) == data.splits.keys()
        and all(np.array_equal(store.split(name), codes) for name, codes in data.splits.items())
        and store.skipped == skipped
        and (store.boxes is None if boxes is None else boxes.equals(store.boxes))
    )
