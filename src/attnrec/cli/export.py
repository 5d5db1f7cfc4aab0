"""`attnrec export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attnrec.cli.options import ForceOption, JsonOption, QuietOption, RunsDirOption, examples
from attnrec.cli.output import Output, size, table
from attnrec.files import require_free

if TYPE_CHECKING:
    from attnrec.export import ExportReport

EXAMPLES = examples(
    "attnrec export --out run.onnx",
    "attnrec export runs/attention-1 --out run.onnx --from frames",
)


def export(
    out: Annotated[Path, typer.Option(help="File to write, ending in .onnx.", metavar="FILE")],
    run: Annotated[
        Path | None, typer.Argument(help="Run to export; default: the newest finished one.", metavar="[RUN]")
    ] = None,
    source: Annotated[
        Literal["cubes", "frames"],
        typer.Option("--from", help="What the file takes: feature cubes, or frames, with the backbone in it."),
    ] = "cubes",
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a run as an ONNX file, which other programs can run without attnrec. Needs attnrec[onnx]."""
    if out.suffix.lower() != ".onnx":
        raise typer.BadParameter("must end in .onnx", param_hint="--out")
    require_free(out, overwrite=force, suffixes=(".onnx",))
    from attnrec.training.run import Run, newest_run

    with Output(json=json, quiet=quiet) as output:
        chosen = Run(run) if run is not None else newest_run(runs, on_progress=output.progress)
        if run is None:
            output.note(f"run {chosen.path}")
        output.begin(f"writing {out}")
        from attnrec.export import export as workflow

        report = workflow(chosen, out, source=source, overwrite=force)
        output.result(report, lambda: _show(report))
        output.note(f"wrote {out} ({size(report.num_bytes)})")
        if report.largest_difference is None:
            output.note("not compared with the run: install attnrec[onnx] for onnxruntime")
        else:
            output.note(f"largest difference from the run's probabilities: {report.largest_difference:.1e}")


def _show(report: "ExportReport") -> None:
    rows = [("input", *item) for item in report.inputs.items()] + [("output", *item) for item in report.outputs.items()]
    table("", ["", "name", "shape"], [(kind, name, " x ".join(map(str, shape))) for kind, name, shape in rows])
