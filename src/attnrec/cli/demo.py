"""`attnrec demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.compare_tables import show_comparison
from attnrec.cli.options import DeviceOption, JobsOption, JsonOption, QuietOption, SeedOption, examples, listed
from attnrec.cli.output import Output, say
from attnrec.runtime import duration, percent

if TYPE_CHECKING:
    from attnrec.demo.demo import DemoReport

EXAMPLES = examples(
    "attnrec demo", "attnrec demo --out try --seed 1 --weights random", "attnrec demo --layer inception4e,inception5b"
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all files of the demo.", metavar="DIR")] = Path("attnrec-demo"),
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of GoogLeNet: imagenet, random or a file; default: imagenet if it can be had within seconds, "
            "else random."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer of GoogLeNet to look at, or several, as inception4e,inception5b; default: the last one.",
            metavar="NAMES",
        ),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole chain on generated clips: extract, train, evaluate, visualize, compare."""
    with Output(json=json, quiet=quiet) as output:
        output.begin()
        from attnrec.demo import demo as workflow

        report = workflow.demo(
            out,
            weights=weights,
            layers=listed(layer),
            seed=seed,
            device=device,
            jobs=jobs,
            on_progress=output.progress,
        )
        output.result(report, lambda: _show(report))


def _show(report: "DemoReport") -> None:
    show_comparison(report.table)
    say(f"features  {report.backbone} with {report.weights} weights, {report.store}")
    attention, baseline = report.attention, report.baseline
    say(f"test      {percent(attention.accuracy)} % of {attention.num_videos} held-out clips with attention,")
    say(f"          {percent(baseline.accuracy)} % average pooled, {percent(attention.chance)} % by chance")
    say(f"run       {report.attention.run}")
    say(f"table     attnrec compare --runs {Path(report.attention.run).parent}")
    runs, boxes = Path(report.attention.run).parent, Path(report.videos) / "boxes.csv"
    say(f"faithful? attnrec evaluate --runs {runs} --faithfulness --boxes {boxes}")
    say(f"picture   {report.picture.out}")
    say(f"report    {report.page}")
    say(f"took      {duration(report.seconds)}")
