"""Packs finished videos into one feature store, which appears by renaming a complete file."""

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.dataset import Dataset
from attnrec.errors import FeatureStoreError
from attnrec.features.hdf5 import decoded, encoded, new_hdf5_file
from attnrec.features.parts import (
    DECODING,
    FeatureSource,
    identity,
    part_fingerprint,
    part_rows,
    part_times,
    parts_dir,
    video_id,
)
from attnrec.features.store import FORMAT, VERSION, FeatureStore, VideoTable
from attnrec.features.stored_boxes import GROUP, StoredBoxes
from attnrec.files import atomic_path
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary

_COPY_FRAMES = 256


@dataclass(frozen=True)
class VideoRow:
    """The metadata of one video in the store."""

    id: str  # hash of the relative path
    path: str  # relative to the dataset's folder
    fingerprint: str  # SHA-256 of the content
    label: int  # class index; -1 for none, and for every video of a store whose videos may have several
    group: str  # group of videos that a split must keep together


def stored_rows(store: FeatureStore) -> list[VideoRow]:
    """The rows of a store's videos, as they were packed."""
    videos = store.videos
    return [
        VideoRow(
            decoded(videos.id[i]),
            store.path_of(i),
            decoded(videos.fingerprint[i]),
            int(videos.label[i]),
            store.groups[i],
        )
        for i in range(len(videos))
    ]


def stored_sources(store: FeatureStore) -> dict[str, FeatureSource]:
    """The videos of an earlier store of the same settings, by part fingerprint; none if decoded otherwise."""
    if store.decoding != DECODING:
        return {}
    videos = store.videos
    return {
        part_fingerprint(decoded(videos.fingerprint[i]), store.specs): FeatureSource(
            store.path,
            int(videos.first_frame[i]),
            int(videos.num_frames[i]),
            DecodeSummary(
                decoded(videos.status[i]),
                int(videos.num_frames[i]),
                float(videos.duration[i]),
                float(videos.declared_fps[i]),
                float(videos.effective_fps[i]),
                bool(videos.is_variable_rate[i]),
            ),
        )
        for i in range(len(videos))
    }


def rows_of(data: Dataset, content: Mapping[Path, str]) -> list[VideoRow]:
    """The rows of a dataset's videos, given the SHA-256 of each video's content."""
    labels = [-1] * len(data.entries) if data.multilabel else data.label_index.tolist()
    return [
        VideoRow(video_id(entry.path), str(entry.path), content[entry.path], label, entry.group)
        for entry, label in zip(data.entries, labels, strict=True)
    ]


def pack_store(
    out: Path,
    specs: Sequence[FeatureSpec],
    data: Dataset,
    content: Mapping[Path, str],
    sources: Sequence[FeatureSource],
    *,
    skipped: Sequence[tuple[str, str]],
    backbone_state: dict[str, NDArray[Any]],
    program_version: str,
    boxes: StoredBoxes | None = None,
    on_progress: OnProgress = no_progress,
) -> None:
    """Pack finished videos into one store, atomically, then remove the parts.

    Args:
        out: Path of the store.
        specs: Specification of each layer's features, which differ only in what belongs to the layer.
        data: The videos, in the order of the store, with their labels, groups and splits.
        content: SHA-256 of each video.
        sources: Where each video's features are.
        skipped: Path and reason of each video left out.
        backbone_state: Weights of the trunk by parameter name.
        program_version: Version of attnrec.
        boxes: Boxes of the videos; neither features nor the store's fingerprint depend on them.
        on_progress: Called for every video.
    """
    if not sources:
        raise FeatureStoreError("no video could be decoded; see the reasons above")
    rows = rows_of(data, content)
    label_matrix = data.label_matrix if data.multilabel else None
    with (
        atomic_path(out, folder=parts_dir(out)) as temporary,
        new_hdf5_file(temporary, out, alignment_threshold=1024, alignment_interval=4096) as file,
    ):
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["dataset"] = np.bytes_(encoded(data.name))
        file.attrs["videos_dir"] = np.bytes_(encoded(str(data.root.absolute())))  # for `visualize` and galleries
        file.attrs["program_version"] = program_version
        file.attrs["decoding"] = DECODING
        file.attrs["fingerprint"] = _store_fingerprint(specs, rows, data.classes, label_matrix)
        file.attrs["layers"] = json.dumps([spec.layer for spec in specs])
        for name, column in vars(_video_table(rows, sources)).items():
            file[f"videos/{name}"] = column
        if label_matrix is not None:
            file["videos/labels"] = label_matrix
        if boxes is not None:
            for name, column in vars(boxes).items():
                file[f"{GROUP}/{name}"] = column
        file["classes"] = _bytes_column(data.classes)
        for name, codes in data.splits.items():
            file[f"splits/{name}"] = codes
        file["skipped/path"] = _bytes_column([path for path, _ in skipped])
        file["skipped/reason"] = _bytes_column([reason for _, reason in skipped])
        for name, weight in backbone_state.items():
            file[f"backbone/{name}"] = weight
        _write_features(file, specs, sources, lambda n: on_progress(Progress("pack", n, len(sources), str(out))))
        file["frames/pts"] = np.concatenate([times_of(source) for source in sources])
    remove_parts(out)


def remove_parts(out: Path) -> None:
    """Remove the part files of a finished store."""
    shutil.rmtree(parts_dir(out), ignore_errors=True)


def _write_features(
    file: h5py.File, specs: Sequence[FeatureSpec], sources: Sequence[FeatureSource], on_video: Callable[[int], None]
) -> None:
    """Write every layer's cubes of all videos, one after another, with their specification."""
    total = sum(source.num_frames for source in sources)
    layers = [_new_features(file, spec, total) for spec in specs]
    row = 0
    for done, source in enumerate(sources):
        on_video(done)
        for cubes in _pieces_of(source, specs):
            stop = row + len(cubes[0])
            for features, cube in zip(layers, cubes, strict=True):
                features[row:stop] = cube
            row = stop
    on_video(len(sources))


def _new_features(file: h5py.File, spec: FeatureSpec, num_frames: int) -> h5py.Dataset:
    features = file.create_dataset(f"features/{spec.layer}", (num_frames, *spec.cube_shape), "<f2")
    sample_fps = math.inf if spec.sample_fps is None else spec.sample_fps
    weights_id = np.bytes_(encoded(spec.weights_id))
    features.attrs.update(identity(spec) | {"sample_fps": sample_fps, "weights_id": weights_id})
    return features


def _pieces_of(source: FeatureSource, specs: Sequence[FeatureSpec]) -> Iterator[list[NDArray[np.float16]]]:
    """The cubes of each layer of a finished video, some frames at a time."""
    if source.part is not None:
        ends = np.cumsum([spec.num_locations * spec.feature_dim for spec in specs])
        for rows in part_rows(source):
            layers = zip(np.split(rows, ends[:-1], axis=1), specs, strict=True)
            yield [values.reshape(-1, *spec.cube_shape) for values, spec in layers]
        return
    last = source.first_frame + source.num_frames
    with h5py.File(source.path, "r") as origin:
        for start in range(source.first_frame, last, _COPY_FRAMES):
            yield [origin[f"features/{spec.layer}"][start : min(start + _COPY_FRAMES, last)] for spec in specs]


def times_of(source: FeatureSource) -> NDArray[np.float64]:
    """Read the times of a finished video's frames in seconds, shape (N,)."""
    if source.part is not None:
        return part_times(source)
    with h5py.File(source.path, "r") as origin:
        times: NDArray[np.float64] = origin["frames/pts"][source.first_frame : source.first_frame + source.num_frames]
    return times


def _video_table(rows: Sequence[VideoRow], sources: Sequence[FeatureSource]) -> VideoTable:
    counts = np.array([source.num_frames for source in sources], np.int64)
    summaries = [source.summary for source in sources]
    return VideoTable(
        id=_bytes_column([row.id for row in rows]),
        path=_bytes_column([row.path for row in rows]),
        fingerprint=_bytes_column([row.fingerprint for row in rows]),
        label=np.array([row.label for row in rows], np.int32),
        group=_bytes_column([row.group for row in rows]),
        first_frame=np.cumsum(counts) - counts,
        num_frames=counts,
        duration=np.array([summary.duration_seconds for summary in summaries]),
        declared_fps=np.array([summary.declared_fps for summary in summaries]),
        effective_fps=np.array([summary.effective_fps for summary in summaries]),
        is_variable_rate=np.array([summary.is_variable_rate for summary in summaries], np.uint8),
        status=_bytes_column([summary.status for summary in summaries]),
    )


def _store_fingerprint(
    specs: Sequence[FeatureSpec],
    rows: Sequence[VideoRow],
    classes: Sequence[str],
    label_matrix: NDArray[np.uint8] | None,
) -> str:
    key: list[Any] = [[identity(spec) for spec in specs], [dataclasses.astuple(row) for row in rows], list(classes)]
    key.append(DECODING)
    if label_matrix is not None:
        key.append(label_matrix.tolist())
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _bytes_column(values: Sequence[str]) -> NDArray[np.bytes_]:
    texts = [encoded(value) for value in values]
    width = max(map(len, texts), default=0) or 1  # HDF5 has no empty texts
    return np.array(texts, f"S{width}")
