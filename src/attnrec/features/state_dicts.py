"""State dicts: read from files of `torch.save`, and hashed. Loads neither torchvision nor, for a hash, torch."""

import errno
import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.files import opened_regular, unpacked_bytes

PICKLE_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, LookupError, ValueError, TypeError,
    AttributeError, OverflowError, MemoryError,
)  # fmt: skip


def load_pickled_tensors(path: Path, most_bytes: int) -> Any:
    """Load a file of `torch.save` on the CPU: tensors in plain containers; nothing else is unpickled.

    Args:
        path: The file.
        most_bytes: Limit of its size in memory, as a file of a few MB can unpack to GBs.

    Raises:
        OSError: The file is not regular, cannot be read, or exceeds the limit.
        Exception: One of `PICKLE_ERRORS`: the file was not written by `torch.save`.
    """
    import torch

    with opened_regular(path) as file:
        if (found := unpacked_bytes(file)) > most_bytes:
            raise OSError(errno.EFBIG, f"takes {found / 1e6:.0f} MB in memory, where {most_bytes / 1e6:.0f} are enough")
        return torch.load(file, map_location="cpu", weights_only=True)


def weights_sha256(state: Mapping[str, NDArray[Any]]) -> str:
    """Hash of the names, types, shapes and values of weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(state.items()):
        digest.update(f"{name} {weight.dtype.str} {weight.shape}\n".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
