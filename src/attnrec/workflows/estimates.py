"""What an extraction will take, before it begins."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnrec.data.video import probe
from attnrec.errors import VideoError
from attnrec.models.inference import BATCH_FRAMES, CubeExtractor
from attnrec.workflows.features import IMAGE_SIZE

_PROBED_VIDEOS = 24
_LEAST_FRAME_BYTES = 20  # of a frame that repeats the last, in the codecs at hand


def estimated_frames(root: Path, paths: Sequence[Path], sample_fps: float | None) -> int:
    """Frames of all videos, from the headers of some; videos that cannot be opened count for nothing.

    A header may lie, so a video counts for no more frames than its bytes could hold.
    """
    if not paths:
        return 0
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(len(paths), _PROBED_VIDEOS)).astype(int)]
    counts = []
    for path in chosen:
        try:
            info = probe(root / path)
        except VideoError:
            counts.append(0.0)
            continue
        rate = info.fps if info.fps > 0 else 30.0
        duration = info.duration_seconds if info.duration_seconds > 0 else 0.0
        most = (root / path).stat().st_size / _LEAST_FRAME_BYTES
        counts.append(min(duration * min(rate, sample_fps or rate), most) + 1)
    return int(np.mean(counts) * len(paths))


def seconds_per_frame(extractor: CubeExtractor) -> float:
    """Time that the network takes for a frame on this machine."""
    frames = np.zeros((BATCH_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    extractor(frames)  # the first pass sets things up
    started = time.monotonic()
    extractor(frames)
    return (time.monotonic() - started) / BATCH_FRAMES
