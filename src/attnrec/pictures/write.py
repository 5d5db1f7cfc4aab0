"""Pictures onto disk: what a name's suffix stands for, checked before any work and written atomically.

Legend: S drawn samples, K grid side, C classes.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np

from attnrec.drawing.notebook import media_html
from attnrec.drawing.text import printable
from attnrec.errors import ConfigError
from attnrec.files import atomic_path, require_free
from attnrec.pictures.card import cards
from attnrec.pictures.look import Look, shown_frames
from attnrec.pictures.page import PAGE_STYLES, clip_page
from attnrec.pictures.strip import png_bytes, strip, strip_row
from attnrec.runtime import OnProgress
from attnrec.settings import PictureConfig
from attnrec.video.encode import write_timed_video

_KINDS = {".gif": "image/gif", ".mp4": "video/mp4", ".png": "image/png"}
MAX_PAGE_STEPS = 3600  # two minutes at 30 a second: a page holds every frame, and so does the browser


def require_outputs(out: Path | None, raw: Path | None, config: PictureConfig, *, overwrite: bool) -> None:
    """Check the names of what is to be written before any work is done.

    Raises:
        ConfigError: A suffix is unknown or draws no such style, or there is nothing to write.
        AttnrecError: A file is there already and may not be replaced.
    """
    if out is None and raw is None:
        raise ConfigError("nothing to write: name a picture by --out or a file of numbers by --raw")
    if out is not None and out.suffix.lower() not in WRITERS:
        *others, last = WRITERS
        raise ConfigError(
            f"{out}: cannot draw {out.suffix or 'a file without suffix'}; use {', '.join(others)} or {last}"
        )
    if out is not None and out.suffix.lower() == ".html" and config.style not in PAGE_STYLES:
        raise ConfigError(f"--style {config.style}: a page has {' and '.join(PAGE_STYLES)}; choose one, or write .mp4")
    if raw is not None and raw.suffix != ".npz":
        raise ConfigError(f"{raw}: the numbers go into a file that ends in .npz")
    for path in (out, raw):
        if path is not None:
            require_free(path, overwrite=overwrite)


def require_strip(out: Path, *, overwrite: bool) -> None:
    """Check the name of a still picture of several runs or clips before any work is done.

    Raises:
        ConfigError: It does not end in `.png`.
        AttnrecError: It is there already and may not be replaced.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out}: several runs or clips in one picture make a still one; use .png")
    require_free(out, overwrite=overwrite)


def _write_moving(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    frames = shown_frames(look, config.width, on_progress=on_progress)
    return write_timed_video(out, cards(look, frames, config), look.times, look.end, overwrite=overwrite)


def _write_strip(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    row = strip_row(look, config, on_progress=on_progress)
    write_picture(out, png_bytes(strip([row], config)), overwrite=overwrite)
    return len(row.steps)


def _write_page(look: Look, out: Path, config: PictureConfig, overwrite: bool, on_progress: OnProgress) -> int:
    if len(look) > MAX_PAGE_STEPS:
        raise ConfigError(
            f"{look.clip}: {len(look)} steps are too many for a page, which takes {MAX_PAGE_STEPS}; "
            "choose a part by --start and --duration, or write .mp4"
        )
    # As wide as the two pictures of a moving one.
    frames = shown_frames(look, 2 * config.width, on_progress=on_progress)
    write_picture(out, clip_page(look, frames, config).encode("utf-8"), overwrite=overwrite)
    return len(look)


# A picture's suffix: what writes it. Each gives back the number of frames that it drew.
WRITERS: dict[str, Callable[[Look, Path, PictureConfig, bool, OnProgress], int]] = {
    ".gif": _write_moving,
    ".mp4": _write_moving,
    ".png": _write_strip,
    ".html": _write_page,
}


def file_html(path: str, words: str) -> str:
    """What a notebook shows of a picture's file: the picture itself, and a page in a frame.

    Args:
        path: A file of a suffix of `WRITERS`.
        words: Its text alternative.
    """
    file = Path(path)
    if file.suffix.lower() == ".html":
        page = escape(file.read_text(encoding="utf-8"))
        title = escape(printable(words))
        look = 'sandbox="allow-scripts" style="width:100%;height:40em;border:0"'
        return f'<iframe srcdoc="{page}" title="{title}" {look}></iframe>'
    return media_html(file.read_bytes(), _KINDS[file.suffix.lower()], words)


def write_picture(path: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a picture's file atomically.

    Raises:
        AttnrecError: The file is there already or cannot be written.
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def write_raw(path: Path, look: Look, *, overwrite: bool) -> None:
    """Write the numbers of a picture as a NumPy archive.

    It holds `attention` (S, K, K), `times` (S,) in seconds, `frame_probs` (S, C), `video_probs` (C,) as `predict`
    gives them, `classes` (C,), `entropy` (S,), `region` (4,) as shares of width and height, `clip` and `run`, and of
    hard attention `looked_at` (S, K, K), whether it looked at each cell.

    Raises:
        AttnrecError: The file is there already or cannot be written.
    """
    names = ["attention", "times", "frame_probs", "classes", "entropy", "region", "clip", "run"]
    names += ["looked_at"] if look.looked_at is not None else []
    arrays = {name: np.array(getattr(look, name)) for name in names}
    arrays["video_probs"] = np.array([look.prediction.probs[name] for name in look.classes])
    with atomic_path(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
