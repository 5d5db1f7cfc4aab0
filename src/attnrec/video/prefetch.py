"""Decoding several videos at once, ahead of the network, straight into batches of frames whose memory is used again.

Frames lie in a batch in the order in which they are decoded: those of one video in theirs, those of several
interleaved, so that no decoder waits for another. Memory is bounded by the number of decoders and of batches, whatever
the number and length of videos.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import VideoError
from attnrec.video.decode import DecodeSummary, FrameReader

_CHUNK_FRAMES = 8  # that a decoder collects before it takes rows for them
_JOIN_SECONDS = 0.2


class VideoEnd(NamedTuple):
    """That a video is decoded, or why it could not be."""

    video: int
    outcome: DecodeSummary | VideoError


class Piece(NamedTuple):
    """Rows of a batch that belong to one video, and their times in seconds."""

    video: int
    rows: slice
    pts: list[float]


@dataclass(eq=False)
class FrameBatch:
    """Frames of one or more videos, whose they are, and the videos that end with them."""

    frames: NDArray[np.uint8]  # the whole memory, shape (rows, H, W, 3); what lies behind the frames has no meaning
    num_frames: int = 0
    pieces: list[Piece] = field(default_factory=list)
    ended: list[VideoEnd] = field(default_factory=list)
    _copying: int = 0  # pieces whose frames are not all there yet


class DecodeAhead:
    """Decodes videos in threads; iterate for `FrameBatch`es, and `release` each.

    Every batch but the last is full; the last may hold no frames where videos end without any. A video ends with the
    batch of its last frame or a later one. Use as a context manager; leaving it stops what is still being decoded.

    Args:
        readers: The videos, numbered by their place.
        memory: Memory of each batch, all of one shape (rows, H, W, 3). Decoding waits while all are in use.
        jobs: Videos decoded at once.
    """

    def __init__(self, readers: Sequence[FrameReader], memory: Sequence[NDArray[np.uint8]], *, jobs: int) -> None:
        self._readers = readers
        self._waiting = iter(range(len(readers)))
        self._unended = len(readers)
        self._free = list(memory)
        self._filling: FrameBatch | None = None  # the batch that has rows left
        self._batches: deque[FrameBatch] = deque()  # that are not delivered, with the one being filled as the last
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()  # guards all of the above
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{i}", daemon=True) for i in range(min(jobs, len(readers)))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():  # cancelled again, as a decoder may have been about to start
                for reader in self._readers:
                    reader.cancel()
                thread.join(_JOIN_SECONDS)

    def __iter__(self) -> Iterator[FrameBatch]:
        while (batch := self._next_batch()) is not None:
            yield batch

    def release(self, batch: FrameBatch) -> None:
        """Give the memory of a batch back, whose frames are not needed any more."""
        with self._changed:
            self._free.append(batch.frames)
            self._changed.notify_all()

    def _next_batch(self) -> FrameBatch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._is_ready() or not (self._unended or self._batches))
            if self._error is not None:
                raise self._error
            return self._batches.popleft() if self._batches else None

    def _is_ready(self) -> bool:
        """Whether the first batch gets no more frames, and has all that it gets."""
        return bool(self._batches) and self._batches[0] is not self._filling and not self._batches[0]._copying

    def _work(self) -> None:
        try:
            while (video := self._next_video()) is not None:
                self._decode(video)
        except _StoppedError:
            return
        except BaseException as error:  # raised again where the batches are taken
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next_video(self) -> int | None:
        with self._changed:
            return None if self._stopped else next(self._waiting, None)

    def _decode(self, video: int) -> None:
        reader = self._readers[video]
        try:
            with closing(iter(reader)) as frames:
                while chunk := list(islice(frames, _CHUNK_FRAMES)):
                    self._place(video, chunk)
        except VideoError as error:
            self._end(VideoEnd(video, error))
            return
        assert reader.summary is not None
        self._end(VideoEnd(video, reader.summary))

    def _place(self, video: int, chunk: list[tuple[NDArray[np.uint8], float]]) -> None:
        """Copy frames to the next rows, which may be those of several batches."""
        while chunk:
            with self._changed:
                batch = self._open_batch()
                first = batch.num_frames
                placed, chunk = chunk[: len(batch.frames) - first], chunk[len(batch.frames) - first :]
                rows = slice(first, first + len(placed))
                batch.pieces.append(Piece(video, rows, [pts for _, pts in placed]))
                batch.num_frames = rows.stop
                batch._copying += 1
                if rows.stop == len(batch.frames):
                    self._filling = None
            np.stack([frame for frame, _ in placed], out=batch.frames[rows])  # without holding Python's lock
            with self._changed:
                batch._copying -= 1
                if self._is_ready():
                    self._changed.notify_all()

    def _end(self, end: VideoEnd) -> None:
        with self._changed:
            self._open_batch().ended.append(end)
            self._unended -= 1
            if not self._unended:
                self._filling = None
                self._changed.notify_all()

    def _open_batch(self) -> FrameBatch:
        """The batch that has rows left; waits for memory where a new one has to be begun."""
        self._changed.wait_for(lambda: self._stopped or self._filling or self._free)
        if self._stopped:
            raise _StoppedError
        if self._filling is None:
            self._filling = FrameBatch(self._free.pop())
            self._batches.append(self._filling)
        return self._filling


class _StoppedError(BaseException):
    """Ends a decoding thread whose frames nobody wants any more."""
