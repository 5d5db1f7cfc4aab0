"""Loads the feature cubes of blocks from a store's mapped arrays to the device, always into the same memory.

The cubes of several layers stand side by side: their locations one after another, the channels of each filled up with
zeros to those of the deepest.

Legend: N stored frames, B blocks in a batch, T time-steps, L locations (K * K, summed over layers), D channels.
"""

import itertools
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
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
        features: Stored cubes of each layer, (N, K, K, D).
        scales: Factor that the cubes of each layer are multiplied by.
        device: Device that cubes are yielded on.
        way: `mapped` (for the CPU), `resident` or `staged`; None chooses as above.
    """

    def __init__(
        self,
        features: Sequence[NDArray[np.float16]],
        scales: Sequence[float],
        device: torch.device,
        *,
        way: Way | None = None,
    ) -> None:
        self._layers = [layer.reshape(len(layer), -1, layer.shape[-1]) for layer in features]  # (N, L, D)
        self._places = _places(self._layers)
        self._scales = scales
        self._device = device
        self.way = way or _way(sum(layer.nbytes for layer in features), device)
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._files = [file for layer in features if (file := _MappedFile.of(layer)) is not None]
        resident = self.way == "resident"
        self._resident = [torch.from_numpy(layer).to(device) for layer in self._layers] if resident else []

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
        return (self._scaled(layers, dtype) for layers in stored)

    def _from_map(self, batches: Iterable[Rows], dtype: torch.dtype) -> Iterator[Tensor]:
        for rows, following in _with_next(batches):
            if following is not None:
                for file in self._files:
                    file.announce(following)
            yield self._gather(rows, dtype)

    def _from_device(self, batches: Iterable[Rows]) -> Iterator[list[Tensor]]:
        for rows in batches:
            picked = torch.from_numpy(rows).to(self._device)
            yield [layer[picked] for layer in self._resident]

    def _staged(self, batches: Iterable[Rows]) -> Iterator[list[Tensor]]:
        slots = itertools.cycle([_PinnedBatch(self._layers, self._device) for _ in range(2)])
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

    def _scaled(self, stored: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        cubes = self._memory(stored[0].shape[0], stored[0].shape[1], dtype)
        for place, layer, scale in zip(self._places, stored, self._scales, strict=True):
            cubes[:, :, *place].copy_(layer).mul_(scale)
        return cubes

    def _gather(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        cubes = self._memory(len(rows), rows.shape[1], dtype)
        for block, samples in zip(cubes, rows, strict=True):
            # A block at a time, so that it is still in the processor's cache when it is scaled.
            for place, layer, scale in zip(self._places, self._layers, self._scales, strict=True):
                part = block[:, *place]
                for steps, run in _runs(samples):
                    part[steps].copy_(torch.from_numpy(layer[run]))
                if scale != 1:
                    part.mul_(scale)
        return cubes

    def _memory(self, B: int, T: int, dtype: torch.dtype) -> Tensor:
        """Memory for a batch, reused: to allocate it takes longer than to copy, and a CUDA graph always reads it."""
        buffer = self._buffers.get(dtype)
        if buffer is None or len(buffer) < B or buffer.shape[1] != T:
            shape = (self._places[-1][0].stop, max(layer.shape[2] for layer in self._layers))  # L, D
            make = torch.empty if len(self._layers) == 1 else torch.zeros
            with torch.inference_mode(False):  # a buffer made in scoring must be usable in training
                buffer = make(B, T, *shape, dtype=dtype, device=self._device)
            self._buffers[dtype] = buffer
        return buffer[:B]


def _places(layers: Sequence[NDArray[np.float16]]) -> list[tuple[slice, slice]]:
    """Locations and channels of each layer, (N, L, D), in the tensor of all of them."""
    ends = itertools.accumulate(layer.shape[1] for layer in layers)
    return [(slice(end - layer.shape[1], end), slice(layer.shape[2])) for end, layer in zip(ends, layers, strict=True)]


class _PinnedBatch:
    """Pinned host memory for the float16 cubes of one batch, layer by layer, copied to the device asynchronously."""

    def __init__(self, layers: Sequence[NDArray[np.float16]], device: torch.device) -> None:
        self._layers = layers
        self._device = device
        self._memory = [torch.empty(0, dtype=torch.float16) for _ in layers]
        self._copied: torch.cuda.Event | None = None

    def gather(self, rows: Rows) -> None:
        """Gather a batch into the memory, once the device has copied the previous one."""
        if self._copied is not None:
            self._copied.synchronize()
        picked = torch.from_numpy(rows).flatten()
        for i, layer in enumerate(self._layers):
            if len(self._memory[i]) < rows.size:
                shape = (rows.size, *layer.shape[1:])
                self._memory[i] = torch.empty(shape, dtype=torch.float16, pin_memory=self._device.type == "cuda")
            torch.index_select(torch.from_numpy(layer), 0, picked, out=self._memory[i][: rows.size])
        self._batch = [memory[: rows.size].view(*rows.shape, *memory.shape[1:]) for memory in self._memory]

    def sent(self) -> list[Tensor]:
        """The batch on the device, possibly still being copied."""
        batch = [layer.to(self._device, non_blocking=True) for layer in self._batch]
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
