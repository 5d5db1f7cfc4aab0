"""Raw frames with a time each, as a Matroska stream: what a pipe into ffmpeg needs for frames at times of their own."""

import numpy as np
from numpy.typing import NDArray

_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7  # of a segment that is still being written
_FIRST_TRACK = b"\x81\0\0\0"  # its number, no offset to the cluster's time, no flags


def stream_header(width: int, height: int, tick_seconds: float) -> bytes:
    """The head of a stream of RGB frames.

    Args:
        width: In px.
        height: In px.
        tick_seconds: Unit of the frames' times, at least a nanosecond.
    """
    video = _element("B0", _uint(width)) + _element("BA", _uint(height)) + _element("2EB524", b"RGB\x18")
    kind = _element("83", _uint(1)) + _element("86", b"V_UNCOMPRESSED") + _element("E0", video)
    track = _element("AE", _element("D7", _uint(1)) + _element("73C5", _uint(1)) + kind)
    info = _element("2AD7B1", _uint(round(tick_seconds * 1e9)))
    return b"".join(
        (
            _element("1A45DFA3", _element("4282", b"matroska")),
            bytes.fromhex("18538067") + _UNKNOWN_SIZE,
            _element("1549A966", info),
            _element("1654AE6B", track),
        )
    )


def stream_frame(frame: NDArray[np.uint8], tick: int, num_ticks: int) -> bytes:
    """One frame of the stream.

    Args:
        frame: RGB, shape (H, W, 3).
        tick: When it is shown, from 0.
        num_ticks: For how long.
    """
    block = _element("A1", _FIRST_TRACK + frame.tobytes()) + _element("9B", _uint(num_ticks))
    return _element("1F43B675", _element("E7", _uint(tick)) + _element("A0", block))


def _element(identity: str, content: bytes) -> bytes:
    return bytes.fromhex(identity) + b"\x01" + len(content).to_bytes(7, "big") + content


def _uint(number: int) -> bytes:
    return number.to_bytes(8, "big")
