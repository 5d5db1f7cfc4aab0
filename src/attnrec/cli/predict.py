"""`attnrec predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnrec.cli.options import (
    CSV_SUFFIXES,
    DeviceOption,
    ForceOption,
    JobsOption,
    JsonOption,
    QuietOption,
    RunOption,
    RunsDirOption,
    SamplesOption,
    examples,
)
from attnrec.cli.output import Output, table
from attnrec.files import require_free, write_table
from attnrec.runtime import counted

if TYPE_CHECKING:
    from attnrec.evaluation.predict import PredictReport

EXAMPLES = examples(
    "attnrec predict clip.mp4 --json",
    "attnrec predict clips/ --csv predictions.csv",
)


def predict(
    videos: Annotated[list[Path], typer.Argument(help="Videos or folders of videos.")],
    run: RunOption = None,
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="Also write the probabilities as CSV.", metavar="FILE")
    ] = None,
    samples: SamplesOption = 0,
    force: ForceOption = False,
    runs: RunsDirOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict class probabilities of videos, computed as `attnrec evaluate` does."""
    from attnrec.training.run import Run, newest_run

    if csv_path is not None:
        require_free(csv_path, overwrite=force, suffixes=CSV_SUFFIXES)
    with Output(json=json, quiet=quiet) as output:
        output.begin()
        chosen = Run(run) if run is not None else newest_run(runs, on_progress=output.progress)
        if run is None:
            output.note(f"run {chosen.path}")
        from attnrec.evaluation import predict as workflow  # takes seconds, which an error above need not wait for

        recognizer = workflow.Recognizer(chosen, device=device, jobs=jobs, samples=samples)
        report = workflow.predict(recognizer, videos, on_progress=output.progress)
        if csv_path is not None:
            _write_csv(csv_path, report, recognizer.classes, force)
        output.result(report, lambda: _show(report))
        if csv_path is not None:
            output.note(f"wrote {csv_path}")
        if report.skipped:
            output.warn(f"{counted(len(report.skipped), 'clip')} could not be decoded:")
            for path, reason in report.skipped:
                output.warn(f"  {path}: {reason}")
            raise typer.Exit(1)


def _show(report: "PredictReport") -> None:
    rows = [(prediction.path, str(prediction), prediction.status) for prediction in report.predictions]
    table("", ["clip", "predicted", "video"], rows)


def _write_csv(path: Path, report: "PredictReport", classes: list[str], force: bool) -> None:
    rows: list[list[object]] = [
        [of.path, of.predicted, of.probability, *(of.probs[name] for name in classes), of.status]
        for of in report.predictions
    ]
    rows += [[clip, None, None, *[None] * len(classes), reason] for clip, reason in report.skipped]
    write_table(path, ["path", "predicted", "probability", *classes, "video"], rows, overwrite=force)
