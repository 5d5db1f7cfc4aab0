"""`attnrec visualize`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from attnrec.cli.options import (
    DeviceOption,
    ForceOption,
    JobsOption,
    JsonOption,
    QuietOption,
    RunOption,
    RunsDirOption,
    SamplesOption,
    examples,
    listed,
    takes,
)
from attnrec.cli.output import Output, say
from attnrec.errors import ConfigError
from attnrec.runtime import counted, percent
from attnrec.settings import PictureConfig, SplitPart

if TYPE_CHECKING:
    from attnrec.evaluation.predict import Recognizer
    from attnrec.pictures.visualize import VisualizeReport
    from attnrec.training.run import Run

EXAMPLES = examples(
    "attnrec visualize clip.mp4 --out golf.gif",
    "attnrec visualize clip.mp4 --out golf.mp4 --style heat --scale fixed --start 2 --duration 5",
    "attnrec visualize clip.mp4 --out golf.png --strip 6 --style paper --scale frame",
    "attnrec visualize clips/*.mp4 --out pictures/ --format mp4",
    "attnrec visualize clip.mp4 --out fig6.png --versus runs/attention-1,runs/attention-lambda1-1",
    "attnrec visualize --gallery test --right 6 --wrong 6 --out examples.png",
    "attnrec visualize clip.mp4 --out golf.html",
    "attnrec visualize videos/golf --out pictures/ --boxes boxes.csv",
    "attnrec visualize clip.mp4 --raw golf.npz",
)


@takes(PictureConfig, "config", reserved=("boxes",))
def visualize(
    config: PictureConfig,
    clips: Annotated[list[Path] | None, typer.Argument(help="Videos or folders of videos.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .gif, .mp4, .png (a strip of steps) or .html (a page to step through); with several "
            "clips, a folder. Default: the clip's name with .gif, in the current folder."
        ),
    ] = None,
    run: RunOption = None,
    format_: Annotated[
        str,
        typer.Option("--format", help="Format of the pictures in a folder: gif, mp4, png or html.", metavar="SUFFIX"),
    ] = "gif",
    raw: Annotated[
        Path | None,
        typer.Option(help="Write attention, times and probabilities as .npz, alone or with --out.", metavar="FILE"),
    ] = None,
    versus: Annotated[
        list[str] | None, typer.Option(help="Runs to compare in a .png, one row each.", metavar="RUN,...")
    ] = None,
    gallery: Annotated[
        SplitPart | None,
        typer.Option(help="Draw correctly and wrongly recognised clips of this part of the run's split in a .png."),
    ] = None,
    right: Annotated[int, typer.Option(help="Number of correctly recognised clips in a gallery.", min=0)] = 6,
    wrong: Annotated[int, typer.Option(help="Number of wrongly recognised clips in a gallery.", min=0)] = 6,
    videos: Annotated[
        Path | None,
        typer.Option(help="Folder of a gallery's videos; default: the one they were extracted from.", metavar="DIR"),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Feature store, for a gallery of a run that has not been evaluated.", metavar="STORE"),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Draw boxes or points of a CSV as thin lines: path, seconds or frame, and x0,y0,x1,y1 or x,y in px; "
            "default: those in the run's feature store.",
            metavar="FILE",
        ),
    ] = None,
    no_boxes: Annotated[bool, typer.Option("--no-boxes", help="Draw no boxes.")] = False,
    samples: SamplesOption = 0,
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw where a run looks in videos: the video, beside the same video with its attention, at its own speed."""
    if boxes is not None and no_boxes:
        raise typer.BadParameter("give either a file of boxes or --no-boxes", param_hint="--boxes, --no-boxes")
    config = dataclasses.replace(config, boxes=not no_boxes)
    with Output(json=json, quiet=quiet) as output:
        asked = {"boxes": boxes, "overwrite": force, "on_progress": output.progress}
        work = _Work(output, config, run, runs, {"device": device, "jobs": jobs, "samples": samples}, asked)
        if gallery is not None:
            if clips or versus or raw:
                raise ConfigError("--gallery takes its clips from the run's split: leave out CLIPS, --versus and --raw")
            if samples:
                raise ConfigError("--gallery sorts clips by the most probable locations: leave out --samples")
            del work.machine["samples"]
            _draw_gallery(work, gallery, out, num_right=right, num_wrong=wrong, videos=videos, store=features)
        elif versus:
            if not clips or len(clips) > 1 or raw:
                raise ConfigError("--versus shows one clip: name one, without --raw")
            _draw_versus(work, clips[0], out, listed(versus))
        elif not clips:
            raise typer.BadParameter("name one or several, or take a run's own by --gallery test", param_hint="CLIPS")
        elif len(clips) > 1 or clips[0].is_dir() or (out is not None and out.is_dir()):
            if raw:
                raise ConfigError("--raw takes one clip")
            _draw_clips(work, clips, out or Path(), "." + format_.removeprefix(".").lower())
        else:
            _draw_clip(work, clips[0], out, raw)


class _Work(NamedTuple):
    """What every kind of picture needs."""

    output: Output
    config: PictureConfig
    run: Path | None
    runs: Path
    machine: dict[str, Any]  # device, CPU threads and samples
    asked: dict[str, Any]  # boxes, overwrite, on_progress

    def chosen(self) -> "Run":
        """The named run, or the newest one with attention, which is then named on stderr."""
        from attnrec.training.run import Run, newest_run

        self.output.begin()
        if self.run is not None:
            run = Run(self.run)
        else:
            run = newest_run(self.runs, with_attention=True, on_progress=self.output.progress)
            self.output.note(f"run {run.path}")
        return run

    def loaded(self, run: "Run") -> "Recognizer":
        """The run, ready to look at clips."""
        from attnrec.evaluation.predict import Recognizer

        return Recognizer(run, **self.machine)


# A run is chosen before the imports that load torch: they take seconds, which an error need not wait for.


def _draw_clip(work: _Work, clip: Path, out: Path | None, raw: Path | None) -> None:
    run = work.chosen()
    from attnrec.pictures.visualize import visualize as workflow
    from attnrec.pictures.write import require_outputs

    if out is None and raw is None:
        out = Path(clip.stem + ".gif")
    require_outputs(out, raw, work.config, overwrite=work.asked["overwrite"])
    report = workflow(work.loaded(run), clip, out, work.config, raw=raw, **work.asked)
    work.output.result(report, lambda: _show_clip(report))
    _warn_of(report.clip, report.status, work.output)


def _draw_clips(work: _Work, clips: Sequence[Path], folder: Path, suffix: str) -> None:
    if folder.suffix and not folder.is_dir():
        raise ConfigError(f"{folder}: several clips go into a folder; name one by --out")
    run = work.chosen()
    from attnrec.evaluation.predict import clips_of
    from attnrec.pictures.visualize import visualize_all

    summary = visualize_all(work.loaded(run), clips_of(clips), folder, suffix, work.config, **work.asked)

    def show() -> None:
        for report in summary.pictures:
            _show_clip(report)

    work.output.result(summary, show)
    for report in summary.pictures:
        _warn_of(report.clip, report.status, work.output)
    _fail_for(summary.skipped, work.output)


def _draw_versus(work: _Work, clip: Path, out: Path | None, runs: Sequence[str]) -> None:
    """Draw one clip by several runs, the one of --run first if it is given."""
    from attnrec.pictures.visualize import versus
    from attnrec.pictures.write import require_strip
    from attnrec.training.run import Run

    out = out or Path(clip.stem + ".png")
    require_strip(out, overwrite=work.asked["overwrite"])
    named = [Run(path) for path in ([str(work.run)] if work.run else []) + list(runs)]
    report = versus(named, clip, out, work.config, **work.machine, **work.asked)

    def show() -> None:
        say(f"{report.out}: {report.clip}, {counted(len(report.times), 'step')}")
        for row in report.rows:
            say(f"  {row.label}: {row.predicted} {percent(row.probability)} %, {_gaze(row.attention_entropy)}")

    work.output.result(report, show)
    _warn_of(report.clip, report.status, work.output)


def _draw_gallery(work: _Work, part: str, out: Path | None, **chosen: Any) -> None:
    run = work.chosen()
    from attnrec.pictures.gallery import gallery
    from attnrec.pictures.write import require_strip

    out = out or Path(f"gallery-{part}.png")
    require_strip(out, overwrite=work.asked["overwrite"])
    report = gallery(work.loaded(run), part, out, work.config, **chosen, **work.machine, **work.asked)
    line = (
        f"{report.out}: {len(report.right)} of {report.num_right} right and "
        f"{len(report.wrong)} of {report.num_wrong} wrong clips of {report.part}"
    )
    work.output.result(report, lambda: say(line))
    _fail_for(report.skipped, work.output)


def _show_clip(report: "VisualizeReport") -> None:
    truth = f" (is {report.truth})" if report.truth else ""
    low, high = (f"{multiple:.1f}" for multiple in report.full)
    full = f"full strength {low if low == high else f'{low} to {high}'} x uniform"
    say(f"{report.out or report.raw or ''}: {report.predicted} {percent(report.probability)} %{truth}, {report.clip}")
    say(f"  {counted(report.num_frames, 'frame')}, {report.fps:.2f} a second, {full}")
    say(f"  {_gaze(report.attention_entropy)}")


def _gaze(entropy: float) -> str:
    """The entropy of the attention, as text."""
    from attnrec.evaluation.gaze import gaze_note

    note = gaze_note(entropy)
    return f"attention entropy {entropy:.3f} of uniform" + (f"; {note}" if note else "")


def _warn_of(clip: str, status: str, output: Output) -> None:
    if status != "ok":
        output.warn(f"{clip}: {status}; what could be decoded was drawn")


def _fail_for(skipped: Sequence[tuple[str, str]], output: Output) -> None:
    """Exit code 1 if some clips were skipped."""
    if skipped:
        output.warn(f"{counted(len(skipped), 'clip')} could not be drawn:")
        for path, reason in skipped:
            output.warn(f"  {path}: {reason}")
        raise typer.Exit(1)
