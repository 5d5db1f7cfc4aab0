"""Writing a feature store: one part file for each finished video, then all packed into one file.

A kill at any moment loses at most the videos in flight: parts and the store appear by renaming finished files.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from attnrec.config import FeatureSpec
from attnrec.data.store import COLUMN_KINDS, FORMAT, VERSION, FeatureStore, VideoTable, encoded
from attnrec.data.video import DecodeSummary
from attnrec.errors import FeatureStoreError
from attnrec.runtime import atomic_path

_COPY_FRAMES = 256


@dataclass(frozen=True)
class VideoRow:
    """What the store says of one video, its features aside."""

    id: str
    path: str
    fingerprint: str
    label: int
    group: str


class FeatureSource(NamedTuple):
    """Where a finished video's features lie until they are packed: a part file, or rows of an earlier store."""

    path: Path
    first_frame: int
    num_frames: int
    summary: DecodeSummary


def parts_dir(out: Path) -> Path:
    """Folder of the part files of a store that is being made."""
    return out.with_name(out.name + ".parts")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_fingerprint(content_sha256: str, spec: FeatureSpec) -> str:
    """Hash of all that decides a video's features: its content and the settings."""
    key = json.dumps([content_sha256, _identity(spec)], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


class PartWriter:
    """Receives one video's features as they come; see `writing_part`."""

    def __init__(self, path: Path, file: h5py.File, spec: FeatureSpec) -> None:
        cube = (spec.grid_size, spec.grid_size, spec.feature_dim)
        options = {"dtype": "<f2", "maxshape": (None, *cube), "chunks": (8, *cube)}
        self._features = file.create_dataset(f"features/{spec.layer}", (0, *cube), **options)
        self._path = path
        self._file = file
        self._pts: list[float] = []

    def append(self, cubes: NDArray[np.float16], pts: Sequence[float]) -> None:
        """Add cubes (n, K, K, D) and the times of their frames in seconds."""
        with _hdf5_errors(self._path):
            self._features.resize(len(self._features) + len(cubes), axis=0)
            self._features[-len(cubes) :] = cubes
        self._pts += pts

    def finish(self, fingerprint: str, summary: DecodeSummary) -> None:
        """Say that this was all of it."""
        self._file["frames/pts"] = np.asarray(self._pts, np.float64)
        for name, value in dataclasses.asdict(summary).items():
            self._file.attrs[name] = value
        self._file.attrs["fingerprint"] = fingerprint


@contextlib.contextmanager
def _hdf5_errors(path: Path) -> Iterator[None]:
    """HDF5 says that a disk is full by a `RuntimeError`, here or only when the file is closed."""
    try:
        yield
    except RuntimeError as error:
        raise FeatureStoreError(f"{path}: cannot be written, is the disk full? ({error})") from None


@contextlib.contextmanager
def _writing(path: Path, target: Path, **options: int) -> Iterator[h5py.File]:
    """A new HDF5 file that will be `target`."""
    file = h5py.File(path, "w", **options)
    try:
        yield file
    finally:
        with _hdf5_errors(target):
            file.close()


@contextlib.contextmanager
def writing_part(path: Path, spec: FeatureSpec) -> Iterator[PartWriter]:
    """A part file that appears under `path` when the block ends well, and leaves nothing otherwise."""
    with atomic_path(path) as temporary, _writing(temporary, path) as file:
        yield PartWriter(path, file, spec)


def read_part(path: Path, fingerprint: str) -> FeatureSource | None:
    """A finished part, or None where there is none that fits the fingerprint."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["fingerprint"] != fingerprint:
                return None
            values: dict[str, Any] = {field.name: file.attrs[field.name] for field in dataclasses.fields(DecodeSummary)}
            plain: dict[str, Any] = {name: v if isinstance(v, str) else v.item() for name, v in values.items()}
            summary = DecodeSummary(**plain)
            return FeatureSource(path, 0, len(file["frames/pts"]), summary)
    except (OSError, RuntimeError, LookupError):
        return None


def stored_sources(store: FeatureStore) -> dict[str, FeatureSource]:
    """Videos that an earlier store of the same settings holds, by part fingerprint."""
    videos = store.videos
    return {
        part_fingerprint(videos.fingerprint[i].decode(), store.spec): FeatureSource(
            store.path,
            int(videos.first_frame[i]),
            int(videos.num_frames[i]),
            DecodeSummary(
                videos.status[i].decode(),
                int(videos.num_frames[i]),
                float(videos.duration[i]),
                float(videos.declared_fps[i]),
                float(videos.effective_fps[i]),
            ),
        )
        for i in range(len(videos))
    }


def pack_store(
    out: Path,
    spec: FeatureSpec,
    rows: Sequence[VideoRow],
    sources: Sequence[FeatureSource],
    *,
    classes: Sequence[str],
    splits: dict[str, NDArray[np.uint8]],
    skipped: Sequence[tuple[str, str]],
    backbone_state: dict[str, NDArray[Any]],
    dataset: str,
    videos_dir: str,
    program_version: str,
) -> None:
    """Pack finished videos into one store, atomically, then remove the parts.

    Args:
        out: The store.
        spec: Settings of the features.
        rows: One for each video, in the order of the store.
        sources: Where each video's features are.
        classes: Class names, which labels index.
        splits: Code of each video by split name.
        skipped: Path and reason of each video left out.
        backbone_state: Weights of the trunk by parameter name.
        dataset: Name of the dataset.
        videos_dir: Folder of the videos, absolute, for `visualize` and galleries.
        program_version: Of attnrec.
    """
    table = _video_table(rows, sources)
    with (
        atomic_path(out) as temporary,
        _writing(temporary, out, alignment_threshold=1024, alignment_interval=4096) as file,
        _hdf5_errors(out),
    ):
        attributes = dataclasses.asdict(spec) | {"sample_fps": spec.sample_fps or float("inf")}
        attributes |= {
            "format": FORMAT,
            "version": VERSION,
            "dataset": np.bytes_(encoded(dataset)),
            "videos_dir": np.bytes_(encoded(videos_dir)),
            "weights_id": np.bytes_(encoded(spec.weights_id)),
        }
        attributes |= {"program_version": program_version, "fingerprint": _store_fingerprint(spec, rows, classes)}
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, column in vars(table).items():
            file[f"videos/{name}"] = column
        file["classes"] = _bytes_column(classes)
        for name, codes in splits.items():
            file[f"splits/{name}"] = codes
        file["skipped/path"] = _bytes_column([path for path, _ in skipped])
        file["skipped/reason"] = _bytes_column([reason for _, reason in skipped])
        for name, weight in backbone_state.items():
            file[f"backbone/{name}"] = weight
        _copy_features(file, spec, sources)
    remove_parts(out)


def remove_parts(out: Path) -> None:
    """Remove the part files of a store that is finished."""
    shutil.rmtree(parts_dir(out), ignore_errors=True)


def _copy_features(file: h5py.File, spec: FeatureSpec, sources: Sequence[FeatureSource]) -> None:
    total = sum(source.num_frames for source in sources)
    shape = (total, spec.grid_size, spec.grid_size, spec.feature_dim)
    features = file.create_dataset(f"features/{spec.layer}", shape, "<f2")
    pts = file.create_dataset("frames/pts", (total,), "<f8")
    row = 0
    for source in sources:
        with h5py.File(source.path, "r") as origin:
            cubes, times = origin[features.name], origin[pts.name]
            for start in range(0, source.num_frames, _COPY_FRAMES):
                stop = min(start + _COPY_FRAMES, source.num_frames)
                there = slice(source.first_frame + start, source.first_frame + stop)
                features[row + start : row + stop] = cubes[there]
                pts[row + start : row + stop] = times[there]
        row += source.num_frames


def _video_table(rows: Sequence[VideoRow], sources: Sequence[FeatureSource]) -> VideoTable:
    if not rows:
        raise FeatureStoreError("no video could be decoded; see the reasons above")
    counts = np.array([source.num_frames for source in sources], np.int64)
    columns: dict[str, NDArray[Any]] = {
        "first_frame": np.cumsum(counts) - counts,
        "num_frames": counts,
        "label": np.array([row.label for row in rows], np.int32),
    }
    for name in ("id", "path", "fingerprint", "group"):
        columns[name] = _bytes_column([getattr(row, name) for row in rows])
    columns["status"] = _bytes_column([source.summary.status for source in sources])
    columns["duration"] = np.array([source.summary.duration_seconds for source in sources])
    for name in ("declared_fps", "effective_fps"):
        columns[name] = np.array([getattr(source.summary, name) for source in sources])
    assert COLUMN_KINDS.keys() <= columns.keys()
    return VideoTable(**columns)


def _store_fingerprint(spec: FeatureSpec, rows: Sequence[VideoRow], classes: Sequence[str]) -> str:
    key = [_identity(spec), [dataclasses.astuple(row) for row in rows], list(classes)]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _identity(spec: FeatureSpec) -> dict[str, Any]:
    """What decides the features: not the name of the weights, which is for people, but their hash."""
    return {name: value for name, value in dataclasses.asdict(spec).items() if name != "weights_id"}


def _bytes_column(values: Sequence[str]) -> NDArray[np.bytes_]:
    # An empty column still needs a width of one, for HDF5.
    return np.array(
        [encoded(value) for value in values], dtype=f"S{max((len(encoded(v)) for v in values), default=1) or 1}"
    )


def video_id(relative_path: Path) -> str:
    """Name of a video in the store: a hash of its relative path, 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(relative_path)).hexdigest()[:16]
