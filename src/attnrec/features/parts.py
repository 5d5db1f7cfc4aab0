"""Part files: the features of each finished video, until all are packed into one store.

A process killed at any moment loses at most the videos in progress: a part gets its name once it is complete on disk.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from attnrec.errors import AttnrecError, FeatureStoreError
from attnrec.features.hdf5 import UNREADABLE, finish, give_up, hdf5_errors, opened_hdf5
from attnrec.files import write_error
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary

DECODING = 2  # version of which frames are kept, at which times; stores that do not record it are of 1
LOCK = "lock"
_TEMPORARY = "."  # prefix of the names of unfinished files
_JOBS_AHEAD = 8


class FeatureSource(NamedTuple):
    """Where a finished video's features are until they are packed: a part file, or rows of an earlier store."""

    path: Path
    first_frame: int
    num_frames: int
    summary: DecodeSummary


def parts_dir(out: Path) -> Path:
    """Folder of the part files of an unfinished store."""
    return out.with_name(out.name + ".parts")


def video_id(relative_path: Path) -> str:
    """Identifier of a video in the store: a hash of its relative path, 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(relative_path)).hexdigest()[:16]


def part_path(out: Path, relative_path: Path) -> Path:
    """Path of a video's part file."""
    return parts_dir(out) / f"{video_id(relative_path)}.h5"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_fingerprint(content_sha256: str, specs: Sequence[FeatureSpec]) -> str:
    """Hash of all that decides a video's features: its content, the settings and the version of decoding."""
    key = json.dumps([content_sha256, [identity(spec) for spec in specs], DECODING], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


def identity(spec: FeatureSpec) -> dict[str, Any]:
    """The settings that decide the features: all but the name of the weights, whose hash is among them."""
    return {name: value for name, value in dataclasses.asdict(spec).items() if name != "weights_id"}


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the lock of a store's parts folder, and remove unfinished parts of earlier processes.

    Raises:
        FeatureStoreError: Another process is writing the store.
        AttnrecError: The folder cannot be written.
    """
    folder = parts_dir(out)
    try:
        handle = _lock(out, folder)
    except OSError as error:
        raise write_error(out, error) from None
    try:
        for left_over in folder.glob(_TEMPORARY + "*"):
            left_over.unlink()
        yield
    finally:
        # If only the lock is left, the folder is removed before another process can hold the lock.
        if folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _lock(out: Path, folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the process that held the lock has just removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), (folder / LOCK).stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise FeatureStoreError(
                f"{out}: another `attnrec extract` is writing it; wait for it, or choose another name"
            ) from None
        except FileNotFoundError:
            pass
        os.close(handle)


class PartFile:
    """The part file of one video, written as features come; it appears at `path` only on `commit`.

    Args:
        path: Path of the part, in the folder of parts.
        specs: Specification of each layer's features.
    """

    def __init__(self, path: Path, specs: Sequence[FeatureSpec]) -> None:
        self.path = path
        self._temporary = path.with_name(_TEMPORARY + path.name)
        self._pts: list[float] = []
        with hdf5_errors(path):
            self._file = h5py.File(self._temporary, "w")
            self._features = {
                spec.layer: self._file.create_dataset(
                    f"features/{spec.layer}",
                    (0, *spec.cube_shape),
                    dtype="<f2",
                    maxshape=(None, *spec.cube_shape),
                    chunks=(8, *spec.cube_shape),
                )
                for spec in specs
            }

    def append(self, cubes: Mapping[str, NDArray[np.float16]], pts: Sequence[float]) -> None:
        """Add cubes (n, K, K, D) of every layer and the times of their frames in seconds."""
        with hdf5_errors(self.path):
            for layer, dataset in self._features.items():
                dataset.resize(len(dataset) + len(pts), axis=0)
                dataset[-len(pts) :] = cubes[layer]
        self._pts += pts

    def commit(self, fingerprint: str, summary: DecodeSummary) -> None:
        """Complete the part, and rename it to `path`."""
        with hdf5_errors(self.path):
            self._file["frames/pts"] = np.asarray(self._pts, np.float64)
            for name, value in dataclasses.asdict(summary).items():
                self._file.attrs[name] = value
            self._file.attrs["fingerprint"] = fingerprint
            finish(self._file, self._temporary)
            self._temporary.replace(self.path)

    def abort(self) -> None:
        """Discard the part."""
        give_up(self._file)
        self._temporary.unlink(missing_ok=True)


class PartsWriter:
    """Writes the features of several videos, each into its own part, in a separate thread.

    Use as a context manager; parts that are unfinished at its end are removed.

    Args:
        specs: Specification of each layer's features.
    """

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        self._specs = specs
        self._parts: dict[Path, PartFile] = {}
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_JOBS_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write-parts", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._error is None:
            self._error = AttnrecError("interrupted")  # what is still queued is not worth writing
        self._jobs.put(None)
        self._thread.join()
        for part in self._parts.values():
            part.abort()
        if kind is None and self._error is not None:
            raise self._error

    def append(self, path: Path, cubes: Mapping[str, NDArray[np.float16]], pts: Sequence[float]) -> None:
        """Add frames to the part at `path`. Errors of earlier calls are raised here."""
        self._submit(lambda: self._part(path).append(cubes, pts))

    def commit(self, path: Path, fingerprint: str, summary: DecodeSummary) -> None:
        """Finish the part at `path`. Errors of earlier calls are raised here."""

        def finish() -> None:
            self._part(path).commit(fingerprint, summary)
            del self._parts[path]

        self._submit(finish)

    def discard(self, path: Path) -> None:
        """Discard the part at `path`, if it was begun. Errors of earlier calls are raised here."""
        self._submit(lambda: self._parts.pop(path).abort() if path in self._parts else None)

    def _submit(self, job: Callable[[], None]) -> None:
        if self._error is not None:
            raise self._error
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is None:
                try:
                    job()
                except BaseException as error:
                    self._error = error

    def _part(self, path: Path) -> PartFile:
        if path not in self._parts:
            self._parts[path] = PartFile(path, self._specs)
        return self._parts[path]


def read_part(path: Path, fingerprint: str) -> FeatureSource | None:
    """Open a finished part; None if there is none with this fingerprint."""
    try:
        with opened_hdf5(path) as file:
            if file.attribute("fingerprint") != fingerprint:
                return None
            summary = DecodeSummary(**{f.name: file.attribute(f.name) for f in dataclasses.fields(DecodeSummary)})
            return FeatureSource(path, 0, len(file.dataset("frames/pts", "f", 1)), summary)
    except UNREADABLE:
        return None
