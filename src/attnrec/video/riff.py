"""The chunks of an AVI file, as far as they tell whether its end is missing: ffmpeg takes what is there for all."""

import os
from pathlib import Path
from typing import BinaryIO

from attnrec.files import opened_regular

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of what the writer could not go back to set
_SLACK_BYTES = 16  # by which writers are off
_MOST_CHUNKS = 10_000


def is_cut_avi(path: Path) -> bool:
    """Whether the header or the frames of an AVI file end behind the end of the file; not so of other files."""
    try:
        with opened_regular(path) as file:
            return _frames_end(file) > os.fstat(file.fileno()).st_size + _SLACK_BYTES
    except OSError:  # went away, or was replaced meanwhile
        return False


def _frames_end(file: BinaryIO) -> int:
    """Where the last list of frames, or the header, ends by its own account; 0 where it is not said."""
    end = place = 0
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(12)
        kind, size, content = head[:4], int.from_bytes(head[4:8], "little"), head[8:]
        if kind == b"RIFF" and content in (b"AVI ", b"AVIX"):
            place += 12  # its chunks lie inside; another such part may follow them
            continue
        if (not end and not place) or len(head) < 8:
            break
        if kind == b"LIST" and content in (b"hdrl", b"movi"):
            if size in _UNKNOWN_SIZES:
                return 0
            end = place + 8 + size
        place += 8 + size + size % 2
    return end
