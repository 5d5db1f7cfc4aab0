"""Clips that a run recognises and clips that it does not, with where it looked, for pages."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attnrec.drawing.document import data_uri, still_of
from attnrec.errors import AttnrecError
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.report import is_right, labels_of
from attnrec.pictures.boxes import BoxSource, box_source
from attnrec.pictures.gallery import examples
from attnrec.pictures.look import Look, look_at, reason_of
from attnrec.pictures.write import WRITERS
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig
from attnrec.training.run import Run

EXAMPLES = 3  # clips of each kind, right and wrong
PICTURES = PictureConfig(width=160, duration=4.0)
PICTURES_FPS = 8.0  # at the clips' own rates the page would be several times as large


@dataclass(frozen=True)
class PageSources:
    """Where a page finds what the figures of runs lack."""

    store: Path | None = None  # feature store, as in `evaluate`
    videos: Path | None = None  # folder of the videos; None takes the one that they were extracted from
    device: str = "auto"  # see `runtime.resolve_device`
    jobs: int | None = None  # CPU threads


@dataclass(frozen=True)
class ExampleClip:
    """A clip with its prediction, and the GIF of where the model looked."""

    video: Mapping[str, Any]  # the video's entry in the evaluation
    is_right: bool
    gif: bytes

    @cached_property
    def moving(self) -> str:
        """The GIF as a data URI."""
        return data_uri(self.gif, "image/gif")

    @cached_property
    def still(self) -> str:
        """Its middle frame as a data URI."""
        return still_of(self.gif)


def example_clips(
    run: Run,
    videos: Sequence[dict[str, Any]],
    sources: PageSources,
    on_progress: OnProgress = no_progress,
    most: int = EXAMPLES,
) -> tuple[list[ExampleClip], list[str]]:
    """Draw the surest clips that a run recognises and that it does not, one of each class in turn.

    Args:
        run: A run with attention.
        videos: The videos of its evaluation.
        sources: Where the clips are.
        on_progress: Called for every clip.
        most: Most clips of each kind.

    Returns:
        The clips, and notes on what could not be shown.
    """
    classes = run.manifest.classes
    chosen = [
        video
        for right in (True, False)
        for video in examples([each for each in videos if is_right(each, classes) is right], most)
    ]
    folder = sources.videos or Path(run.manifest.store["videos_dir"])
    if not folder.is_dir():
        return [], [f"No clips to see: {folder} is not there; name the folder of the videos by --videos."]
    clips, lacking = [], []
    try:
        recognizer = Recognizer(run, device=sources.device, jobs=sources.jobs)
    except AttnrecError as error:
        return [], [f"No clips to see: {error}"]
    boxes = box_source(None, run, PICTURES, sources.store)
    for done, video in enumerate(chosen):
        on_progress(Progress("gallery", done, len(chosen), video["path"]))
        try:
            gif = _gif(recognizer, folder / video["path"], labels_of(video, classes), boxes)
        except AttnrecError as error:
            lacking.append(f"{video['path']} is not shown: {reason_of(error)}")
            continue
        clips.append(ExampleClip(video, is_right(video, classes), gif))
    on_progress(Progress("gallery", len(chosen), len(chosen)))
    return clips, lacking


def _gif(recognizer: Recognizer, clip: Path, truth: Sequence[str], boxes: BoxSource | None) -> bytes:
    look = _thinned(look_at(recognizer, clip, PICTURES, truth=truth, boxes=boxes))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "clip.gif"
        WRITERS[".gif"](look, out, PICTURES, False, no_progress)
        return out.read_bytes()


def _thinned(look: Look) -> Look:
    """Thin a look to every n-th sample, so that at most `PICTURES_FPS` per second are left."""
    step = math.ceil(len(look) / (look.end - look.times[0]) / PICTURES_FPS - 1e-6)
    return look.every(step)
