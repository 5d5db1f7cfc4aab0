"""Writes HDF5 files so that a full disk raises an error instead of crashing, and reads untrusted ones safely."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError, FeatureStoreError
from attnrec.files import require_regular, write_error

# What h5py and NumPy raise for a damaged or crafted file.
UNREADABLE = (
    OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError, OverflowError, ConfigError,
)  # fmt: skip
_MOST_BYTES = 2**30  # most bytes read into memory: the times of a hundred million frames
_MOST_NAMES = 10_000  # most names in a group


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Turn errors of h5py and the system in writing a file into one line.

    Raises:
        AttnrecError: The file cannot be written; names `path`.
    """
    try:
        yield
    except RuntimeError as error:
        raise FeatureStoreError(f"{path}: cannot be written, is the disk full? ({error})") from None
    except OSError as error:
        raise write_error(path, error) from None


@contextlib.contextmanager
def new_hdf5_file(temporary: Path, path: Path, **options: int) -> Iterator[h5py.File]:
    """Create a file at `temporary` that is complete and on disk when the block ends without an error.

    Raises:
        AttnrecError: The file cannot be written; names `path`.
    """
    with hdf5_errors(path):
        file = h5py.File(temporary, "w", **options)
        try:
            yield file
            finish(file, temporary)
        finally:
            give_up(file)


def finish(file: h5py.File, path: Path) -> None:
    """Close a file and wait until it is on disk."""
    file.flush()
    file.close()
    with path.open("rb") as plain:
        os.fsync(plain.fileno())


def give_up(file: h5py.File) -> None:
    """Close a file that is to be discarded, if it is still open."""
    if not file:
        return
    # HDF5 writes its buffers when it closes a file; on a full disk that fails, and HDF5 crashes when it tries again
    # at the end of the process. So let it write into memory.
    if hasattr(os, "memfd_create"):  # Linux
        memory = os.memfd_create("attnrec")
        os.dup2(memory, file.id.get_vfd_handle())
        os.close(memory)
    with contextlib.suppress(RuntimeError, OSError):
        file.close()


class CheckedFile:
    """An untrusted HDF5 file, open for reading.

    A crafted file can point at other files (external links and storage, virtual datasets), claim sizes far beyond its
    own, or have a thousand names for one array; none of that is followed or read.

    Args:
        file: The open file.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._size = Path(file.filename).stat().st_size
        self._left = min(self._size, _MOST_BYTES)

    def attribute(self, name: str, owner: h5py.Dataset | None = None, *, missing: Any = None) -> Any:
        """Read an attribute, a single text or number, of the file or of one of its datasets.

        Raises:
            ValueError: The attribute is an array, which may repeat one text a million times.
            KeyError: The attribute does not exist, and no value for `missing` is given.
        """
        attributes = (owner or self._file).attrs
        if name not in attributes:
            if missing is not None:
                return missing
            raise KeyError(f"no attribute {name}")
        if attributes.get_id(name).shape != ():
            raise ValueError(f"attribute {name} is an array")
        value = attributes[name]
        return value.item() if isinstance(value, np.generic) else value

    def dataset(self, name: str, kinds: str, ndim: int | None) -> h5py.Dataset:
        """Open a dataset that is stored in the file itself, of an expected kind of type and rank.

        Raises:
            ValueError: The dataset is missing, stored elsewhere, or of another type, rank or size.
        """
        dataset = self._object(name, h5py.Dataset)
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} is not stored in the file itself")
        if dataset.dtype.kind not in kinds or ndim not in (None, dataset.ndim):
            raise ValueError(f"{name} has type {dataset.dtype} and rank {dataset.ndim}")
        if dataset.chunks is not None:
            raise ValueError(f"{name} is chunked")
        if dataset.size * dataset.dtype.itemsize > self._size:
            raise ValueError(f"{name} claims more than the file holds")
        return dataset

    def read(self, name: str, kinds: str, ndim: int | None = 1) -> NDArray[Any]:
        """Read a dataset; all reads together are limited to the size of the file."""
        dataset = self.dataset(name, kinds, ndim)
        self._left -= dataset.size * dataset.dtype.itemsize
        if self._left < 0:
            raise ValueError(f"{name} and the datasets before it claim more than a file of this size can hold")
        column: NDArray[Any] = np.asarray(dataset[()])
        return column.astype(column.dtype.str)  # without h5py's type metadata, which NumPy's own files cannot hold

    def names(self, group: str | None = None) -> list[str]:
        """The sorted names in a group, or at the top of the file."""
        found = self._file if group is None else self._object(group, h5py.Group)
        if len(found) > _MOST_NAMES:
            raise ValueError(f"{group} has {len(found)} names")
        return sorted(found)

    def _object(self, name: str, kind: type) -> Any:
        """The object at a path from the root, reached by hard links only."""
        found: Any = self._file
        for part in name.split("/"):
            if not isinstance(found, h5py.Group) or not isinstance(found.get(part, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is missing or a link")
            found = found[part]
        if not isinstance(found, kind):
            raise ValueError(f"{name} is not a {kind.__name__.lower()}")
        return found


@contextlib.contextmanager
def opened_hdf5(path: Path) -> Iterator[CheckedFile]:
    """Open an untrusted HDF5 file for reading.

    Raises:
        Exception: One of `UNREADABLE`: the file cannot be read.
    """
    require_regular(path)
    with h5py.File(path, "r") as file:
        yield CheckedFile(file)


def text(value: str | bytes) -> str:
    """Decode a text attribute; names that come from the user are stored as bytes, which need not be UTF-8."""
    if not isinstance(value, str | bytes):
        raise TypeError(f"an attribute is {type(value).__name__}, not a text")
    return value if isinstance(value, str) else decoded(value)


def decoded(value: bytes) -> str:
    """Decode file-system bytes; invalid UTF-8 is kept as surrogates, as in `os.fsdecode`."""
    return value.decode("utf-8", "surrogateescape")


def encoded(value: str) -> bytes:
    """Encode a text as file-system bytes, the inverse of `decoded`."""
    return value.encode("utf-8", "surrogateescape")
