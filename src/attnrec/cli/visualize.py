"""`attnrec visualize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)
from attnrec.cli.output import Output, percent, printable

if TYPE_CHECKING:
    from attnrec.workflows.visualize import VisualizeReport

EXAMPLES = examples(
    "attnrec visualize clip.mp4 --out golf.gif",
    "attnrec visualize clip.mp4 --out golf.mp4 --run runs/attention-lambda1-1 --width 320",
)


def visualize(
    clip: Annotated[Path, typer.Argument(help="Video to look at.")],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write, .gif or .mp4; the clip's name with .gif here if not given.")
    ] = None,
    run: RunOption = None,
    width: Annotated[int, typer.Option(help="Width of each of the two pictures, in pixels.")] = 240,
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw where a run looks in a clip: the clip beside itself with the attention as white light, at its own speed."""
    from attnrec.run import Run, newest_run
    from attnrec.workflows import visualize as workflow
    from attnrec.workflows.predict import Recognizer

    out = out or Path(clip.stem + ".gif")
    workflow.require_format(out)
    with Output(json=json, quiet=quiet) as output:
        chosen = Run(run) if run is not None else newest_run(runs, with_attention=True)
        if run is None:
            output.note(f"run {chosen.path}")
        recognizer = Recognizer(chosen, device=device, jobs=jobs)
        report = workflow.visualize(recognizer, clip, out, width=width, overwrite=force, on_progress=output.progress)
        output.result(report, lambda: _show(report))
        if report.status != "ok":
            output.warn(f"{clip}: {report.status}; what could be decoded was drawn")


def _show(report: "VisualizeReport") -> None:
    truth = f" (is {printable(report.truth)})" if report.truth else ""
    print(
        f"{printable(report.out)}: {printable(report.predicted)} {percent(report.probability)} %{truth}, "
        f"{report.num_frames} frames at {report.fps:.2f} a second, "
        f"attention entropy {report.attention_entropy:.3f} of uniform"
    )
