"""Decoding several videos at once, ahead of the network, and gathering their frames into full batches.

Frames come in the order in which they are decoded: those of one video in theirs, those of several interleaved, so that
no decoder waits for another. Memory is bounded by the number of decoders, whatever the number and length of videos.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import VideoError
from attnrec.video.decode import DecodeSummary, FrameReader

_CHUNK_FRAMES = 8
_CHUNKS_AHEAD = 4  # for each decoder


class FrameChunk(NamedTuple):
    """Some consecutive frames of a video, (n, H, W, 3) uint8, and their times in seconds."""

    video: int
    frames: NDArray[np.uint8]
    pts: list[float]


class VideoEnd(NamedTuple):
    """That a video is decoded, or why it could not be."""

    video: int
    outcome: DecodeSummary | VideoError


class Piece(NamedTuple):
    """Rows of a batch that belong to one video, and their times in seconds."""

    video: int
    rows: slice
    pts: list[float]


class FrameBatch(NamedTuple):
    """Frames of one or more videos, (n, H, W, 3) uint8, whose they are, and the videos that end with them."""

    frames: NDArray[np.uint8]
    pieces: list[Piece]
    ended: list[VideoEnd]


class DecodeAhead:
    """Decodes videos in threads; iterate for `FrameChunk`s and, after the last of a video, its `VideoEnd`.

    Use as a context manager; leaving it stops what is still being decoded.

    Args:
        readers: The videos, numbered by their place.
        jobs: Videos decoded at once.
    """

    def __init__(self, readers: Sequence[FrameReader], *, jobs: int) -> None:
        self._readers = readers
        self._waiting = iter(range(len(readers)))
        self._lock = threading.Lock()
        self._decoded: queue.Queue[FrameChunk | VideoEnd | BaseException] = queue.Queue(_CHUNKS_AHEAD * jobs)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{i}", daemon=True) for i in range(min(jobs, len(readers)))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for reader in self._readers:
            reader.cancel()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[FrameChunk | VideoEnd]:
        left = len(self._readers)
        while left:
            item = self._decoded.get()
            if isinstance(item, BaseException):
                raise item
            left -= isinstance(item, VideoEnd)
            yield item

    def _work(self) -> None:
        try:
            while (video := self._next()) is not None:
                self._decode(video)
        except _StoppedError:
            return
        except BaseException as error:  # raised again where the frames are taken
            self._put(error)

    def _next(self) -> int | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._waiting, None)

    def _decode(self, video: int) -> None:
        reader = self._readers[video]
        try:
            with closing(iter(reader)) as frames:
                while chunk := list(islice(frames, _CHUNK_FRAMES)):
                    self._put(FrameChunk(video, np.stack([frame for frame, _ in chunk]), [pts for _, pts in chunk]))
        except VideoError as error:
            self._put(VideoEnd(video, error))
            return
        assert reader.summary is not None
        self._put(VideoEnd(video, reader.summary))

    def _put(self, item: FrameChunk | VideoEnd | BaseException) -> None:
        while not self._stopped.is_set():
            try:
                return self._decoded.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _StoppedError


class _StoppedError(BaseException):
    """Ends a decoding thread whose frames nobody wants any more."""


def gathered(decoded: Iterable[FrameChunk | VideoEnd], batch_frames: int) -> Iterator[FrameBatch]:
    """Gather frames into batches, across the borders of videos.

    Args:
        decoded: Chunks and ends of videos, as `DecodeAhead` gives them.
        batch_frames: Frames in every batch but the last.

    Yields:
        Batches; the last may hold fewer frames, or none where videos end without any.
    """
    chunks: list[FrameChunk] = []
    ended: list[VideoEnd] = []
    num_frames = 0
    for item in decoded:
        if isinstance(item, VideoEnd):
            ended.append(item)
            continue
        while num_frames + len(item.frames) >= batch_frames:
            head, item = _split(item, batch_frames - num_frames)
            yield _batch([*chunks, head], ended)
            chunks, ended, num_frames = [], [], 0
        if len(item.frames):
            chunks.append(item)
            num_frames += len(item.frames)
    if chunks or ended:
        yield _batch(chunks, ended)


def _split(chunk: FrameChunk, at: int) -> tuple[FrameChunk, FrameChunk]:
    video, frames, pts = chunk
    return FrameChunk(video, frames[:at], pts[:at]), FrameChunk(video, frames[at:], pts[at:])


def _batch(chunks: list[FrameChunk], ended: list[VideoEnd]) -> FrameBatch:
    pieces, row = [], 0
    for chunk in chunks:
        pieces.append(Piece(chunk.video, slice(row, row + len(chunk.frames)), chunk.pts))
        row += len(chunk.frames)
    frames = np.concatenate([chunk.frames for chunk in chunks]) if chunks else np.empty((0, 0, 0, 3), np.uint8)
    return FrameBatch(frames, pieces, ended)
