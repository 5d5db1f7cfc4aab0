"""Looks to files: one function for each kind of picture, and the numbers themselves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError
from attnrec.evaluation.predict import AttendedClip
from attnrec.files import atomic_path
from attnrec.pictures.card import cards
from attnrec.pictures.look import Look
from attnrec.pictures.looking import equal_steps, shown_frames
from attnrec.pictures.page import clip_page
from attnrec.pictures.strip import StripRow, png_bytes, strip
from attnrec.runtime import OnProgress, Progress
from attnrec.settings import PictureConfig
from attnrec.video.encode import write_timed_video

Item = TypeVar("Item")

MAX_PAGE_STEPS = 3600  # two minutes at 30 a second: a page holds every frame, and so does the browser


def write_raw(path: Path, look: Look, attended: AttendedClip, *, overwrite: bool) -> None:
    """Write the numbers of a picture as a NumPy archive.

    It holds `attention` (S, K, K), `times` (S,) in seconds, `frame_probs` (S, C), `video_probs` (C,) as `predict`
    gives them, `classes` (C,), `entropy` (S,), `region` (4,) as shares of width and height, and `clip` and `run`.

    Raises:
        AttnrecError: The file is there already or cannot be written.
    """
    arrays = {
        "attention": look.attention,
        "times": look.times,
        "frame_probs": look.frame_probs,
        "video_probs": np.array([attended.prediction.probs[name] for name in look.classes]),
        "classes": np.array(look.classes),
        "entropy": look.entropy,
        "region": np.array(look.region),
        "clip": np.array(look.clip),
        "run": np.array(look.run),
    }
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _write_moving(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    frames = _told(shown_frames(look, config.width), len(look), on_progress)
    return write_timed_video(out, cards(look, frames, config), look.times, look.end, overwrite=overwrite)


def _write_strip(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    row = strip_row(look, equal_steps(look, config.strip), config, on_progress)
    write_picture(out, png_bytes(strip([row], config)), overwrite=overwrite)
    return len(row.steps)


def _write_page(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    if len(look) > MAX_PAGE_STEPS:
        raise ConfigError(
            f"{look.clip}: {len(look)} steps are too many for a page, which takes {MAX_PAGE_STEPS}; "
            "choose a part by --start and --duration, or write .mp4"
        )
    # As wide as the two pictures of a moving one.
    frames = _told(shown_frames(look, 2 * config.width), len(look), on_progress)
    write_picture(out, clip_page(look, frames, config).encode("utf-8"), overwrite=overwrite)
    return len(look)


def strip_row(look: Look, steps: NDArray[np.int64], config: PictureConfig, on_progress: OnProgress) -> StripRow:
    """Decode the frames of a look's steps."""
    return StripRow(look, steps, list(_told(shown_frames(look, config.width, steps), len(steps), on_progress)))


def write_picture(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a picture's file atomically.

    Raises:
        AttnrecError: The file is there already or cannot be written.
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def _told(items: Iterator[Item], total: int, on_progress: OnProgress) -> Iterator[Item]:
    for done, item in enumerate(items, start=1):
        on_progress(Progress("draw", done, total))
        yield item


# A picture's suffix: what writes it. Each gives back the number of frames that it drew.
WRITERS: dict[str, Callable[[Look, Path, PictureConfig, bool, OnProgress], int]] = {
    ".gif": _write_moving,
    ".mp4": _write_moving,
    ".png": _write_strip,
    ".html": _write_page,
}
