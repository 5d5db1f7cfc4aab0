"""Loads the feature cubes of blocks from a store's mapped array to the device, always into the same memory.

Legend: N stored frames, B blocks in a batch, T time-steps, K grid side, L = K * K locations, D channels.
"""

import itertools
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DEVICE_SHARE = 0.5  # largest share of a CUDA device's free memory for a store

Way = Literal["mapped", "resident", "staged"]
Rows = NDArray[np.int64]


class CubeFeed:
    """Gathers batches of blocks from stored float16 cubes into memory on a device that every batch uses again.

    On the CPU cubes are copied from the map, and the system is told ahead what the next batch will read. On CUDA the
    whole store is kept on the device if it takes no more than half of the free memory. Otherwise a thread gathers the
    next batch into one of two buffers of pinned memory.

    Args:
        features: Stored cubes, shape (N, K, K, D).
        scale: Factor that cubes are multiplied by.
        device: Device that cubes are yielded on.
        way: `mapped` (for the CPU), `resident` or `staged`; None chooses as above.
    """

    def __init__(
        self, features: NDArray[np.float16], scale: float, device: torch.device, *, way: Way | None = None
    ) -> None:
        self._features = features.reshape(len(features), -1, features.shape[-1])  # (N, L, D)
        self._scale = scale
        self._device = device
        self.way = way or _way(features.nbytes, device)
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._file = _MappedFile.of(features)
        self._resident = torch.from_numpy(self._features).to(device) if self.way == "resident" else None

    def batches(self, batches: Iterable[Rows], dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """Yield the cubes of each batch in turn.

        Args:
            batches: Rows of the blocks' samples, each of shape (B, T).
            dtype: Type of the cubes.

        Yields:
            Cubes, shape (B, T, L, D), valid until the next batch is requested.
        """
        if self.way == "mapped":
            return self._from_map(batches, dtype)
        stored = self._from_device(batches) if self.way == "resident" else self._staged(batches)
        return (self._scaled(cubes, dtype) for cubes in stored)

    def _from_map(self, batches: Iterable[Rows], dtype: torch.dtype) -> Iterator[Tensor]:
        for rows, following in _with_next(batches):
            if following is not None and self._file is not None:
                self._file.announce(following)
            yield self._gather(rows, dtype)

    def _from_device(self, batches: Iterable[Rows]) -> Iterator[Tensor]:
        assert self._resident is not None
        for rows in batches:
            yield self._resident[torch.from_numpy(rows).to(self._device)]

    def _staged(self, batches: Iterable[Rows]) -> Iterator[Tensor]:
        slots = itertools.cycle([_PinnedBatch(self._features, self._device) for _ in range(2)])
        coming: deque[tuple[_PinnedBatch, Future[None]]] = deque()
        with ThreadPoolExecutor(1, "gather") as thread:
            for rows, following in _with_next(batches):
                for wanted in (following,) if coming else (rows, following):
                    if wanted is not None:
                        slot = next(slots)
                        coming.append((slot, thread.submit(slot.gather, wanted)))
                slot, gathered = coming.popleft()
                gathered.result()
                yield slot.sent()

    def _scaled(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        return self._memory(stored.shape[0], stored.shape[1], dtype).copy_(stored).mul_(self._scale)

    def _gather(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        cubes = self._memory(len(rows), rows.shape[1], dtype)
        for block, samples in zip(cubes, rows, strict=True):
            # A block at a time, so that it is still in the processor's cache when it is scaled.
            for steps, run in _runs(samples):
                block[steps].copy_(torch.from_numpy(self._features[run]))
            if self._scale != 1:
                block.mul_(self._scale)
        return cubes

    def _memory(self, B: int, T: int, dtype: torch.dtype) -> Tensor:
        """Memory for a batch, reused: to allocate it takes longer than to copy, and a CUDA graph always reads it."""
        buffer = self._buffers.get(dtype)
        if buffer is None or len(buffer) < B or buffer.shape[1] != T:
            with torch.inference_mode(False):  # a buffer made in scoring must be usable in training
                buffer = torch.empty(B, T, *self._features.shape[1:], dtype=dtype, device=self._device)
            self._buffers[dtype] = buffer
        return buffer[:B]


class _PinnedBatch:
    """Pinned host memory for one batch of float16 cubes, copied to the device asynchronously."""

    def __init__(self, features: NDArray[np.float16], device: torch.device) -> None:
        self._features = features
        self._device = device
        self._memory = torch.empty(0, dtype=torch.float16)
        self._copied: torch.cuda.Event | None = None

    def gather(self, rows: Rows) -> None:
        """Gather a batch into the memory, once the device has copied the previous one."""
        if self._copied is not None:
            self._copied.synchronize()
        if len(self._memory) < rows.size:
            shape = (rows.size, *self._features.shape[1:])
            self._memory = torch.empty(shape, dtype=torch.float16, pin_memory=self._device.type == "cuda")
        self._batch = self._memory[: rows.size].view(*rows.shape, *self._features.shape[1:])
        stored, picked = torch.from_numpy(self._features), torch.from_numpy(rows)
        torch.index_select(stored, 0, picked.flatten(), out=self._batch.flatten(0, 1))

    def sent(self) -> Tensor:
        """The batch on the device, possibly still being copied."""
        batch = self._batch.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        return batch


class _MappedFile:
    """The file behind a mapped array, to announce reads to the system."""

    def __init__(self, path: Path, offset: int, row_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self._row_bytes = row_bytes
        weakref.finalize(self, os.close, self._descriptor)

    @classmethod
    def of(cls, features: NDArray[np.float16]) -> "_MappedFile | None":
        """The file of a mapped array; None if the array is not mapped or the system takes no advice."""
        if not isinstance(features, np.memmap) or features.filename is None or not hasattr(os, "posix_fadvise"):
            return None
        return cls(Path(features.filename), features.offset, features[0].nbytes)

    def announce(self, rows: Rows) -> None:
        """Ask the system to read rows in the background."""
        for samples in rows:
            for _, run in _runs(samples):
                start = self._offset + run.start * self._row_bytes
                length = (run.stop - run.start) * self._row_bytes
                os.posix_fadvise(self._descriptor, start, length, os.POSIX_FADV_WILLNEED)


def _way(num_bytes: int, device: torch.device) -> Way:
    if device.type == "cpu":
        return "mapped"
    free, _ = torch.cuda.mem_get_info(device)
    return "resident" if num_bytes <= DEVICE_SHARE * free else "staged"


def _with_next(batches: Iterable[Rows]) -> Iterator[tuple[Rows, Rows | None]]:
    """Pairs of each batch and the one after it."""
    waiting: Rows | None = None
    for rows in batches:
        if waiting is not None:
            yield waiting, rows
        waiting = rows
    if waiting is not None:
        yield waiting, None


def _runs(rows: Rows) -> Iterator[tuple[slice, slice]]:
    """Runs of consecutive rows, as the slice of steps and the slice of rows of each."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    for start, end in itertools.pairwise([0, *ends.tolist(), len(rows)]):
        first = int(rows[start])
        yield slice(start, end), slice(first, first + end - start)
