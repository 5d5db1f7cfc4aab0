"""HDF5 files written so that a full disk is an error and not a crash, and read so that a crafted one is an error."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from attnrec.errors import FeatureStoreError
from attnrec.files import write_error


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """What h5py and the system say of a file that cannot be written, in one line.

    Raises:
        AttnrecError: Instead of it; names `path`.
    """
    try:
        yield
    except RuntimeError as error:
        raise FeatureStoreError(f"{path}: cannot be written, is the disk full? ({error})") from None
    except OSError as error:
        raise write_error(path, error) from None


@contextlib.contextmanager
def new_hdf5_file(temporary: Path, path: Path, **options: int) -> Iterator[h5py.File]:
    """A new file at `temporary` that is whole and on disk when the block has ended well.

    Raises:
        AttnrecError: It cannot be written; names `path`.
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
    """Close a file that is not wanted any more, if it is still open."""
    if not file:
        return
    # HDF5 writes what it holds when it closes a file; where the disk is full that fails, and HDF5 crashes as it tries
    # again at the end of the process. So let it write into memory.
    if hasattr(os, "memfd_create"):  # Linux
        memory = os.memfd_create("attnrec")
        os.dup2(memory, file.id.get_vfd_handle())
        os.close(memory)
    with contextlib.suppress(RuntimeError, OSError):
        file.close()


def checked_dataset(file: h5py.File, name: str, kinds: str, ndim: int | None) -> h5py.Dataset:
    """A dataset that lies in the file itself, of an expected kind of numbers and rank.

    A crafted HDF5 file can point at other files of the machine (external links and storage, virtual datasets) or
    claim sizes far beyond its own; none of that is followed or read.

    Raises:
        ValueError: It is not so.
        KeyError: It is not there.
    """
    dataset = checked_object(file, name, h5py.Dataset)
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} is not stored in the file itself")
    if dataset.dtype.kind not in kinds or ndim not in (None, dataset.ndim):
        raise ValueError(f"{name} has type {dataset.dtype} and rank {dataset.ndim}")
    if dataset.chunks is None and dataset.size * dataset.dtype.itemsize > Path(file.filename).stat().st_size:
        raise ValueError(f"{name} claims more than the file holds")
    if dataset.chunks is not None:
        raise ValueError(f"{name} is chunked")
    return dataset


def checked_object(file: h5py.File, name: str, kind: type) -> Any:
    """An object that is reached from the root by hard links alone; links are looked at before they are followed."""
    found: Any = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is missing or a link")
        found = found[part]
    if not isinstance(found, kind):
        raise ValueError(f"{name} is not a {kind.__name__.lower()}")
    return found


def checked_column(file: h5py.File, name: str, kinds: str) -> NDArray[Any]:
    column: NDArray[Any] = checked_dataset(file, name, kinds, 1)[:]
    return column.astype(column.dtype.str)  # without h5py's notes on the type, which NumPy's own files cannot hold


def text(value: str | bytes) -> str:
    """A text attribute; those that hold a user's names are bytes, as such names need not be UTF-8."""
    if not isinstance(value, str | bytes):
        raise TypeError(f"an attribute is {type(value).__name__}, not a text")
    return value if isinstance(value, str) else decoded(value)


def decoded(value: bytes) -> str:
    """Text of file-system bytes; bytes that are no UTF-8 survive as surrogates, as in `os.fsdecode`."""
    return value.decode("utf-8", "surrogateescape")


def encoded(value: str) -> bytes:
    """The inverse of `decoded`."""
    return value.encode("utf-8", "surrogateescape")
