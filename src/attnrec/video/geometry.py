"""From pixels of a video to what the network sees of it."""

from attnrec.settings import Resize

Region = tuple[float, float, float, float]


def seen_region(width: float, height: float, resize: Resize) -> Region:
    """Part of a frame that the network sees, x0, y0, x1, y1 in px, half-open.

    Args:
        width: Of the frame, in px.
        height: Of the frame, in px.
        resize: How frames are brought to the network's square.
    """
    if resize == "stretch":
        return 0, 0, width, height
    side = min(width, height)
    x0, y0 = (width - side) / 2, (height - side) / 2
    return x0, y0, x0 + side, y0 + side
