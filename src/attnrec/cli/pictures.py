"""What `attnrec visualize` can draw, and how it says what it drew."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from attnrec.cli.output import Output, counted, percent, say
from attnrec.errors import ConfigError
from attnrec.settings import PictureConfig

if TYPE_CHECKING:
    from attnrec.evaluation.predict import Recognizer
    from attnrec.pictures.gallery import GalleryReport
    from attnrec.pictures.versus import VersusReport
    from attnrec.pictures.visualize import VisualizeReport
    from attnrec.training.run import Run


class Work(NamedTuple):
    """What all pictures share: where things are said, which run looks, on what machine, whether to overwrite, boxes."""

    output: Output
    run: Path | None
    runs: Path
    device: str
    jobs: int | None
    force: bool
    boxes: Path | None

    def chosen_run(self) -> "Run":
        """The named run, or the newest with attention, which is said."""
        from attnrec.training.run import Run, newest_run

        if self.run is not None:
            return Run(self.run)
        chosen = newest_run(self.runs, with_attention=True, on_progress=self.output.progress)
        self.output.note(f"run {chosen.path}")
        return chosen

    def recognizer(self) -> "Recognizer":
        """That run, ready to look."""
        from attnrec.evaluation.predict import Recognizer

        return Recognizer(self.chosen_run(), device=self.device, jobs=self.jobs)


def draw_clip(work: Work, clip: Path, out: Path | None, raw: Path | None, config: PictureConfig) -> None:
    """One clip to one file."""
    from attnrec.pictures import visualize as workflow

    if out is None and raw is None:
        out = Path(clip.stem + ".gif")
    workflow.require_outputs(out, raw, config, overwrite=work.force)
    report = workflow.visualize(
        work.recognizer(),
        clip,
        out,
        config,
        raw=raw,
        boxes=work.boxes,
        overwrite=work.force,
        on_progress=work.output.progress,
    )
    work.output.result(report, lambda: _show_clip(report))
    _warn_of(report, work.output)


def draw_clips(work: Work, clips: Sequence[Path], folder: Path, suffix: str, config: PictureConfig) -> None:
    """Several clips into a folder; exit code 1 if some were skipped."""
    from attnrec.evaluation.predict import clips_of
    from attnrec.pictures import visualize as workflow

    if folder.suffix and not folder.is_dir():
        raise ConfigError(f"{folder}: several clips go into a folder; name one by --out")
    summary = workflow.visualize_all(
        work.recognizer(),
        clips_of(clips),
        folder,
        suffix,
        config,
        boxes=work.boxes,
        overwrite=work.force,
        on_progress=work.output.progress,
    )

    def show() -> None:
        for report in summary.pictures:
            _show_clip(report)

    work.output.result(summary, show)
    for report in summary.pictures:
        _warn_of(report, work.output)
    _fail_for(summary.skipped, work.output)


def draw_versus(work: Work, clip: Path, out: Path | None, config: PictureConfig, runs: Sequence[str]) -> None:
    """One clip by several runs: that of --run first, if it is given."""
    from attnrec.pictures.versus import require_strip, versus
    from attnrec.training.run import Run

    out = out or Path(clip.stem + ".png")
    require_strip(out, overwrite=work.force)
    named = [Run(path) for path in ([work.run] if work.run else []) + [Path(run) for run in runs]]
    report = versus(
        named,
        clip,
        out,
        config,
        boxes=work.boxes,
        overwrite=work.force,
        device=work.device,
        jobs=work.jobs,
        on_progress=work.output.progress,
    )
    work.output.result(report, lambda: _show_versus(report))
    if report.status != "ok":
        work.output.warn(f"{clip}: {report.status}; what could be decoded was drawn")


def draw_gallery(
    work: Work,
    part: str,
    out: Path | None,
    config: PictureConfig,
    numbers: tuple[int, int],
    videos: Path | None,
    features: Path | None,
) -> None:
    """Right and wrong clips of a run; exit code 1 if some were skipped."""
    from attnrec.pictures.gallery import gallery
    from attnrec.pictures.versus import require_strip

    out = out or Path(f"gallery-{part}.png")
    require_strip(out, overwrite=work.force)
    report = gallery(
        work.recognizer(),
        part,
        out,
        config,
        num_right=numbers[0],
        num_wrong=numbers[1],
        videos=videos,
        store=features,
        boxes=work.boxes,
        overwrite=work.force,
        device=work.device,
        jobs=work.jobs,
        on_progress=work.output.progress,
    )
    work.output.result(report, lambda: _show_gallery(report))
    _fail_for(report.skipped, work.output)


def _gaze(entropy: float) -> str:
    """Entropy of attention in words."""
    from attnrec.evaluation.gaze import gaze_note

    note = gaze_note(entropy)
    return f"attention entropy {entropy:.3f} of uniform" + (f"; {note}" if note else "")


def _show_clip(report: "VisualizeReport") -> None:
    truth = f" (is {report.truth})" if report.truth else ""
    low, high = (f"{multiple:.1f}" for multiple in report.full)
    say(
        f"{report.out or report.raw or ''}: {report.clip}, "
        f"{report.predicted} {percent(report.probability)} %{truth}, "
        f"{counted(report.num_frames, 'frame')}, {report.fps:.2f} a second, "
        f"full strength {low if low == high else f'{low} to {high}'} x uniform, "
        f"{_gaze(report.attention_entropy)}"
    )


def _show_versus(report: "VersusReport") -> None:
    say(f"{report.out}: {report.clip}, {counted(len(report.times), 'step')}")
    for row in report.rows:
        say(f"  {row.label}: {row.predicted} {percent(row.probability)} %, {_gaze(row.attention_entropy)}")


def _show_gallery(report: "GalleryReport") -> None:
    say(
        f"{report.out}: {len(report.right)} of {report.num_right} right and "
        f"{len(report.wrong)} of {report.num_wrong} wrong clips of {report.part}"
    )


def _warn_of(report: "VisualizeReport", output: Output) -> None:
    if report.status != "ok":
        output.warn(f"{report.clip}: {report.status}; what could be decoded was drawn")


def _fail_for(skipped: Sequence[tuple[str, str]], output: Output) -> None:
    if skipped:
        output.warn(f"{counted(len(skipped), 'clip')} could not be drawn:")
        for path, reason in skipped:
            output.warn(f"  {path}: {reason}")
        raise typer.Exit(1)
