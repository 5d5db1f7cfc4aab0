"""`visualize`: pictures of where a run looks, as moving pictures, strips for print, and pages to step through.

Legend: S drawn samples, K grid side, C classes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnrec.errors import ConfigError, DataError, VideoError
from attnrec.evaluation.predict import Recognizer
from attnrec.pictures.boxes import BoxSource, box_source
from attnrec.pictures.look import look_at, note_unboxed, reason_of
from attnrec.pictures.strip import png_bytes, strip, strip_row
from attnrec.pictures.write import WRITERS, file_html, require_outputs, require_strip, write_picture, write_raw
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig
from attnrec.training.run import Run, RunLike, as_run


@dataclass(frozen=True)
class VisualizeReport:
    """Report of a clip's picture."""

    clip: str
    out: str | None  # path of the picture; None if only numbers were written
    raw: str | None  # path of the numbers; None if they were not asked for
    run: str  # folder of the run
    predicted: str  # most probable class of the clip
    probability: float  # probability of that class
    status: str  # `ok`, or what is wrong with the video
    truth: str | None  # true class by the clip's name or folder; None if unknown
    style: str
    scale: str
    full: tuple[float, float]  # least and most attention at full strength, in multiples of uniform attention
    num_frames: int  # number of frames drawn
    fps: float  # mean number of drawn frames per second
    attention_entropy: float  # mean over the drawn steps, 1 for uniform attention
    num_boxed: int | None  # number of drawn steps with a box; None without a source of boxes
    seconds: float  # time taken

    def _repr_html_(self) -> str | None:
        return None if self.out is None else file_html(self.out, f"{self.clip}, and where the model looks")


@dataclass(frozen=True)
class VisualizeSummary:
    """Pictures of several clips, and the path and reason of each clip that could not be drawn."""

    run: str
    pictures: list[VisualizeReport]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class VersusRow:
    """One run in a picture of several runs."""

    run: str  # folder of the run
    label: str  # label that tells it from the other runs
    predicted: str  # most probable class of the clip
    probability: float  # probability of that class
    attention_entropy: float  # mean over the clip, 1 for uniform attention


@dataclass(frozen=True)
class VersusReport:
    """Report of a picture of a clip by several runs."""

    clip: str
    out: str
    truth: str | None  # true class by the clip's name or folder; None if unknown
    status: str  # `ok`, or what is wrong with the video
    times: list[float]  # times of the steps in seconds
    rows: list[VersusRow]  # rows of the picture, from the top
    seconds: float  # time taken

    def _repr_html_(self) -> str:
        return file_html(self.out, f"{self.clip}, and where {len(self.rows)} models look")


def visualize(
    recognizer: Recognizer | RunLike,
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
        recognizer: A run with attention, loaded, itself, or its folder.
        clip: A video.
        out: Path of the picture, with a suffix of `WRITERS`; None for `raw` alone.
        config: Style, scale, size and part of the clip.
        raw: Path of a `.npz` file for the numbers, see `write_raw`.
        boxes: A file of boxes or points to draw as well, see `features.boxes.read_boxes`; None takes those in the run's
            feature store, if there is one with a video of the clip's content.
        overwrite: Replace existing files.
        on_progress: Called for every frame.

    Raises:
        ConfigError: A suffix is unknown, the picture would replace the clip, or the clip ends before the part to draw.
        RunError: The run has no attention.
        VideoError: The clip cannot be decoded.
        DataError: The boxes cannot be used.
        AttnrecError: A file exists already or cannot be written.
    """
    config = config or PictureConfig()
    recognizer = recognizer if isinstance(recognizer, Recognizer) else Recognizer(recognizer)
    out, raw = (None if path is None else Path(path) for path in (out, raw))
    source = box_source(boxes, recognizer.run, config)
    return _draw(recognizer, Path(clip), out, config, source, raw=raw, overwrite=overwrite, on_progress=on_progress)


def _draw(
    recognizer: Recognizer,
    clip: Path,
    out: Path | None,
    config: PictureConfig,
    source: BoxSource | None,
    *,
    raw: Path | None = None,
    overwrite: bool,
    on_progress: OnProgress,
) -> VisualizeReport:
    started = time.monotonic()
    require_outputs(out, raw, config, overwrite=overwrite)
    if out is not None and _is_same(out, clip):
        raise ConfigError(f"{out}: would replace the clip itself; name another picture by --out")
    on_progress(Progress("look", 0, 1, clip.name))
    look = look_at(recognizer, clip, config, boxes=source)
    on_progress(Progress("look", 1, 1, clip.name))
    note_unboxed([look], source, on_progress)
    num_drawn = WRITERS[out.suffix.lower()](look, out, config, overwrite, on_progress) if out else len(look)
    if raw:
        write_raw(raw, look, overwrite=overwrite)
    full = look.full(config.style, config.scale) * look.attention[0].size
    return VisualizeReport(
        clip=str(clip),
        out=str(out) if out else None,
        raw=str(raw) if raw else None,
        run=look.run,
        predicted=look.prediction.predicted,
        probability=look.prediction.probability,
        status=look.prediction.status,
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
        folder: Folder for the pictures, which are named after the clips, with a number if a name is taken.
        suffix: Suffix of the pictures.
        config: Style, scale, size and part of the clips.
        boxes: A file of boxes or points to draw, as in `visualize`.
        overwrite: Replace existing files.
        on_progress: Called for every clip and frame.

    Raises:
        AttnrecError: As in `visualize`, except for errors of single clips.
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
            report = _draw(recognizer, clip, out, config, source, overwrite=overwrite, on_progress=on_progress)
            pictures.append(report)
        except (VideoError, ConfigError, DataError) as error:
            skipped.append((str(clip), reason_of(error)))
            on_progress(Progress("clips", message=f"skipped {error}"))
    on_progress(Progress("clips", len(clips), len(clips)))
    return VisualizeSummary(str(recognizer.run.path), pictures, skipped)


def _names(clips: Sequence[Path], folder: Path, suffix: str) -> list[Path]:
    """A distinct path of a picture for each clip, in the clips' order."""
    taken: set[str] = set()
    names = []
    for clip in clips:
        name, number = clip.stem, 2
        while name.casefold() in taken:
            name, number = f"{clip.stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(folder / (name + suffix))
    return names


def _is_same(out: Path, clip: Path) -> bool:
    try:
        return out.samefile(clip)
    except (OSError, ValueError):  # one of them is not there, or cannot be
        return False


def versus(
    runs: Sequence[RunLike],
    clip: str | Path,
    out: str | Path,
    config: PictureConfig | None = None,
    *,
    boxes: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    samples: int = 0,
    on_progress: OnProgress = no_progress,
) -> VersusReport:
    """Draw the same steps of a clip by several runs: what the penalty or the rate changes (Figs. 6 and 7).

    The steps are equally spaced samples of the run that sees the fewest; other runs show their samples nearest in time.

    Args:
        runs: Two or more runs with attention, themselves, their folders, or reports of them.
        clip: A video.
        out: Path of the picture, which ends in `.png`.
        config: Style, scale, size, steps and part of the clip.
        boxes: A file of boxes or points, as in `visualize`; None takes those in each run's own store.
        overwrite: Replace an existing file.
        device: Device to run on, see `runtime.resolve_device`.
        jobs: CPU threads.
        samples: Number of passes in which hard attention draws, see `Recognizer`.
        on_progress: Called for every run.

    Raises:
        ConfigError: There are fewer than two runs, or `out` has another suffix.
        AttnrecError: As in `visualize`.
    """
    started, opened = time.monotonic(), list(map(as_run, runs))
    config, clip, out = config or PictureConfig(), Path(clip), Path(out)
    if len({run.path.absolute() for run in opened}) < 2:
        raise ConfigError("--versus compares two runs or more; name them by --versus RUN,RUN")
    require_strip(out, overwrite=overwrite)
    sources = [box_source(boxes, run, config) for run in opened]
    looks = []
    for done, (run, label, source) in enumerate(zip(opened, run_labels(opened), sources, strict=True)):
        on_progress(Progress("look", done, len(runs), label))
        recognizer = Recognizer(run, device=device, jobs=jobs, samples=samples)
        looks.append(look_at(recognizer, clip, config, label=label, boxes=source))
    on_progress(Progress("look", len(runs), len(runs)))
    note_unboxed(looks, sources[0], on_progress)
    coarsest = min(looks, key=len)
    times = coarsest.times[coarsest.equal_steps(config.strip)]
    picture = strip([strip_row(look, config, look.nearest_steps(times)) for look in looks], config)
    write_picture(out, png_bytes(picture), overwrite=overwrite)
    return VersusReport(
        clip=str(clip),
        out=str(out),
        truth=looks[0].truth,
        status=looks[0].prediction.status,
        times=times.tolist(),
        rows=[
            VersusRow(
                run=look.run,
                label=look.label,
                predicted=look.prediction.predicted,
                probability=look.prediction.probability,
                attention_entropy=float(look.entropy.mean()),
            )
            for look in looks
        ],
        seconds=time.monotonic() - started,
    )


def run_labels(runs: Sequence[Run]) -> list[str]:
    """Short labels that tell runs apart by their settings, or else the runs' names."""
    trainings = [run.manifest.training for run in runs]
    settings = [
        (
            f"{training.attention} attention",
            f"{training.glimpse} glimpse",
            f"lambda {training.attention_penalty:g}",
            f"{training.fps:g} fps",
            f"preset {training.preset}",
            f"split {training.split}",
            f"seed {training.seed}",
        )
        for training in trainings
    ]
    differing = [values for values in zip(*settings, strict=True) if len(set(values)) > 1]
    labels = [", ".join(values[row] for values in differing) for row in range(len(runs))]
    return labels if len(set(labels)) == len(labels) else [run.name for run in runs]
