"""Decoding several videos at once, ahead of whoever takes their frames, in bounded memory."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.data.video import FrameReader

_BATCHES_AHEAD = 4  # for each video


class FrameBatch(NamedTuple):
    """Some frames of a video, (n, H, W, 3) uint8, and their times in seconds."""

    frames: NDArray[np.uint8]
    pts: list[float]


class DecodeAhead:
    """Decodes videos in threads and hands out their frames in batches, video by video, in order.

    Use as a context manager; leaving it stops what is still being decoded.

    Args:
        readers: The videos.
        jobs: Videos decoded at once.
        batch_frames: Most frames in a batch.
    """

    def __init__(self, readers: Iterable[FrameReader], *, jobs: int, batch_frames: int) -> None:
        self._readers = iter(readers)
        self._jobs = jobs
        self._batch_frames = batch_frames
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="decode")
        self._under_way: deque[tuple[FrameReader, queue.Queue[FrameBatch | Exception | None]]] = deque()

    def __enter__(self) -> "DecodeAhead":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[FrameReader, Iterator[FrameBatch]]]:
        self._submit(self._jobs)
        while self._under_way:
            reader, batches = self._under_way.popleft()
            yield reader, self._drained(batches)
            self._submit(1)

    def _submit(self, count: int) -> None:
        for reader in islice(self._readers, count):
            batches: queue.Queue[FrameBatch | Exception | None] = queue.Queue(_BATCHES_AHEAD)
            self._under_way.append((reader, batches))
            self._pool.submit(self._decode, reader, batches)

    def _decode(self, reader: FrameReader, batches: "queue.Queue[FrameBatch | Exception | None]") -> None:
        try:
            with closing(iter(reader)) as frames:
                while chunk := list(islice(frames, self._batch_frames)):
                    self._put(batches, FrameBatch(np.stack([frame for frame, _ in chunk]), [pts for _, pts in chunk]))
            self._put(batches, None)
        except Exception as error:  # raised again where the frames are taken
            self._put(batches, error)

    def _put(self, batches: "queue.Queue[FrameBatch | Exception | None]", item: FrameBatch | Exception | None) -> None:
        while True:
            if self._stopped.is_set():
                raise _StoppedError
            try:
                return batches.put(item, timeout=0.2)
            except queue.Full:
                continue

    def _drained(self, batches: "queue.Queue[FrameBatch | Exception | None]") -> Iterator[FrameBatch]:
        while (item := batches.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class _StoppedError(BaseException):
    """Ends a decoding thread whose frames nobody wants any more."""
