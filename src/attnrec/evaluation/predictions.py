"""Reads the predictions that `evaluate` saved for every video of a part.

Legend: V videos, C classes.
"""

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import RunError
from attnrec.files import opened_regular, reason_of
from attnrec.training.run import Run

_MOST_BYTES = 256 * 2**20  # largest array; 50 000 videos of 400 classes take 160 MB
_DAMAGED = (
    ValueError, KeyError, EOFError, TypeError, OverflowError, MemoryError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """Predictions and targets of scored videos."""

    paths: NDArray[np.bytes_]  # path of each video, shape (V,)
    groups: NDArray[np.bytes_]  # group of each video, shape (V,)
    targets: NDArray[Any]  # class indices (V,), or 0 / 1 for each class (V, C) if videos may have several labels
    probs: NDArray[np.float64]  # class probabilities, shape (V, C)

    @property
    def multilabel(self) -> bool:
        """Whether videos may have several labels."""
        return self.targets.ndim > 1


def read_predictions(run: Run, part: str) -> Predictions | None:
    """Read the predictions of a run; None if it has none, or they are of a version that did not write groups.

    Raises:
        RunError: The file is damaged or does not fit the run.
    """
    path = run.path / f"predictions-{part}.npz"
    if not path.exists():
        return None
    try:
        with opened_regular(path) as file, zipfile.ZipFile(file) as arrays:
            if "video_group.npy" not in arrays.namelist():
                return None
            targets = "video_labels" if run.manifest.model.multilabel else "video_label"
            found = Predictions(*(_array(arrays, n) for n in ("video_path", "video_group", targets, "video_probs")))
        _check(found, run)
    except (*_DAMAGED, OSError) as error:
        raise RunError(f"{path}: cannot be read ({reason_of(error)}); evaluate the run again") from None
    return found


def _array(arrays: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array of an archive, of limited size; objects are not unpickled."""
    member = arrays.getinfo(f"{name}.npy")
    if member.file_size > _MOST_BYTES:
        raise ValueError(f"{name} takes {member.file_size / 1e6:.0f} MB")
    data = arrays.read(member)
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"{name} is not of the size that its header gives")
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if by_columns else "C")


def _check(found: Predictions, run: Run) -> None:
    """Check that all columns are of the same videos and of the run's classes."""
    V, C = len(found.paths), len(run.manifest.classes)
    shapes = [column.shape for column in (found.paths, found.groups, found.targets, found.probs)]
    if shapes != [(V,), (V,), (V, C) if run.manifest.model.multilabel else (V,), (V, C)] or V == 0:
        raise ValueError("its columns do not agree")
    if [found.paths.dtype.kind, found.groups.dtype.kind, found.probs.dtype.kind] != ["S", "S", "f"]:
        raise ValueError("its columns are of other types")
    limit = 1 if run.manifest.model.multilabel else C - 1
    if found.targets.dtype.kind not in "iu" or found.targets.min() < 0 or found.targets.max() > limit:
        raise ValueError("its labels are not among the run's classes")
    if not np.isfinite(found.probs).all():
        raise ValueError("its probabilities are NaN or infinite")
