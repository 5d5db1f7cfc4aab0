"""Single frames of a clip, at its own aspect.

Legend: H and W of a frame in px.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.video.decode import FrameReader


def fitted_size(size: tuple[int, int], width: int) -> tuple[int, int]:
    """Even width and height in px of a frame of a clip of this size, within `width` and twice that height."""
    wide, high = size
    factor = min(width / wide, 2 * width / high)
    return max(2, 2 * round(wide * factor / 2)), max(2, 2 * round(high * factor / 2))


def frames_at(
    clip: Path, indices: Sequence[int], *, width: int, height: int, max_fps: float | None
) -> Iterator[NDArray[np.uint8]]:
    """Decode frames of a clip one by one.

    Args:
        clip: A video.
        indices: Indices among the frames that are kept at `max_fps`, not falling.
        width: Width of the frames in px.
        height: Their height in px.
        max_fps: Most frames a second that are kept; None keeps all.

    Yields:
        RGB frames, shape (H, W, 3); one whose index is given twice is yielded twice.

    Raises:
        VideoError: The clip cannot be decoded.
    """
    wanted = Counter(indices)
    for index, (frame, _) in enumerate(FrameReader(clip, width=width, height=height, max_fps=max_fps)):
        for _ in range(wanted.pop(index, 0)):
            yield frame
        if not wanted:
            return
