"""Blocks: the T frames that a recogniser sees at once, sampled from stored frames by their times.

Legend: N stored frames of a video, M blocks, T time-steps (frames of a block).
"""

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from attnrec.features.store import FeatureStore
from attnrec.settings import BlockStarts
from attnrec.video.times import typical_interval


def stored_rate(pts: NDArray[np.float64]) -> float:
    """Frame rate of stored frames, by the `typical_interval` of neighbours; infinite for a single frame."""
    interval = typical_interval(np.diff(pts)) if len(pts) > 1 else 0.0
    return 1 / interval if interval > 0 else math.inf


def sliding_blocks(pts: NDArray[np.float64], fps: float, block_frames: int, block_stride: int) -> NDArray[np.int64]:
    """All blocks of a video, sampled by time as in the paper.

    Sample k of the block that starts at stored frame s is the frame nearest in time to pts[s] + k / fps, where fps is
    at most the stored rate. Starts advance by `block_stride` stored frames, as long as the last sample's time is at
    most the last PTS plus half a stored frame interval. A video with no such start gives one block, padded by
    repeating its last sample.

    Args:
        pts: Times of the stored frames in seconds, rising, shape (N,).
        fps: Samples per second, over 0.
        block_frames: T.
        block_stride: Stored frames between starts, at least 1.

    Returns:
        Index of the stored frame of each sample, shape (M, T), M at least 1.
    """
    rate = stored_rate(pts)
    fps = min(fps, rate) if np.isfinite(rate) else fps
    last_sample = pts[-1] + 0.5 / rate
    starts = np.arange(0, len(pts), block_stride)
    starts = starts[pts[starts] <= last_sample - (block_frames - 1) / fps + 1e-9]
    if len(starts) == 0:
        return padded_block(_video_samples(pts, fps, last_sample), block_frames)
    return nearest_frames(pts, pts[starts, None] + np.arange(block_frames) / fps)


def authors_blocks(num_frames: int, fps: float, block_frames: int, block_stride: int) -> NDArray[np.int64]:
    """All blocks of a video, sampled by counting stored frames as in the authors' code, whatever their times.

    Every `int(30 / fps)`-th stored frame is a sample, so that 20 fps means 30 and 12 means 15, and frames count as if
    they were 30 a second. Starts advance by `block_stride` stored frames as long as T times that step fits into the
    rest of the video. Shorter videos give one block from the first frame, padded by repeating its last sample.

    Args:
        num_frames: N, at least 1.
        fps: Samples per second, over 0; over 30 counts as 30.
        block_frames: T.
        block_stride: Stored frames between starts, at least 1.

    Returns:
        Index of the stored frame of each sample, shape (M, T), M at least 1.
    """
    step = max(1, int(30 / fps))
    if num_frames < block_frames * step:
        return padded_block(np.arange(0, num_frames, step), block_frames)
    starts = np.arange(0, num_frames - block_frames * step + 1, block_stride)
    return starts[:, None] + step * np.arange(block_frames)


def blocks_of(
    pts: NDArray[np.float64], fps: float, block_frames: int, block_stride: int, starts: BlockStarts = "by-time"
) -> NDArray[np.int64]:
    """All blocks of a video, by `sliding_blocks` (`by-time`) or `authors_blocks` (`by-frame`); see there for arguments.

    Raises:
        ValueError: `starts` is neither `by-time` nor `by-frame`.
    """
    if starts not in get_args(BlockStarts):
        raise ValueError(f"starts must be 'by-time' or 'by-frame', got {starts!r}")
    if starts == "by-frame":
        return authors_blocks(len(pts), fps, block_frames, block_stride)
    return sliding_blocks(pts, fps, block_frames, block_stride)


def covering_blocks(
    pts: NDArray[np.float64], end: float, fps: float, block_frames: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Blocks laid end to end over a whole video, for drawing every sample once; the last one overlaps if needed.

    Args:
        pts: Times of the stored frames in seconds, rising, shape (N,).
        end: End of the last frame, in seconds.
        fps: Samples per second, over 0; bounded by the stored rate.
        block_frames: T.

    Returns:
        Index of the stored frame of each sample, shape (M, T), and which samples to draw, shape (M, T): those where a
        stored frame appears for the first time, and so neither padding nor what two blocks share. Blocks without a
        sample to draw, as within a pause, are left out.
    """
    rate = stored_rate(pts)
    samples = _video_samples(pts, min(fps, rate), end - 0.5 / rate)
    if len(samples) < block_frames:
        frames = padded_block(samples, block_frames)
    else:
        starts = list(range(0, len(samples) - block_frames + 1, block_frames))
        if starts[-1] + block_frames < len(samples):
            starts.append(len(samples) - block_frames)
        frames = np.stack([samples[start : start + block_frames] for start in starts])
    drawn = np.zeros(frames.shape, np.bool_)
    drawn.flat[np.unique(frames, return_index=True)[1]] = True
    draws = drawn.any(axis=1)
    return frames[draws], drawn[draws]


def padded_block(samples: NDArray[np.int64], block_frames: int) -> NDArray[np.int64]:
    """One block of at most T samples, padded by repeating the last one, shape (1, T)."""
    samples = samples[:block_frames]
    return np.concatenate([samples, np.full(block_frames - len(samples), samples[-1])])[None]


def nearest_frames(pts: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the frame nearest to each time, the earlier of two equally near; same shape as `times`."""
    right = np.clip(np.searchsorted(pts, times), 1, max(1, len(pts) - 1))
    if len(pts) == 1:
        return np.zeros(times.shape, np.int64)
    # A time half-way between two frames up to rounding goes to the earlier one, on every machine.
    later = pts[right] - times < times - pts[right - 1] - 1e-9
    return (right - 1 + later).astype(np.int64)


def _video_samples(pts: NDArray[np.float64], fps: float, until: float) -> NDArray[np.int64]:
    """Indices of the frames nearest to pts[0] + k / fps, up to a time in seconds."""
    if len(pts) == 1:
        return np.zeros(1, np.int64)
    count = int(np.floor((until - pts[0]) * fps + 1e-9)) + 1
    return nearest_frames(pts, pts[0] + np.arange(count) / fps)


@dataclass(frozen=True)
class BlockTable:
    """The blocks of many videos of a store."""

    frames: NDArray[np.int64]  # (M, T), row of the store's feature array for each sample
    video: NDArray[np.int64]  # (M,), index of each block's video in the store

    def __len__(self) -> int:
        return len(self.video)


def block_table(
    store: FeatureStore,
    videos: NDArray[np.int64],
    *,
    fps: float,
    block_frames: int,
    block_stride: int,
    starts: BlockStarts = "by-time",
) -> BlockTable:
    """Blocks of the videos of a store with these indices (V,), in order; other arguments and errors as in `blocks_of`.

    No block reaches into the next video, as some do by a bug in the authors' code.
    """
    frames, owner = [np.empty((0, block_frames), np.int64)], [np.empty(0, np.int64)]
    for video in videos:
        blocks = blocks_of(store.pts_of(video), fps, block_frames, block_stride, starts)
        frames.append(blocks + store.videos.first_frame[video])
        owner.append(np.full(len(blocks), video))
    return BlockTable(np.concatenate(frames), np.concatenate(owner))
