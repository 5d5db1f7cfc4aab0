"""Part files: the features of each finished video, until all are packed into one store.

A process killed at any moment loses at most the videos in progress: a part gets its name once it is complete on disk.

A part holds a row for each frame, the float16 values of all layers one after another; the frames' times, float64; a
record in JSON, with the CRC-32 of all before it; and the length and CRC-32 of the record. Numbers are little-endian.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import shutil
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import AttnrecError, FeatureStoreError
from attnrec.files import opened_regular, reason_of, write_error
from attnrec.specs import FeatureSpec, frame_bytes
from attnrec.video.decode import DecodeSummary

DECODING = 2  # version of which frames are kept, at which times; stores that do not record it are of 1
LOCK = "lock"
JOBS_AHEAD = 4  # additions to parts and the like that wait to be done
_TEMPORARY = "."  # prefix of the names of unfinished files
_COMMITS = 4  # parts brought to the disk at once
_COMMITS_AHEAD = 32  # parts that wait for it, each an open file
_END = struct.Struct("<II8s")  # length and CRC-32 of the record, and what the file is
_MAGIC = b"attnpart"
_MOST_RECORD_BYTES = 1 << 16
_READ_BYTES = 1 << 25  # read at once
_SUMMARY_TYPES = get_type_hints(DecodeSummary)


class PartContent(NamedTuple):
    """What is in a part: the size of each frame's row, and the CRC-32 of rows and times."""

    row_bytes: int
    crc: int


class FeatureSource(NamedTuple):
    """Where a finished video's features are until they are packed: a part file, or rows of an earlier store."""

    path: Path
    first_frame: int
    num_frames: int
    summary: DecodeSummary
    part: PartContent | None = None  # None for rows of a store


def parts_dir(out: Path) -> Path:
    """Folder of the part files of an unfinished store."""
    return out.with_name(out.name + ".parts")


def video_id(relative_path: Path) -> str:
    """Identifier of a video in the store: a hash of its relative path, 16 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(relative_path)).hexdigest()[:16]


def part_path(out: Path, relative_path: Path) -> Path:
    """Path of a video's part file."""
    return parts_dir(out) / f"{video_id(relative_path)}.part"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_fingerprint(content_sha256: str, specs: Sequence[FeatureSpec]) -> str:
    """Hash of all that decides a video's features: its content, the settings and the version of decoding."""
    key = json.dumps([content_sha256, [identity(spec) for spec in specs], DECODING], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


def identity(spec: FeatureSpec) -> dict[str, Any]:
    """The settings that decide a layer's features: all but the name of the weights, whose hash is among them."""
    return {name: value for name, value in vars(spec).items() if name not in ("weights_id", "joined")}


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


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system in writing a part into one line that names it."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from None


class PartFile:
    """The part file of one video, written as features come; it appears at `path` only on `commit`.

    Args:
        path: Path of the part, in the folder of parts.
        specs: Specification of each layer's features.
    """

    def __init__(self, path: Path, specs: Sequence[FeatureSpec]) -> None:
        self.path = path
        self._temporary = path.with_name(_TEMPORARY + path.name)
        self._specs = specs
        self._pts: list[float] = []
        self._crc = 0
        with _write_errors(path):
            flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
            self._handle: int | None = os.open(self._temporary, flags, 0o666)

    def append(self, cubes: Mapping[str, NDArray[np.float16]], pts: Sequence[float]) -> None:
        """Add cubes (n, K, K, D) of every layer and the times of their frames in seconds."""
        layers = [
            np.ascontiguousarray(cubes[spec.layer], "<f2").reshape(len(pts), spec.num_locations * spec.feature_dim)
            for spec in self._specs
        ]
        self._write(layers[0] if len(layers) == 1 else np.concatenate(layers, axis=1))
        self._pts += pts

    def commit(self, fingerprint: str, summary: DecodeSummary) -> None:
        """Complete the part, wait until it is on disk, and rename it to `path`; on an error discard it."""
        try:
            self._write(np.asarray(self._pts, "<f8"))
            described = {name: kind(getattr(summary, name)) for name, kind in _SUMMARY_TYPES.items()}
            record = {"fingerprint": fingerprint, "num_frames": len(self._pts), "crc": self._crc, "summary": described}
            encoded = json.dumps(record).encode()
            end = _END.pack(len(encoded), zlib.crc32(encoded), _MAGIC)
            self._write(np.frombuffer(encoded + end, np.uint8))
            with _write_errors(self.path):
                assert self._handle is not None
                os.fsync(self._handle)
                self._close()
                self._temporary.replace(self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Discard the part."""
        with contextlib.suppress(OSError):
            self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _write(self, values: NDArray[Any]) -> None:
        assert self._handle is not None
        data = _bytes_of(values)
        self._crc = zlib.crc32(data, self._crc)
        with _write_errors(self.path):
            while data:
                data = data[os.write(self._handle, data) :]


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return values.reshape(-1).view(np.uint8).data


class PartsWriter:
    """Writes the features of several videos, each into its own part, in a separate thread.

    Finished parts are brought to the disk by others, so that no video waits for another's. Use as a context manager;
    parts that are unfinished at its end are removed.

    Args:
        specs: Specification of each layer's features.
    """

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        self._specs = specs
        self._parts: dict[Path, PartFile] = {}
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(JOBS_AHEAD)
        self._commits: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(_COMMITS, thread_name_prefix="commit-parts")
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
        """Add frames to the part at `path`. Errors of earlier calls are raised here.

        The cubes must not change until `JOBS_AHEAD` + 1 more calls have returned.
        """
        self._submit(lambda: self._part(path).append(cubes, pts))

    def commit(self, path: Path, fingerprint: str, summary: DecodeSummary) -> None:
        """Finish the part at `path`. Errors of earlier calls are raised here."""

        def finish() -> None:
            part = self._part(path)
            del self._parts[path]
            self._commits.append(self._pool.submit(part.commit, fingerprint, summary))
            self._await_commits(_COMMITS_AHEAD)

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
                self._try(job)
        self._pool.shutdown()
        self._try(lambda: self._await_commits(0))

    def _try(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = self._error or error

    def _await_commits(self, most_left: int) -> None:
        """Wait until few parts are on their way to the disk; raises the error of one that did not get there."""
        while self._commits and (len(self._commits) > most_left or self._commits[0].done()):
            self._commits.popleft().result()

    def _part(self, path: Path) -> PartFile:
        if path not in self._parts:
            self._parts[path] = PartFile(path, self._specs)
        return self._parts[path]


def read_part(path: Path, fingerprint: str, specs: Sequence[FeatureSpec]) -> FeatureSource | None:
    """Open a finished part; None if there is none with this fingerprint, or one that is not whole.

    Rows and times are not read, and not yet known to be undamaged.
    """
    try:
        with opened_regular(path) as file:
            size, record = _read_record(file)
        num_frames, row_bytes, summary = record["num_frames"], frame_bytes(specs), DecodeSummary(**record["summary"])
        typed = all(isinstance(getattr(summary, name), kind) for name, kind in _SUMMARY_TYPES.items())
        if not typed or record["fingerprint"] != fingerprint or size % (row_bytes + 8):
            return None
        if not isinstance(num_frames, int) or num_frames != size // (row_bytes + 8):
            return None
        return FeatureSource(path, 0, num_frames, summary, PartContent(row_bytes, record["crc"]))
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError, struct.error):
        return None


def _read_record(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Bytes of a part's rows and times, and its record.

    Raises:
        ValueError: It is no part, or not whole; so do `OSError`, `RecursionError` and `struct.error`.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size))
    length, crc, magic = _END.unpack(file.read())
    start = size - _END.size - length
    if magic != _MAGIC or length > _MOST_RECORD_BYTES or start < 0:
        raise ValueError("not a part")
    file.seek(start)
    encoded = file.read(length)
    if zlib.crc32(encoded) != crc:
        raise ValueError("damaged")
    return start, json.loads(encoded)


def part_rows(source: FeatureSource) -> Iterator[NDArray[np.float16]]:
    """Read the rows of a part, some at a time into memory that is used again, shape (n, values of all layers).

    Raises:
        FeatureStoreError: The part turned out to be damaged, and was removed; told at its end at the latest.
    """
    assert source.part is not None
    row_bytes, expected = source.part
    most = max(1, _READ_BYTES // row_bytes)
    memory = np.empty((min(most, source.num_frames), row_bytes // 2), "<f2")
    crc = 0
    with _damage_found(source), opened_regular(source.path) as file:
        for start in range(0, source.num_frames, most):
            rows = memory[: source.num_frames - start]
            data = _bytes_of(rows)
            if file.readinto(data) != len(data):  # type: ignore[attr-defined]
                raise ValueError("cut short")
            crc = zlib.crc32(data, crc)
            yield rows
        if zlib.crc32(file.read(source.num_frames * 8), crc) != expected:
            raise ValueError("changed")


def part_times(source: FeatureSource) -> NDArray[np.float64]:
    """Read the times of a part's frames in seconds.

    Raises:
        FeatureStoreError: The part turned out to be damaged, and was removed.
    """
    assert source.part is not None
    with _damage_found(source), opened_regular(source.path) as file:
        file.seek(source.num_frames * source.part.row_bytes)
        times: NDArray[np.float64] = np.frombuffer(file.read(source.num_frames * 8), "<f8")
        if len(times) != source.num_frames:
            raise ValueError("cut short")
    return times


@contextlib.contextmanager
def _damage_found(source: FeatureSource) -> Iterator[None]:
    """Remove a part that turns out to be damaged, and say so."""
    try:
        yield
    except OSError as error:
        raise FeatureStoreError(f"{source.path}: cannot be read: {reason_of(error)}") from None
    except ValueError:
        source.path.unlink(missing_ok=True)
        raise FeatureStoreError(
            f"{source.path}: was damaged and is removed; run `attnrec extract` again, which makes it anew"
        ) from None
