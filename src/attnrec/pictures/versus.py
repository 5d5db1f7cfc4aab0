"""One clip by several runs, below one another: what the penalty or the rate changes (Figs. 6 and 7)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import ConfigError
from attnrec.evaluation.predict import Recognizer
from attnrec.files import require_free
from attnrec.pictures.look import Look
from attnrec.pictures.looking import equal_steps, look_at
from attnrec.pictures.shown_boxes import box_source, note_unboxed
from attnrec.pictures.strip import png_bytes, strip
from attnrec.pictures.writers import strip_row, write_picture
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig
from attnrec.training.run import Run


@dataclass(frozen=True)
class VersusRow:
    """One run of a picture.

    Attributes:
        run: Its folder.
        label: What tells it from the others.
        predicted: Most probable class of the clip.
        probability: Of that class.
        attention_entropy: Mean over the clip, 1 for uniform attention.
    """

    run: str
    label: str
    predicted: str
    probability: float
    attention_entropy: float


@dataclass(frozen=True)
class VersusReport:
    """A clip by several runs.

    Attributes:
        clip: Path of the clip.
        out: The picture.
        truth: True class by the clip's name or folder; None where it is not known.
        status: `ok`, or what is wrong with the video.
        times: Of the steps in seconds.
        rows: Of the picture, from the top.
        seconds: Taken.
    """

    clip: str
    out: str
    truth: str | None
    status: str
    times: list[float]
    rows: list[VersusRow]
    seconds: float


def versus(
    runs: Sequence[Run],
    clip: Path,
    out: Path,
    config: PictureConfig,
    *,
    boxes: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> VersusReport:
    """Draw the same steps of a clip by several runs.

    The steps are equally spaced ones of the run that sees the fewest; the others show the samples nearest in time.

    Args:
        runs: With attention, two or more.
        clip: A video.
        out: Ends in `.png`.
        config: Style, scale, size, steps and part of the clip.
        boxes: As in `visualize`; None takes each run's own.
        overwrite: Replace a file that is there.
        device: See `runtime.resolve_device`.
        jobs: CPU threads.
        on_progress: Told of every run.

    Returns:
        What was drawn.

    Raises:
        ConfigError: There are fewer than two runs, or `out` has another suffix.
        RunError: A run cannot be used or has no attention.
        VideoError: The clip cannot be decoded.
        DataError: The boxes cannot be used.
        AttnrecError: `out` is there already or cannot be written.
    """
    started = time.monotonic()
    if len({run.path.absolute() for run in runs}) < 2:
        raise ConfigError("--versus compares two runs or more; name them by --versus RUN,RUN")
    require_strip(out, overwrite=overwrite)
    sources = [box_source(boxes, run, config) for run in runs]
    looks: list[Look] = []
    found = []
    for done, (run, label, source) in enumerate(zip(runs, run_labels(runs), sources, strict=True)):
        on_progress(Progress("look", done, len(runs), label))
        look, attended = look_at(Recognizer(run, device=device, jobs=jobs), clip, config, label=label, boxes=source)
        looks.append(look)
        found.append(attended.prediction)
    on_progress(Progress("look", len(runs), len(runs)))
    note_unboxed(looks, sources[0], on_progress)
    coarsest = min(looks, key=len)
    times = coarsest.times[equal_steps(coarsest, config.strip)]
    rows = [strip_row(look, nearest_steps(look, times), config, no_progress) for look in looks]
    write_picture(out, png_bytes(strip(rows, config)), overwrite=overwrite)
    return VersusReport(
        clip=str(clip),
        out=str(out),
        truth=looks[0].truth,
        status=found[0].status,
        times=times.tolist(),
        rows=[
            VersusRow(look.run, look.label, prediction.predicted, prediction.probability, float(look.entropy.mean()))
            for look, prediction in zip(looks, found, strict=True)
        ],
        seconds=time.monotonic() - started,
    )


def require_strip(out: Path, *, overwrite: bool) -> None:
    """Check the name of a still picture before any work is done.

    Raises:
        ConfigError: It does not end in `.png`.
        AttnrecError: It is there already and may not be replaced.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out}: several runs or clips in one picture make a still one; use .png")
    require_free(out, overwrite=overwrite)


def run_labels(runs: Sequence[Run]) -> list[str]:
    """What tells each run from the others in a few words, or their names where settings do not."""
    settings = [
        {
            "attention": f"{run.manifest.training.attention} attention",
            "lambda": f"lambda {run.manifest.training.attention_penalty:g}",
            "fps": f"{run.manifest.training.fps:g} fps",
            "preset": f"preset {run.manifest.training.preset}",
            "split": f"split {run.manifest.training.split}",
            "seed": f"seed {run.manifest.training.seed}",
        }
        for run in runs
    ]
    differing = [name for name in settings[0] if len({values[name] for values in settings}) > 1]
    labels = [", ".join(values[name] for name in differing) for values in settings]
    return labels if len(set(labels)) == len(labels) else [run.name for run in runs]


def nearest_steps(look: Look, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the sample nearest to each time."""
    return np.asarray(np.abs(look.times[:, None] - times).argmin(axis=0), np.int64)
