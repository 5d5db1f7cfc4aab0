"""Writing HDF5 files so that a full disk is an error and not a crash."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from attnrec.errors import FeatureStoreError
from attnrec.runtime import write_error


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
