"""`attnrec extract`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnrec.cli.options import (
    CSV_SUFFIXES,
    DryRunOption,
    ForceOption,
    JsonOption,
    QuietOption,
    examples,
    given_settings,
    takes,
)
from attnrec.cli.output import Output, say, size
from attnrec.files import require_free
from attnrec.runtime import counted, duration
from attnrec.settings import ExtractConfig

if TYPE_CHECKING:
    from attnrec.features.extract import ExtractReport
    from attnrec.features.plan import ExtractPlan

EXAMPLES = examples(
    "attnrec extract videos/ out.h5",
    "attnrec extract UCF-101/ ucf101.h5 --splits ucfTrainTestlist",
    "attnrec extract videos/ --labels-template labels.csv",
    "attnrec extract videos/ out.h5 --labels labels.csv",
    "attnrec extract videos/ out.h5 --backbone squeezenet1_0 --weights squeezenet1_0.pth",
    "attnrec extract videos/ out.h5 --layer inception4e,inception5b --grid-size 0",
    "attnrec extract videos/ out.h5 --dry-run",
    "torchrun --nproc-per-node 4 -m attnrec extract videos/ out.h5",
)


@takes(ExtractConfig, "config")
def extract(
    context: typer.Context,
    videos: Annotated[
        Path, typer.Argument(help="Folder of videos with one subfolder per class, a CSV of labels, or one video.")
    ],
    config: ExtractConfig,
    out: Annotated[Path | None, typer.Argument(help="Feature store to write, an HDF5 file.", metavar="OUT")] = None,
    labels_template: Annotated[
        Path | None,
        typer.Option(
            help="Instead write a CSV with every video's path, to fill in labels and give it by --labels.",
            metavar="FILE",
        ),
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Extract CNN feature cubes from a folder of videos into one feature store.

    Labels come from class folders, from names like v_<class>_g<group>_c<clip>, from a CSV, or from the official lists
    of UCF-11, UCF-101, HMDB-51, J-HMDB and Hollywood2, which are detected. Without official or given lists, all videos
    of a group are on the same side of every split. Run it again to continue after an interruption, to add videos, or to
    change labels, splits or boxes; stored features are kept, and their network and rate need not be named again.
    """
    from attnrec.features import extract as workflow
    from attnrec.features.plan import OF_FEATURES, as_in_store, plan_extraction

    with Output(json=json, quiet=quiet) as output:
        if labels_template is not None:
            _write_template(videos, labels_template, force, output)
            return
        if out is None:
            raise typer.BadParameter("name the feature store to write, such as out.h5", param_hint="OUT")
        if out.exists() and not config.overwrite and not given_settings(context, ExtractConfig) & {*OF_FEATURES}:
            workflow.require_store_or_nothing(out)
            config = as_in_store(config, out)
            output.note(f"network and frame rate as in {out}")
        if dry_run:
            output.begin("planning")
            plan = plan_extraction(videos, out, config)
            output.result(_document(plan), lambda: _show_plan(plan))
            _warn(plan, output)
            return
        report = workflow.extract(videos, out, config, on_progress=output.progress)
        output.result(_document(report), lambda: _show(report))
        if report.num_variable_rate:
            output.note(f"{counted(report.num_variable_rate, 'video')} of variable frame rate; true times are stored")
        for path, status in report.damaged:
            output.warn(f"{path}: {status}; what could be decoded was kept")
        _warn(report, output)
        _say_what_is_next(report, videos, config, output)
        if report.skipped:
            output.warn(f"{len(report.skipped)} of {len(report.skipped) + report.data.num_videos} videos were skipped:")
            for path, reason in report.skipped:
                output.warn(f"  {path}: {reason}")
            raise typer.Exit(1)


def _say_what_is_next(report: "ExtractReport", videos: Path, config: ExtractConfig, output: Output) -> None:
    data = report.data
    unlabelled = 0 if data.multilabel else data.num_videos - sum(data.classes.values())
    if unlabelled and data.classes:
        of = f"{unlabelled} of {data.num_videos} videos"
        output.note(f"{of} have no label and are in no split; `attnrec predict` tells their class")
    if (unlabelled and config.labels is None) or len(data.classes) < 2:
        output.note(f"to label videos: {_template_command(videos)}")
    if len(data.classes) > 1 and not data.leaking_splits:
        output.note("next: attnrec train")


def _write_template(videos: Path, table: Path, force: bool, output: Output) -> None:
    from attnrec.datasets.tables import write_labels_template

    require_free(table, overwrite=force, suffixes=CSV_SUFFIXES)
    count, labelled = write_labels_template(table, videos, overwrite=force)
    document = {"labels": str(table), "num_videos": count, "num_labelled": labelled}
    output.result(document, lambda: say(f"{table}: {counted(count, 'video')}"))
    if labelled:
        output.note(f"{labelled} have the label that their folder or name gives: change those that are wrong")
    command = shlex.join(["attnrec", "extract", str(videos), "out.h5", "--labels", str(table)])
    output.note(f"fill in the column label, then: {command}")


def _template_command(videos: Path) -> str:
    return shlex.join(["attnrec", "extract", str(videos), "--labels-template", "labels.csv"])


def _document(report: "ExtractPlan | ExtractReport") -> dict[str, Any]:
    """The report as JSON, with the fields of `data` at the top level."""
    document = asdict(report)
    return {**document.pop("data"), **document}


def _warn(report: "ExtractPlan | ExtractReport", output: Output) -> None:
    data = report.data
    for problem in data.problems + (report.boxes.problems if report.boxes else []):
        output.warn(str(problem))
    if data.leaking_splits:
        output.warn(f"figures of {', '.join(data.leaking_splits)} will be too good: groups are on both sides")


def _show(report: "ExtractReport") -> None:
    new = f", {report.num_extracted} new" if report.num_extracted < report.data.num_videos else ""
    say(f"{report.out}: {counted(report.data.num_videos, 'video')}{new}, {report.num_frames} frames")
    for layer, (K, _, D) in report.cubes.items():
        say(f"cubes    {K} x {K} x {D} of {layer}, {report.precision}")
    _show_videos(report)
    say(f"size     {size(report.size_bytes)}, took {duration(report.seconds)}")


def _show_plan(plan: "ExtractPlan") -> None:
    say(f"{plan.out}: {plan.data.num_videos} videos, about {plan.estimated_frames} frames")
    _show_videos(plan)
    say(f"size     about {size(plan.estimated_bytes)}")
    say(f"disk     needs {size(plan.needed_bytes)} while it works, {size(plan.free_bytes)} free")
    say(f"time     about {duration(plan.estimated_seconds)} on this machine")


def _show_videos(report: "ExtractPlan | ExtractReport") -> None:
    data, boxes = report.data, report.boxes
    several = ", several labels a video" if data.multilabel else ""
    say(f"dataset  {data.dataset}, read as {data.layout}{several}")
    counts = [f"{name} {count}" for name, count in data.classes.items()]
    say(f"classes  {len(counts)}: {', '.join(counts)}" if counts else "classes  none")
    say(f"groups   {data.num_groups}")
    for name, parts in data.splits.items():
        leak = " LEAKING" if name in data.leaking_splits else ""
        say(f"split    {name}: {', '.join(f'{count} {part}' for part, count in parts.items() if count)}{leak}")
    if boxes is not None:
        absent = f"; {counted(boxes.num_absent, 'annotated video')} not there" if boxes.num_absent else ""
        say(f"boxes    {boxes.num_boxes} in {counted(boxes.num_videos, 'video')}, from {boxes.source}{absent}")
