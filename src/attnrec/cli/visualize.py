"""`attnrec visualize`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.options import (
    DeviceOption,
    ForceOption,
    JobsOption,
    JsonOption,
    QuietOption,
    RunOption,
    RunsDirOption,
    examples,
    listed,
    takes,
)
from attnrec.cli.output import Output
from attnrec.cli.pictures import Work, draw_clip, draw_clips, draw_gallery, draw_versus
from attnrec.errors import ConfigError
from attnrec.settings import PictureConfig, SplitPart

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
    clips: Annotated[list[Path] | None, typer.Argument(help="Videos, and folders of videos.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .gif, .mp4, .png (a strip of steps) or .html (a page to step through); for several "
            "clips a folder. Default: the clip's name with .gif, in the current folder."
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
        list[str] | None, typer.Option(help="Runs to compare in a .png, one below the other.", metavar="RUN,...")
    ] = None,
    gallery: Annotated[
        SplitPart | None,
        typer.Option(help="Draw rightly and wrongly recognised clips of this part of the run's split in a .png."),
    ] = None,
    right: Annotated[int, typer.Option(help="Number of rightly recognised clips in a gallery.", min=0)] = 6,
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
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw where a run looks in videos: each video beside itself with the attention over it, at its own speed."""
    if boxes is not None and no_boxes:
        raise typer.BadParameter("either boxes of a file are drawn, or none", param_hint="--boxes, --no-boxes")
    config = dataclasses.replace(config, boxes=not no_boxes)
    with Output(json=json, quiet=quiet) as output:
        work = Work(output, run, runs, device, jobs, force, boxes)
        if gallery is not None:
            if clips or versus or raw:
                raise ConfigError("--gallery takes its clips from the run: leave out CLIPS, --versus and --raw")
            draw_gallery(work, gallery, out, config, (right, wrong), videos, features)
        elif versus:
            if not clips or len(clips) > 1 or raw:
                raise ConfigError("--versus shows one clip: name one, without --raw")
            draw_versus(work, clips[0], out, config, listed(versus))
        elif not clips:
            raise typer.BadParameter("name one or several, or take a run's own by --gallery test", param_hint="CLIPS")
        elif len(clips) > 1 or clips[0].is_dir() or (out is not None and out.is_dir()):
            if raw:
                raise ConfigError("--raw takes one clip")
            draw_clips(work, clips, out or Path(), "." + format_.removeprefix(".").lower(), config)
        else:
            draw_clip(work, clips[0], out, raw, config)
