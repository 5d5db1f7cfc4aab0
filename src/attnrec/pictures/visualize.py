"""Clips to pictures of where a run looks, at the clips' own speed or as strips for print."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnrec.errors import ConfigError, DataError, VideoError
from attnrec.evaluation.predict import Recognizer
from attnrec.files import require_free
from attnrec.pictures.looking import look_at, reason_of
from attnrec.pictures.page import STYLES as PAGE_STYLES
from attnrec.pictures.shown_boxes import BoxSource, box_source, note_unboxed
from attnrec.pictures.writers import WRITERS, write_raw
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig


@dataclass(frozen=True)
class VisualizeReport:
    """What was drawn.

    Attributes:
        clip: Path of the clip.
        out: The picture; None where only the numbers were written.
        raw: File of the numbers, if they were asked for.
        run: Folder of the run.
        predicted: Most probable class of the clip.
        probability: Of that class.
        status: `ok`, or what is wrong with the video.
        truth: True class by the clip's name or folder; None where it is not known.
        style: How attention is drawn.
        scale: What is drawn at full strength.
        full: Least and most attention at full strength, in multiples of uniform attention.
        num_frames: Drawn.
        fps: Drawn frames a second, on the mean.
        attention_entropy: Mean over the drawn steps, 1 for uniform attention.
        num_boxed: Steps of the drawn part that have a box; None where there are none to draw from.
        seconds: Taken.
    """

    clip: str
    out: str | None
    raw: str | None
    run: str
    predicted: str
    probability: float
    status: str
    truth: str | None
    style: str
    scale: str
    full: tuple[float, float]
    num_frames: int
    fps: float
    attention_entropy: float
    num_boxed: int | None
    seconds: float


@dataclass(frozen=True)
class VisualizeSummary:
    """Pictures of several clips, and the path and reason of each clip that could not be drawn."""

    run: str
    pictures: list[VisualizeReport]
    skipped: list[tuple[str, str]]


def visualize(
    recognizer: Recognizer,
    clip: str | Path,
    out: str | Path | None,
    config: PictureConfig | None = None,
    *,
    raw: str | Path | None = None,
    boxes: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> VisualizeReport:
    """Draw a clip with the run's attention over it.

    Args:
        recognizer: A run with attention.
        clip: A video.
        out: The picture; its suffix is one of `WRITERS`. None draws none.
        config: Style, scale, size and part of the clip.
        raw: A `.npz` file for the numbers, see `write_raw`.
        boxes: A file of boxes or points to draw as well, see `features.boxes.read_boxes`; None takes those in the run's
            feature store, if that is there and holds a video of the clip's content.
        overwrite: Replace files that are there.
        on_progress: Told of every frame.

    Returns:
        What was drawn.

    Raises:
        ConfigError: A suffix is unknown, the picture would replace the clip, or that has ended before the part to draw.
        RunError: The run has no attention.
        VideoError: The clip cannot be decoded.
        DataError: The boxes cannot be used.
        AttnrecError: A file is there already or cannot be written.
    """
    out = Path(out) if out is not None else None
    raw = Path(raw) if raw is not None else None
    config = config or PictureConfig()
    source = box_source(boxes, recognizer.run, config)
    return _draw(recognizer, Path(clip), out, config, raw, source, overwrite, on_progress)


def _draw(
    recognizer: Recognizer,
    clip: Path,
    out: Path | None,
    config: PictureConfig,
    raw: Path | None,
    source: BoxSource | None,
    overwrite: bool,
    on_progress: OnProgress,
) -> VisualizeReport:
    started = time.monotonic()
    require_outputs(out, raw, config, overwrite=overwrite)
    if out is not None and _is_same(out, clip):
        raise ConfigError(f"{out}: would replace the clip itself; name another picture by --out")
    on_progress(Progress("look", 0, 1, clip.name))
    look, attended = look_at(recognizer, clip, config, boxes=source)
    note_unboxed([look], source, on_progress)
    num_drawn = WRITERS[out.suffix.lower()](look, out, config, overwrite, on_progress) if out else len(look)
    if raw:
        write_raw(raw, look, attended, overwrite=overwrite)
    full = look.full(config.style, config.scale) * look.attention[0].size
    return VisualizeReport(
        clip=str(clip),
        out=str(out) if out else None,
        raw=str(raw) if raw else None,
        run=look.run,
        predicted=attended.prediction.predicted,
        probability=attended.prediction.probability,
        status=attended.prediction.status,
        truth=look.truth,
        style=config.style,
        scale=config.scale,
        full=(float(full.min()), float(full.max())),
        num_frames=num_drawn,
        fps=num_drawn / (look.end - float(look.times[0])),
        attention_entropy=float(look.entropy.mean()),
        num_boxed=None if source is None else len(look.boxes),
        seconds=time.monotonic() - started,
    )


def visualize_all(
    recognizer: Recognizer,
    clips: Sequence[Path],
    folder: Path,
    suffix: str = ".gif",
    config: PictureConfig | None = None,
    *,
    boxes: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> VisualizeSummary:
    """Draw several clips into a folder; those that cannot be drawn are listed.

    Args:
        recognizer: A run with attention.
        clips: Videos.
        folder: Where the pictures go, under the clips' names; a number is added where two have one name.
        suffix: Of the pictures.
        config: As in `visualize`.
        boxes: Likewise.
        overwrite: Replace files that are there.
        on_progress: Told of every clip and frame.

    Returns:
        What was drawn.

    Raises:
        ConfigError: The suffix is unknown.
        RunError: The run has no attention.
        DataError: The boxes cannot be used.
        AttnrecError: A file is there already or cannot be written.
    """
    config = config or PictureConfig()
    source = box_source(boxes, recognizer.run, config)
    outs = _names(clips, folder, suffix)
    for out in outs:
        require_outputs(out, None, config, overwrite=overwrite)
    pictures, skipped = [], []
    for done, (clip, out) in enumerate(zip(clips, outs, strict=True)):
        on_progress(Progress("clips", done, len(clips), clip.name))
        try:
            pictures.append(_draw(recognizer, clip, out, config, None, source, overwrite, on_progress))
        except (VideoError, ConfigError, DataError) as error:
            skipped.append((str(clip), reason_of(error)))
            on_progress(Progress("clips", message=f"skipped {error}"))
    on_progress(Progress("clips", len(clips), len(clips)))
    return VisualizeSummary(str(recognizer.run.path), pictures, skipped)


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


def _is_same(out: Path, clip: Path) -> bool:
    try:
        return out.samefile(clip)
    except (OSError, ValueError):  # one of them is not there, or cannot be
        return False


def _names(clips: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    """A picture's path for each clip, no two alike, in the clips' order."""
    taken: set[str] = set()
    names = []
    for clip in clips:
        name, number = clip.stem, 2
        while name.casefold() in taken:
            name, number = f"{clip.stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(folder / (name + suffix))
    return names
