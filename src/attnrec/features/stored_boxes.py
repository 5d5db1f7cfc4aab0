"""The boxes in a feature store, which make their file and the videos unnecessary.

Legend: V videos of the store, M boxes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.features.hdf5 import CheckedFile
from attnrec.video.decode import Region

GROUP = "boxes"
_KINDS = {"video": ("i", 1), "seconds": ("f", 1), "corners": ("f", 2), "size": ("i", 2)}
MOST_SECONDS, _MOST_PX = 1e9, 1e6  # latest time in a video, longest side of a frame
Size = tuple[int, int]  # width and height


@dataclass(frozen=True, eq=False)
class StoredBoxes:
    """Boxes of a store's videos, in the order of the videos and, within each, of time."""

    video: NDArray[np.int32]  # (M,), index of each box's video
    seconds: NDArray[np.float64]  # (M,), time of the box's frame, from the video's first frame
    corners: NDArray[np.float64]  # (M, 4), x0, y0, x1, y1 in px of the displayed video, half-open, empty for points
    size: NDArray[np.int32]  # (V, 2), width and height in px of each displayed video, 0 for those without a box

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_videos(self) -> int:
        """Number of videos that have a box."""
        return len(np.unique(self.video))

    def size_of(self, video: int) -> Size | None:
        """Width and height of a displayed video in px; None if it has no box."""
        width, height = self.size[video].tolist()
        return (width, height) if width else None

    def by_time(self, video: int) -> dict[float, list[Region]]:
        """Corners of a video's boxes by the time of their frame in seconds, rising."""
        start, stop = np.searchsorted(self.video, [video, video + 1])
        found: dict[float, list[Region]] = {}
        for when, (x0, y0, x1, y1) in zip(
            self.seconds[start:stop].tolist(), self.corners[start:stop].tolist(), strict=True
        ):
            found.setdefault(when, []).append((x0, y0, x1, y1))
        return found

    def equals(self, other: "StoredBoxes | None") -> bool:
        """Whether another table has the same boxes."""
        return other is not None and all(
            np.array_equal(column, getattr(other, name)) for name, column in vars(self).items()
        )


def stored_boxes(boxes: list[tuple[int, float, Region]], sizes: dict[int, Size], num_videos: int) -> StoredBoxes:
    """Build the table of a store's boxes.

    Args:
        boxes: Video, seconds and corners of each box, in any order.
        sizes: Width and height in px of the videos that have boxes.
        num_videos: V.
    """
    boxes = sorted(boxes, key=lambda box: box[:2])
    size = np.zeros((num_videos, 2), np.int32)
    for video, shape in sizes.items():
        size[video] = shape
    return StoredBoxes(
        np.array([video for video, _, _ in boxes], np.int32),
        np.array([when for _, when, _ in boxes], np.float64),
        np.array([corners for _, _, corners in boxes], np.float64).reshape(-1, 4),
        size,
    )


def read_stored_boxes(file: CheckedFile, num_videos: int) -> StoredBoxes | None:
    """Read the boxes of an untrusted store; None if it has none, as with stores of earlier versions.

    Raises:
        ValueError: The columns are malformed or do not fit V videos.
    """
    if GROUP not in file.names():
        return None
    columns: dict[str, NDArray[Any]] = {
        name: file.read(f"{GROUP}/{name}", kind, ndim) for name, (kind, ndim) in _KINDS.items()
    }
    boxes = StoredBoxes(**columns)
    M = len(boxes.video)
    if len(boxes.seconds) != M or boxes.corners.shape != (M, 4) or boxes.size.shape != (num_videos, 2):
        raise ValueError("columns of boxes that do not agree")
    if (boxes.video < 0).any() or (boxes.video >= num_videos).any():
        raise ValueError("boxes without a video")
    if not ((boxes.seconds >= 0) & (boxes.seconds <= MOST_SECONDS)).all():
        raise ValueError("boxes at times that are no times")
    if (np.diff(boxes.video) < 0).any() or ((np.diff(boxes.video) == 0) & (np.diff(boxes.seconds) < 0)).any():
        raise ValueError("boxes out of order")
    _check_places(boxes)
    return boxes


def _check_places(boxes: StoredBoxes) -> None:
    known = boxes.size > 0
    possible = ((boxes.size >= 0) & (boxes.size <= _MOST_PX)).all() and (known[:, 0] == known[:, 1]).all()
    if not (possible and known[boxes.video].all()):
        raise ValueError("boxes in videos of no size")
    low, high, size = boxes.corners[:, :2], boxes.corners[:, 2:], boxes.size[boxes.video]
    if not ((np.abs(boxes.corners) <= _MOST_PX).all() and (low <= high).all()):
        raise ValueError("boxes that are no boxes")
    if not ((low < size) & (high >= 0)).all():
        raise ValueError("boxes outside of their videos")
