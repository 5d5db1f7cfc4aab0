"""The feature store: one HDF5 file of CNN feature cubes, mapped into memory for reading.

Legend: N stored frames, V videos, K grid side, D channels.
"""

import contextlib
import functools
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attnrec.checks import config_from_dict
from attnrec.datasets.splits import SPLIT_PARTS
from attnrec.errors import FeatureStoreError
from attnrec.features.hdf5 import UNREADABLE, CheckedFile, decoded, opened_hdf5, text
from attnrec.features.stored_boxes import MOST_SECONDS, read_stored_boxes
from attnrec.files import reason_of
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import LAYER_SEPARATOR
from attnrec.specs import FeatureSpec, joined

FORMAT = "attnrec-features"
VERSION = 1
_SHOWN = 3  # most videos named in an error


@dataclass(frozen=True)
class VideoTable:
    """Parallel columns over the V videos of a store."""

    id: NDArray[np.bytes_]  # hash of the relative path
    path: NDArray[np.bytes_]  # relative to the dataset's folder, as the file system's bytes
    fingerprint: NDArray[np.bytes_]  # SHA-256 of the file's content, hexadecimal
    # Index into the store's classes, -1 where the video has no label, and for all videos of a store whose videos may
    # have several (see `FeatureStore.label_matrix`).
    label: NDArray[np.int32]
    group: NDArray[np.bytes_]  # group of videos that a split must keep together
    first_frame: NDArray[np.int64]  # row of the video's first frame in the feature array
    num_frames: NDArray[np.int64]  # number of the video's rows
    duration: NDArray[np.float64]  # duration in seconds
    declared_fps: NDArray[np.float64]  # frame rate in the video's header, NaN if unknown
    effective_fps: NDArray[np.float64]  # frame rate of the video by the times of its frames
    is_variable_rate: NDArray[np.uint8]  # 1 where the intervals between frames differ by more than half of their mean
    status: NDArray[np.bytes_]  # `ok`, `damaged` or `truncated`

    def __len__(self) -> int:
        return len(self.id)


_COLUMN_KINDS = {"label": "i", "first_frame": "i", "num_frames": "i", "is_variable_rate": "u"} | dict.fromkeys(
    ("duration", "declared_fps", "effective_fps"), "f"
)


class FeatureStore:
    """An open store: its tables in memory, its features mapped on demand.

    Args:
        path: A file that `attnrec extract` wrote.
        layer: CNN layer whose features to read, or several joined by `+`; None takes the store's first.

    Attributes:
        multilabel: Whether a video may have several labels.
        specs: Specification of each layer's features.
        spec: Specification of the features to read, of several layers as `specs.joined` gives it.
        num_frames: N.
        boxes: Annotated boxes of the videos; None if the store has none.

    Raises:
        FeatureStoreError: The file is missing, not a store, of another version, damaged, crafted to read other files,
            or lacks that layer.
    """

    def __init__(self, path: str | Path, layer: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FeatureStoreError(
                f"{self.path}: no such feature store; make one with `attnrec extract VIDEOS {self.path}`"
            )
        with self._opened() as file:
            self._read_tables(file)
        names = self.layers[:1] if layer is None else layer.split(LAYER_SEPARATOR)
        for name in names:
            if name not in self.layers:
                raise FeatureStoreError(f"{self.path}: no layer {name!r}; it has {', '.join(self.layers)}")
        if len(set(names)) < len(names):
            raise FeatureStoreError(f"{self.path}: layers must differ, got {layer}")
        chosen = [self.layers.index(name) for name in names]
        self.spec = joined([self.specs[i] for i in chosen])
        self._chosen = [self._arrays[i] for i in chosen]
        self.num_frames = len(self.pts)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[CheckedFile]:
        """Open the file; errors of a damaged or crafted one become a `FeatureStoreError`."""
        try:
            with opened_hdf5(self.path) as file:
                yield file
        except UNREADABLE as error:
            raise FeatureStoreError(
                f"{self.path}: not a usable feature store ({reason_of(error)}); run `attnrec extract` again"
            ) from None

    def _read_tables(self, file: CheckedFile) -> None:
        try:
            if file.attribute("format") != FORMAT:
                raise ValueError
        except UNREADABLE:
            raise FeatureStoreError(
                f"{self.path}: not a feature store of attnrec; make one with `attnrec extract`"
            ) from None
        if (version := file.attribute("version")) != VERSION:
            raise FeatureStoreError(
                f"{self.path}: format version {str(version)[:20]}, this attnrec reads {VERSION}; "
                "install the attnrec that made it, or run `attnrec extract` again"
            )
        self.dataset = text(file.attribute("dataset"))
        self.program_version = text(file.attribute("program_version"))
        self.fingerprint = text(file.attribute("fingerprint"))
        self.decoding = int(file.attribute("decoding", missing=1))
        self.videos_dir = text(file.attribute("videos_dir"))
        columns = {
            field.name: file.read(f"videos/{field.name}", _COLUMN_KINDS.get(field.name, "S"))
            for field in fields(VideoTable)
        }
        self.videos = VideoTable(**columns)
        self.classes = [decoded(name) for name in file.read("classes", "S")]
        self._labels: NDArray[np.uint8] | None = None
        if "labels" in file.names("videos"):
            self._labels = file.read("videos/labels", "u", 2)
        self.multilabel = self._labels is not None
        self.pts: NDArray[np.float64] = file.read("frames/pts", "f")
        self._splits: dict[str, NDArray[np.uint8]] = {
            name: file.read(f"splits/{name}", "u") for name in file.names("splits")
        }
        self.skipped = [
            (decoded(path), decoded(reason))
            for path, reason in zip(file.read("skipped/path", "S"), file.read("skipped/reason", "S"), strict=True)
        ]
        layers = json.loads(text(file.attribute("layers")))
        if not isinstance(layers, list) or not layers or not all(isinstance(layer, str) for layer in layers):
            raise ValueError("no list of layers")
        if len(set(layers)) < len(layers):
            raise ValueError("a layer twice")
        features = [file.dataset(f"features/{layer}", "f", 4) for layer in layers]
        self.specs = [_spec_of(file, dataset) for dataset in features]
        if layers != self.layers:
            raise ValueError("layers under other names")
        self._arrays = [self._checked_array(*pair) for pair in zip(features, self.specs, strict=True)]
        self._check_tables()
        self.boxes = read_stored_boxes(file, len(self.videos))

    def _checked_array(self, features: h5py.Dataset, spec: FeatureSpec) -> tuple[tuple[int, ...], int]:
        """Check a layer's features; return their shape and their offset in the file."""
        if spec.grid_size < 1 or features.shape[1:] != spec.cube_shape:
            cube = " x ".join(map(str, spec.cube_shape))
            raise ValueError(f"features of shape {features.shape} for a {cube} cube")
        offset = features.id.get_offset()
        if features.dtype != np.float16 or offset is None:
            raise ValueError("features are not one contiguous float16 array")
        if offset + math.prod(features.shape) * 2 > self.path.stat().st_size:
            raise ValueError("the file is shorter than its features; it was truncated")
        return features.shape, offset

    def _check_tables(self) -> None:
        if any(len(column) != len(self.videos) for column in (*vars(self.videos).values(), *self._splits.values())):
            raise ValueError("columns of different lengths")
        lengths = self.videos.num_frames.astype(np.int64)
        ends = np.cumsum(lengths)
        if (lengths > len(self.pts)).any():  # their sum may overflow
            raise ValueError("videos and frames do not agree")
        if (lengths < 1).any() or not np.array_equal(ends - lengths, self.videos.first_frame):
            raise ValueError("videos do not follow one another")
        counts = {len(self.pts), *(shape[0] for shape, _ in self._arrays)}
        if len(ends) == 0 or counts != {int(ends[-1])}:
            raise ValueError("videos and frames do not agree")
        if not (np.abs(self.pts) <= MOST_SECONDS).all():
            raise ValueError("times that are no times")
        falls = np.diff(self.pts) < 0
        falls[ends[:-1] - 1] = False  # from one video to the next
        if falls.any():
            video = int(np.searchsorted(ends, np.flatnonzero(falls)[0], side="right"))
            raise ValueError(f"times that fall within {self.path_of(video)}")
        if not (self.videos.effective_fps > 0).all():
            raise ValueError("rates that are no rates")
        if (self.videos.label < -1).any() or (self.videos.label >= len(self.classes)).any():
            raise ValueError("a label without a class")
        if self._labels is not None:
            if self._labels.shape != (len(self.videos), len(self.classes)) or (self._labels > 1).any():
                raise ValueError("labels that are no table of videos and classes")
            if (self.videos.label >= 0).any():
                raise ValueError("videos of several labels with a single one")

    def features(self) -> NDArray[np.float16]:
        """Map the feature cubes of the one layer to read, shape (N, K, K, D); as `layer_features`."""
        (features,) = self.layer_features()
        return features

    def layer_features(self) -> list[NDArray[np.float16]]:
        """Map the feature cubes of each layer to read, (N, K, K, D); writes to the arrays do not reach the file."""
        return [
            np.memmap(self.path, dtype="<f2", mode="c", offset=offset, shape=shape) for shape, offset in self._chosen
        ]

    def pts_of(self, video: int) -> NDArray[np.float64]:
        """Times of a video's stored frames in seconds, from the first frame."""
        first = self.videos.first_frame[video]
        return self.pts[first : first + self.videos.num_frames[video]]

    def path_of(self, video: int) -> str:
        """Path of a video relative to the dataset's folder."""
        return decoded(self.videos.path[video])

    @property
    def label_matrix(self) -> NDArray[np.uint8]:
        """Matrix of labels, 1 where a class applies to a video, shape (V, C)."""
        if self._labels is not None:
            return self._labels
        matrix: NDArray[np.uint8] = (self.videos.label[:, None] == np.arange(len(self.classes))).astype(np.uint8)
        return matrix

    @property
    def targets(self) -> NDArray[Any]:
        """Training targets: class index of each video (V,), or 0 / 1 for each class (V, C) with several labels."""
        if self._labels is not None:
            return self._labels.astype(np.float32)
        return self.videos.label.astype(np.int64)

    def labels_of(self, video: int) -> list[str]:
        """Names of the classes of a video; empty if it has no label."""
        if self._labels is not None:
            return [self.classes[i] for i in np.flatnonzero(self._labels[video])]
        label = self.videos.label[video]
        return [self.classes[label]] if label >= 0 else []

    @property
    def layers(self) -> list[str]:
        """Names of the layers that the store holds features of."""
        return [spec.layer for spec in self.specs]

    @functools.cached_property
    def groups(self) -> list[str]:
        """Group of each video."""
        return [decoded(group) for group in self.videos.group]

    @property
    def split_names(self) -> list[str]:
        """Names of the splits that the store holds."""
        return list(self._splits)

    def split(self, name: str) -> NDArray[np.uint8]:
        """The part of each video in a split, as an index into `SPLIT_PARTS`, shape (V,).

        Raises:
            FeatureStoreError: There is no such split.
        """
        if name not in self._splits:
            raise FeatureStoreError(f"{self.path}: no split {name!r}; it has {', '.join(self._splits)}")
        return self._splits[name]

    def split_members(self, name: str, part: str) -> NDArray[np.int64]:
        """Indices of the videos in a part of a split, rising; unlabelled videos only if videos may have several labels.

        With several labels, that none of the classes applies is a target as well.
        """
        members = self.split(name) == SPLIT_PARTS.index(part)
        return np.flatnonzero(members if self.multilabel else members & (self.videos.label >= 0))

    def split_sha256(self, name: str) -> str:
        """Hash of which video is in which part of a split."""
        lines = sorted(
            f"{video.hex()} {code}" for video, code in zip(self.videos.id.tolist(), self.split(name), strict=True)
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def backbone_state(self) -> dict[str, NDArray[Any]]:
        """Read the weights of the trunk that made the features, by parameter name."""
        with self._opened() as file:
            return {name: file.read(f"backbone/{name}", "fi", None) for name in file.names("backbone")}

    def require_finite(self, rows: NDArray[np.int64]) -> None:
        """Check features that have led to NaN or infinity.

        Args:
            rows: Rows of the feature array, in any shape.

        Raises:
            FeatureStoreError: Some of the features are NaN or infinite; names the videos.
        """
        features, ends = self.layer_features(), np.cumsum(self.videos.num_frames)
        bad = [row for row in np.unique(rows) if not all(np.isfinite(layer[row]).all() for layer in features)]
        names = list(dict.fromkeys(self.path_of(int(np.searchsorted(ends, row, side="right"))) for row in bad))
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise FeatureStoreError(
                f"{self.path}: features of {', '.join(names[:_SHOWN])}{more} are NaN or infinite; run "
                "`attnrec extract` again with --overwrite, and --precision fp32 if it was bf16"
            )


def _spec_of(file: CheckedFile, dataset: h5py.Dataset) -> FeatureSpec:
    names = [field.name for field in fields(FeatureSpec) if field.name != "joined"]
    values: dict[str, Any] = {name: file.attribute(name, dataset) for name in names}
    values = {name: text(value) if isinstance(value, bytes) else value for name, value in values.items()}
    if values["sample_fps"] == math.inf:
        values["sample_fps"] = None
    return config_from_dict(FeatureSpec, values)


def typical_frames(store: FeatureStore, fps: float) -> float:
    """Frames of the median video at a rate, at most the stored one; over all parts, so that folds are sampled alike."""
    rates = np.minimum(store.videos.effective_fps, min(fps, store.spec.sample_fps or math.inf))
    return float(np.median(store.videos.duration * rates))


def find_store(directory: Path, on_progress: OnProgress = no_progress) -> Path:
    """Find the only feature store in a folder.

    Args:
        directory: The folder.
        on_progress: Told of .h5 files that cannot be used.

    Raises:
        FeatureStoreError: The folder has no store, or several.
    """
    found = []
    for path in sorted(directory.glob("*.h5")):
        try:
            FeatureStore(path)
            found.append(path)
        except FeatureStoreError as error:
            on_progress(Progress("store", message=f"left out: {error}"))
    if not found:
        raise FeatureStoreError(
            f"{directory}: no feature store here; make one with `attnrec extract VIDEOS out.h5`, or name one"
        )
    if len(found) > 1:
        raise FeatureStoreError(
            f"{directory}: several feature stores here, name one of {', '.join(p.name for p in found)}, "
            "as `attnrec train STORE`, by --features elsewhere"
        )
    return found[0]


def is_store(path: Path) -> bool:
    """Whether a file is marked as a feature store."""
    try:
        with opened_hdf5(path) as file:
            return bool(file.attribute("format") == FORMAT)
    except UNREADABLE:
        return False
