"""Galleries of clips that a run recognises and clips that it does not, with where it looked (Figs. 2 to 5)."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnrec.drawing.light import Picture
from attnrec.errors import ConfigError, DataError, VideoError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.report import is_right, labels_of
from attnrec.pictures.boxes import BoxSource, box_source
from attnrec.pictures.look import look_at, note_unboxed, reason_of
from attnrec.pictures.strip import png_bytes, stacked, strip, strip_row
from attnrec.pictures.write import file_html, require_strip, write_picture
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import PictureConfig
from attnrec.training.run import RunLike


@dataclass(frozen=True)
class GalleryReport:
    """Report of a gallery."""

    run: str  # folder of the run
    part: str  # part of its split
    out: str  # path of the picture
    num_right: int  # videos of the part that the run recognises
    num_wrong: int  # videos of the part that it does not
    right: list[str]  # recognised videos that are shown
    wrong: list[str]  # unrecognised videos that are shown
    skipped: list[tuple[str, str]]  # path and reason of each video that could not be drawn
    seconds: float  # time taken

    def _repr_html_(self) -> str:
        return file_html(self.out, "Clips that were recognised and clips that were not, with where the model looks")


def gallery(
    recognizer: Recognizer | RunLike,
    part: str,
    out: str | Path,
    config: PictureConfig | None = None,
    *,
    num_right: int = 6,
    num_wrong: int = 6,
    videos: Path | None = None,
    store: Path | None = None,
    boxes: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> GalleryReport:
    """Draw strips of clips that a run recognises and of clips that it does not.

    Of each kind the clips with the highest probability are shown, one of each true class in turn. The run is
    evaluated first if it has not been.

    Args:
        recognizer: A run with attention, loaded, itself, its folder, or a report of it.
        part: `test`, `validation` or `train`.
        out: Path of the picture, which ends in `.png`.
        config: Style, scale, size and steps.
        num_right: Most recognised clips to show.
        num_wrong: Most unrecognised clips to show.
        videos: Folder of the videos; None takes the one that they were extracted from.
        store: The feature store, as in `evaluate`.
        boxes: Boxes to draw, as in `visualize`.
        overwrite: Replace an existing file.
        device: Device to evaluate on, as in `evaluate`.
        jobs: CPU threads, as in `evaluate`.
        on_progress: Called for every clip.

    Raises:
        ConfigError: No clip is asked for, or `out` has another suffix.
        DataError: A video is not in the folder, none can be shown, or the boxes cannot be used.
        RunError: The run has no attention, or cannot be evaluated.
        AttnrecError: `out` exists already or cannot be written.
    """
    started, out, config = time.monotonic(), Path(out), config or PictureConfig()
    recognizer = recognizer if isinstance(recognizer, Recognizer) else Recognizer(recognizer)
    require_strip(out, overwrite=overwrite)
    if num_right + num_wrong == 0:
        raise ConfigError("--right 0 --wrong 0: there is nothing to show")
    run = recognizer.run
    source = box_source(boxes, run, config, store)
    figures = run.read_evaluation(part) or asdict(
        evaluate(run, store, part=part, device=device, jobs=jobs, on_progress=on_progress)
    )
    folder = videos or Path(run.manifest.store["videos_dir"])
    right, wrong = ([v for v in figures["videos"] if is_right(v, recognizer.classes) == kind] for kind in (True, False))
    shown, skipped = [], []
    for chosen in (examples(right, num_right), examples(wrong, num_wrong)):
        pictures = {}
        for done, video in enumerate(chosen):
            on_progress(Progress("gallery", done, len(chosen), video["path"]))
            try:
                pictures[video["path"]] = _example(recognizer, folder, video, config, source, on_progress)
            except (VideoError, ConfigError) as error:  # a ConfigError if the clip ends before the part to draw
                skipped.append((video["path"], reason_of(error)))
                on_progress(Progress("gallery", message=f"skipped {error}"))
        shown.append(pictures)
    if not any(shown):
        raise DataError(f"{run.path}: no clip of its {part} part can be shown")
    titles = [
        f"{kind}: {len(pictures)} of {len(all_)} {part} clips, the surest of each class"
        for kind, pictures, all_ in zip(("Right", "Wrong"), shown, (right, wrong), strict=True)
    ]
    picture = stacked(titles, [list(pictures.values()) for pictures in shown])
    write_picture(out, png_bytes(picture), overwrite=overwrite)
    return GalleryReport(
        run=str(run.path),
        part=part,
        out=str(out),
        num_right=len(right),
        num_wrong=len(wrong),
        right=list(shown[0]),
        wrong=list(shown[1]),
        skipped=skipped,
        seconds=time.monotonic() - started,
    )


def examples(videos: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Choose `number` videos, one of each label in turn, those with the highest probability first."""
    by_label: dict[str, list[dict[str, Any]]] = {}
    for video in sorted(videos, key=lambda v: (-v["probability"], v["path"])):
        by_label.setdefault(video["label"], []).append(video)
    ranked = [(rank, label, video) for label, mine in by_label.items() for rank, video in enumerate(mine)]
    return [video for _, _, video in sorted(ranked, key=lambda item: item[:2])[:number]]


def _example(
    recognizer: Recognizer,
    folder: Path,
    video: dict[str, Any],
    config: PictureConfig,
    source: BoxSource | None,
    on_progress: OnProgress,
) -> Picture:
    """Draw the strip of one clip."""
    path = folder / video["path"]
    if not path.exists():
        raise DataError(f"{path}: no such video; name the folder of the run's videos by --videos")
    look = look_at(recognizer, path, config, truth=labels_of(video, recognizer.classes), boxes=source)
    note_unboxed([look], source, on_progress)
    return strip([strip_row(look, config)], config)
