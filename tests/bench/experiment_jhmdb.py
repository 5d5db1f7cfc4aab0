"""Does attention help on real actions, and does it look at the actor? J-HMDB with the paper's own network.

    python tests/bench/experiment_jhmdb.py VIDEOS --weights bvlc_googlenet.pth --out DIR [--seeds 3] [--write]

Extracts what is not there yet, trains every row with every seed, evaluates all on the test part of the first split, and
prints Markdown tables. The same command goes on after an interruption and takes what is finished; a new row in `ROWS`
trains that row alone. `--write` puts the tables between the markers of the guide on results, a summary between those of
README, and their pictures into `.assets`. `--full` leaves out what was cut to fit a small machine; `--dry-run` says how
long either takes.

Legend: S seeds, V videos of the test part.
"""

import argparse
import base64
import dataclasses
import io
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from written import README, TOP, markdown, write_between

from attnrec.comparison.forecast import plan_grid
from attnrec.comparison.grid import is_evaluated, planned_cells, runs_by_identity
from attnrec.drawing.figure import Plot
from attnrec.drawing.light import Picture
from attnrec.drawing.plots import Dot, intervals
from attnrec.errors import AttnrecError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.intervals import bootstrap_interval, known_interval, mean_statistic
from attnrec.evaluation.localization import Targets, block_sums, localization, stored_targets
from attnrec.evaluation.perturb import at_peaks
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.predictions import read_predictions
from attnrec.evaluation.significance import NUM_RESAMPLES, PairedDifference, paired_difference
from attnrec.features.extract import extract
from attnrec.features.feed import CubeFeed
from attnrec.features.plan import plan_extraction
from attnrec.features.store import FeatureStore
from attnrec.files import atomic_path
from attnrec.metrics import attention_entropy, block_means, reduce_blocks, top_k_hits
from attnrec.models.attention import AttentionLSTM
from attnrec.pictures.boxes import BoxSource, box_source
from attnrec.pictures.look import look_at
from attnrec.pictures.strip import stacked, strip, strip_row
from attnrec.runtime import Progress, counted, default_jobs, no_progress, prepare_cpu, processor, resolve_device
from attnrec.settings import ExtractConfig, GridConfig, PictureConfig, TrainConfig
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run
from attnrec.training.score import BlockScores, score_blocks
from attnrec.training.train import train_once

# What is trained: settings of `TrainConfig` by the row's name. Rows without attention are those to be beaten.
ROWS: dict[str, dict[str, Any]] = {
    "softmax regression": {"model": "softmax"},
    "average-pooled LSTM": {"model": "avg-pool"},
    "max-pooled LSTM": {"model": "max-pool"},
    "average and max side by side": {"model": "avg-max-pool"},
    "saliency with mean (auto)": {"attention": "saliency", "add_mean": True},
    "saliency with mean, lambda 1": {"attention": "saliency", "add_mean": True, "attention_penalty": 1.0},
    "location (the paper's)": {"attention": "location", "add_mean": False},
    "content (its code's)": {"attention": "content", "add_mean": False},
    "saliency": {"attention": "saliency", "add_mean": False},
}
# Of all rows; the rest is `auto`'s, the same for all.
COMMON: dict[str, Any] = {"fps": 6.0, "block_stride": 5}
# The full experiment: each row above that names no lambda with these settings, lambdas and rates.
FULL: dict[str, Any] = {"block_stride": 1, "num_layers": 3, "hidden_dim": 1024}
FULL_LAMBDAS, FULL_RATES = (0.0, 1.0, 10.0), (6.0, 30.0)

BACKBONE = "bvlc_googlenet"
SPLITS = ("jhmdb-1", "hmdb51-1")  # one split under two names, by how the videos are laid out
PART = "test"
GUIDE, ASSETS = TOP / "src/attnrec/guide/results.md", TOP / ".assets"
BASELINES = {"centre": "centre of the frame", "frequent": "most frequent cell", "uniform": "uniform attention"}
SHOWN_CLASSES = 3  # in the picture of clips that are recognised, and of those that are not
MOST_PICTURE_BYTES = 390_000

Values = NDArray[np.float64]


def main() -> None:
    options = parsed()
    configs = {name: TrainConfig(**settings) for name, settings in row_settings(options).items()}
    store_path = options.store or options.out / "features.h5"
    if options.dry_run:
        print(plan_in_words(options, store_path))
        return
    extract_missing(options, store_path)
    store = FeatureStore(store_path)
    configs = {name: dataclasses.replace(config, split=split_of(store)) for name, config in configs.items()}
    targets = person_boxes(store)
    rows = []
    for name, config in configs.items():
        runs = trained(config, options.seeds, store_path, options.out / "runs")
        for run in runs:
            evaluate_missing(run, store_path, options)
        rows.append(row_of(name, runs, [looked(run, store, targets, options.out) for run in runs]))
    text = report(rows, options, store_path)
    if options.write:
        text += "\n\n" + write_figures(rows, options)
        for path, mark, body in ((GUIDE, "jhmdb", text), (README, "jhmdb-summary", summary_table(rows))):
            write_between(path, mark, body)
    print(text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="J-HMDB, as it is distributed or in HMDB-51's layout")
    parser.add_argument("--weights", default="imagenet", help=f"of {BACKBONE}, as `extract` takes them")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the features, the runs and what was measured"
    )
    parser.add_argument("--store", type=Path, help="features that are there already")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="CPU threads")
    parser.add_argument("--max-steps", type=int, help="end each training early, to try the script")
    parser.add_argument("--rows", help="only these rows, by their numbers from 1, as 1,4")
    parser.add_argument("--write", action="store_true", help="renew the guide on results, README and their pictures")
    parser.add_argument("--full", action="store_true", help="nothing cut")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and how long it takes")
    options = parser.parse_args()
    prepare_cpu(options.jobs)
    return options


def say(event: Progress) -> None:
    """Lines, no bars: this runs for an hour, mostly into a log."""
    if event.message is not None:
        print(event.message, file=sys.stderr, flush=True)


# What is trained on what


def row_settings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Settings of the rows that are asked for, by name."""
    rows = full_rows() if options.full else {name: COMMON | settings for name, settings in ROWS.items()}
    wanted = [int(number) - 1 for number in options.rows.split(",")] if options.rows else range(len(rows))
    added = {"jobs": options.jobs, "max_steps": options.max_steps}
    return {name: settings | added for i, (name, settings) in enumerate(rows.items()) if i in wanted}


def full_rows() -> dict[str, dict[str, Any]]:
    """The rows of the full experiment."""
    rows = {}
    for fps in FULL_RATES:
        for name, settings in ROWS.items():
            if "attention_penalty" in settings:
                continue  # is made from the row without
            for penalty in FULL_LAMBDAS if is_attention(settings) else (0.0,):
                full_name = f"{name}{f', lambda {penalty:g}' if penalty else ''}, {fps:g} fps"
                rate = {"fps": fps}
                rows[full_name] = settings | FULL | rate | ({"attention_penalty": penalty} if penalty else {})
    return rows


def is_attention(settings: Mapping[str, Any]) -> bool:
    return settings.get("model", "attention") == "attention"


def extract_missing(options: argparse.Namespace, store_path: Path) -> None:
    """Make the features, or go on making them: a store is in its place when it is complete."""
    if store_path.exists():
        return
    store_path.parent.mkdir(parents=True, exist_ok=True)
    config = ExtractConfig(backbone=BACKBONE, weights=options.weights, jobs=options.jobs)
    done = extract(options.videos, store_path, config, on_progress=say)
    print(f"{done.num_frames} frames of {done.num_extracted} videos in {done.seconds:.0f} s", file=sys.stderr)


def split_of(store: FeatureStore) -> str:
    for name in SPLITS:
        if name in store.split_names:
            return name
    raise SystemExit(f"{store.path}: has none of the splits {', '.join(SPLITS)}; is it J-HMDB?")


def person_boxes(store: FeatureStore) -> Targets | None:
    """Where the person is in the test videos, which `extract` wrote into the store."""
    return stored_targets(store, *(store.split_members(split_of(store), part) for part in (PART, "train")))


def grid_of(config: TrainConfig, num_seeds: int, penalties: Sequence[float] | None = None) -> GridConfig:
    """A row as a grid, which knows what is trained already."""
    penalties = penalties or [config.attention_penalty]
    return GridConfig(models=(config.model,), penalties=tuple(penalties), num_seeds=num_seeds, training=config)


def trained(config: TrainConfig, num_seeds: int, store_path: Path, runs_dir: Path) -> list[Run]:
    """The finished runs of a row, one for each seed; those that are not there, or not finished, are trained."""
    runs = []
    for _, cells in planned_cells(grid_of(config, num_seeds), store_path, no_progress):
        for cell in cells:

            def find(wanted: str = cell.identity) -> Run | None:
                return runs_by_identity(runs_dir).get(wanted)

            run, how = train_once(store_path, cell.config, find, runs_dir, no_progress)
            say(Progress("train", message=f"{run.path}: {how}, {run.manifest.result['seconds']:.0f} s"))
            runs.append(run)
    return runs


def evaluate_missing(run: Run, store_path: Path, options: argparse.Namespace) -> None:
    """The library's evaluation, with the test of its attention where the run has any, unless the run has it."""
    attentive = run.manifest.model.architecture == "attention"
    if is_evaluated(run, PART) and not (attentive and evaluation_of(run)["faithfulness"] is None):
        return
    done = evaluate(run, store_path, part=PART, faithfulness=attentive, jobs=options.jobs)
    if done.unsaved is not None:
        raise AttnrecError(done.unsaved)


def evaluation_of(run: Run) -> dict[str, Any]:
    found = run.read_evaluation(PART)
    assert found is not None
    return found


# What is measured


def looked(run: Run, store: FeatureStore, targets: Targets | None, folder: Path) -> dict[str, Values]:
    """What `look_again` gives, kept in a file under the hash of the run's weights; empty without attention."""
    if run.manifest.model.architecture != "attention":
        return {}
    kept = folder / "looks" / f"{run.model_sha256[:16]}-{'no' if targets is None else 'with'}-boxes.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **look_again(run, store, targets))
    with np.load(kept) as arrays:
        return dict(arrays)


def look_again(run: Run, store: FeatureStore, targets: Targets | None) -> dict[str, Values]:
    """Figures of each video, which an evaluation gives the means of, so that they can be averaged over seeds.

    Returns:
        Whether a video is recognised with the `learned` attention and with `uniform` in its place, and the figures of
        `localization` by their names, NaN for videos without boxes, each of shape (V,); and `entropy` and `seconds`.
    """
    started = time.monotonic()
    model = run.load_model(resolve_device("auto"))
    assert isinstance(model, AttentionLSTM)
    table = run_blocks(store, run.manifest.training, PART)
    feed = CubeFeed(store.layer_features(), run.manifest.feature_scales, next(model.parameters()).device)
    own = score_blocks(model, feed, table.frames, keep_attention=True)
    assert own.attention is not None
    # Both are given, and so computed alike, so that nothing but attention differs.
    learned = at_peaks(own.attention) if model.glimpse == "hard" else own.attention
    maps = {"learned": learned, "uniform": np.full_like(own.attention, 1 / own.attention.shape[-1])}
    scores = {name: score_blocks(model, feed, table.frames, given=given) for name, given in maps.items()}
    videos = np.unique(table.video)
    figures = {
        name: recognised(each, table.video, store.targets[videos], run.manifest.training)
        for name, each in scores.items()
    }
    if targets is not None:
        figures |= localization(block_sums(own.attention, table.frames, targets), table.video)
    of_all = {"entropy": attention_entropy(own.attention), "seconds": time.monotonic() - started}
    return figures | {name: np.array(value) for name, value in of_all.items()}


def recognised(scores: BlockScores, owner: NDArray[np.int64], labels: NDArray[Any], training: TrainConfig) -> Values:
    """1 for each video that the blocks' mean or vote names, 0 for the others."""
    blocks = block_means(scores.frame_probs, training.last_steps)
    return top_k_hits(labels, reduce_blocks(blocks[:, None], owner, training.reduction or "mean"), 1).astype(np.float64)


class Row(NamedTuple):
    """A row with what was measured of each test video.

    Attributes:
        name: Of the row.
        runs: One for each seed.
        groups: Source film of each video.
        hits: Whether the evaluation recognised it, shape (S, V).
        looks: As `look_again` names them, shape (S, V), or (S,) for those of the whole part; empty without attention.
    """

    name: str
    runs: list[Run]
    groups: list[str]
    hits: Values
    looks: dict[str, Values]


class Figure(NamedTuple):
    """A mean over videos, and its 95 % interval over groups."""

    value: float
    interval: tuple[float, float]


def row_of(name: str, runs: list[Run], looks: Sequence[dict[str, Values]]) -> Row:
    predictions = [found for run in runs if (found := read_predictions(run, PART)) is not None]
    groups = [group.decode("utf-8", "surrogateescape") for group in predictions[0].groups]
    hits = np.stack([top_k_hits(of.targets.astype(np.int64), of.probs, 1) for of in predictions]).astype(np.float64)
    return Row(name, runs, groups, hits, {key: np.stack([of[key] for of in looks]) for key in looks[0]})


def figure_of(values: Values, groups: Sequence[str]) -> Figure:
    """Mean over seeds and videos of (S, V), videos of NaN left out; for its interval whole groups are drawn anew."""
    means = values.mean(axis=0)
    known = np.flatnonzero(~np.isnan(means))
    statistic, own = mean_statistic(means[known]), [groups[i] for i in known]
    interval = bootstrap_interval(statistic, own, seed=0, num_resamples=NUM_RESAMPLES)
    return Figure(float(means[known].mean()), interval)


def difference_of(one: Values, other: Values, groups: Sequence[str]) -> PairedDifference:
    """How (S, V) differ on the same videos, in which each counts by its mean over the seeds."""
    return paired_difference(mean_statistic(one.mean(axis=0)), mean_statistic(other.mean(axis=0)), groups)


def best(rows: Sequence[Row]) -> Row:
    """The one of the highest accuracy, the first of several."""
    return max(rows, key=lambda row: float(row.hits.mean()))


def attentive(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.looks]


def others(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.looks]


# What is said of it


def report(rows: Sequence[Row], options: argparse.Namespace, store_path: Path) -> str:
    """All tables, and what to know about them."""
    parts = [accuracy_table(rows)]
    if attentive(rows):
        if "pointing" in attentive(rows)[0].looks:
            parts.append(pointing_table(attentive(rows)))
        parts.append(faithfulness_table(attentive(rows)))
    parts.append(f"```sh\n{command(options, full=options.full)}\n```")
    parts.append(wrapped(" ".join([taken_in_words(rows), *([] if options.full else [cut_in_words(rows)])])))
    if not options.full:
        hours = forecast_seconds(full_rows(), options, store_path) / 3600
        parts.append(
            wrapped(
                f"The full experiment is the same command with `--full`: {full_in_words()}. By its own forecast its "
                f"trainings and plain evaluations take {hours:.1f} hours here at most; early stopping shortens them."
            )
        )
    return "\n\n".join(parts)


def accuracy_table(rows: Sequence[Row]) -> str:
    reference = best(others(rows)) if others(rows) else None
    name = "the best without attention" if reference is None else reference.name
    lines = [[row.name, *accuracy_cells(row, reference), *uniform_cells(row)] for row in rows]
    heads = ["accuracy %", "mean", "sd over seeds", "95 %", f"difference from {name}"]
    table = markdown([*heads, "with uniform attention", "fall"], lines)
    num_videos, num_groups = rows[0].hits.shape[1], len(set(rows[0].groups))
    about = wrapped(
        f"{num_videos} test videos of {num_groups} source films, {counted(len(rows[0].runs), 'seed')}; intervals "
        "are over films and differences paired on the videos. The row that all are compared with is the best without "
        "attention on these very videos, which favours it."
    )
    return f"{table}\n\n{about}"


def summary_table(rows: Sequence[Row]) -> str:
    """Accuracy and where each row looks, for those who read no more than one table."""
    lines = []
    for row in rows:
        accuracy, uniform = figure_of(row.hits, row.groups), uniform_cells(row)[0]
        lines.append([row.name, *with_spread(accuracy), uniform, pointing_cell(row, "pointing")])
    for key, name in BASELINES.items():
        if attentive(rows) and f"pointing_{key}" in attentive(rows)[0].looks:
            lines.append([name, "", "", "", pointing_cell(attentive(rows)[0], f"pointing_{key}")])
    heads = ["trained as", "accuracy %", "95 %", "with uniform attention", "peak touches the person's box %"]
    return markdown(heads, lines)


def pointing_cell(row: Row, name: str) -> str:
    return percent(figure_of(row.looks[name], row.groups).value) if name in row.looks else ""


def accuracy_cells(row: Row, reference: Row | None) -> list[str]:
    sd = percent(float(np.std(row.hits.mean(axis=1), ddof=1))) if len(row.runs) > 1 else ""
    accuracy = figure_of(row.hits, row.groups)
    known = reference is not None and row is not reference
    difference = signed(difference_of(row.hits, reference.hits, row.groups)) if known else ""
    return [percent(accuracy.value), sd, spread(accuracy.interval), difference]


def uniform_cells(row: Row) -> list[str]:
    """Accuracy with uniform attention in the place of what was learned, and by how much it falls."""
    if not row.looks:
        return ["", ""]
    learned, uniform = row.looks["learned"], row.looks["uniform"]
    return [percent(float(uniform.mean())), signed(difference_of(learned, uniform, row.groups))]


def pointing_table(rows: Sequence[Row]) -> str:
    first, lines = rows[0], []
    for row in rows:
        peak, mass = (figure_of(row.looks[name], row.groups) for name in ("pointing", "mass"))
        gain = difference_of(*boxed(row, "pointing", "pointing_centre"))
        entropy = f"{row.looks['entropy'].mean():.3f}"
        lines.append([row.name, *with_spread(peak), signed(gain), *with_spread(mass), entropy])
    for key, name in BASELINES.items():
        if f"pointing_{key}" in first.looks:
            peak, mass = (figure_of(first.looks[f"{of}_{key}"], first.groups) for of in ("pointing", "mass"))
            lines.append([name, *with_spread(peak), "", *with_spread(mass), "1" if key == "uniform" else ""])
    heads = ["where it looks", "peak touches the person's box %", "95 %", "difference from the centre"]
    return markdown([*heads, "attention in the box %", "95 %", "entropy, 1 is uniform"], lines)


def boxed(row: Row, *names: str) -> tuple[Values, Values, list[str]]:
    """Two figures of the videos that have boxes, and their groups."""
    known = ~np.isnan(row.looks[names[0]]).any(axis=0)
    one, other = (row.looks[name][:, known] for name in names)
    return one, other, [group for group, has in zip(row.groups, known, strict=True) if has]


def faithfulness_table(rows: Sequence[Row]) -> str:
    """What else `evaluate --faithfulness` asks; a run's own interval counts, as curves are not kept by video."""
    asked = {"other_video": "another video's", "time_shuffled": "steps shuffled", "untrained": "untrained scorer",
             "deletion": "cells gone", "insertion": "cells come"}  # fmt: skip
    lines = []
    for row in rows:
        tests = [evaluation_of(run)["faithfulness"] for run in row.runs]
        lines.append([row.name, *(over_runs(tests, name) for name in asked)])
    table = markdown(["what speaks for it", *asked.values()], lines)
    about = wrapped(
        "In points, means over the seeds, and in how many of them the run's own 95 % interval is over zero. What "
        "accuracy loses with other attention in its place; how much faster than in random order the probability of the "
        "predicted class falls as the most attended cells go first, and rises as they come first."
    )
    return f"{table}\n\n{about}"


def over_runs(tests: Sequence[dict[str, Any]], name: str) -> str:
    known = [test for test in tests if test["differences"].get(name) is not None]
    if not known:
        return ""
    sure = sum((test["intervals"][name][0] or 0) > 0 for test in known)
    return f"{100 * np.mean([test['differences'][name] for test in known]):+.1f} ({sure} of {len(known)})"


def wrapped(text: str) -> str:
    """Lines as long as those around them."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def spread(interval: tuple[float, float]) -> str:
    return "" if np.isnan(interval).any() else f"{percent(interval[0])} to {percent(interval[1])}"


def with_spread(figure: Figure) -> list[str]:
    return [percent(figure.value), spread(figure.interval)]


def signed(found: PairedDifference) -> str:
    ends = "" if np.isnan(found.interval).any() else " ({:+.1f} to {:+.1f})".format(*(100 * e for e in found.interval))
    return f"{100 * found.difference:+.1f}{ends}"


def command(options: argparse.Namespace, *, full: bool) -> str:
    """The line that makes the tables again, with the names of files left open."""
    words = ["python", "tests/bench/experiment_jhmdb.py", "JHMDB/", "--weights", "bvlc_googlenet.pth", "--out", "jhmdb"]
    words += ["--seeds", str(options.seeds), "--write", *(["--full"] if full else [])]
    for name in ("rows", "max_steps", "jobs"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def taken_in_words(rows: Sequence[Row]) -> str:
    """Minutes by the runs' own records, so that those taken before an interruption count as well."""
    runs = [run for row in rows for run in row.runs]
    training = sum(run.manifest.result["seconds"] for run in runs) / 60
    evaluation = sum(evaluation_of(run)["seconds"] for run in runs) / 60
    evaluation += sum(float(row.looks["seconds"].sum()) for row in attentive(rows)) / 60
    machine = runs[0].manifest.machine
    return (
        f"{len(runs)} trainings took {training:.1f} minutes and their evaluations {evaluation:.1f} on {default_jobs()} "
        f"cores ({processor()[0]}; threads: {machine['threads']}; device: {machine['device']}), features not counted."
    )


def cut_in_words(rows: Sequence[Row]) -> str:
    ours = [run.manifest.training for row in rows for run in row.runs]

    def used(name: str) -> str:
        return " or ".join(f"{value:g}" for value in sorted({getattr(training, name) for training in ours}))

    return (
        f"Cut to fit: a block every {used('block_stride')} stored frames, LSTM layers: {used('num_layers')} of "
        f"{used('hidden_dim')}, {used('fps')} frames a second, lambda {used('attention_penalty')}."
    )


def full_in_words() -> str:
    lambdas, rates = (" / ".join(f"{value:g}" for value in values) for values in (FULL_LAMBDAS, FULL_RATES))
    return (
        f"a block from every stored frame on, {FULL['num_layers']} layers of {FULL['hidden_dim']}, lambda {lambdas}, "
        f"{rates} frames a second"
    )


def plan_in_words(options: argparse.Namespace, store_path: Path) -> str:
    if not store_path.exists():
        plan = plan_extraction(options.videos, store_path, ExtractConfig(backbone=BACKBONE, jobs=options.jobs))
        size, minutes = plan.estimated_bytes / 1e9, plan.estimated_seconds / 60
        return (
            f"to extract first: {plan.data.num_videos} videos, {plan.estimated_frames} frames, {size:.1f} GB, "
            f"{minutes:.0f} minutes; trainings are planned once that is done"
        )
    settings = row_settings(options)
    seconds = forecast_seconds(settings, options, store_path)
    return f"{len(settings)} rows x {options.seeds} seeds, {seconds / 60:.0f} minutes at most still, tests not counted"


def forecast_seconds(rows: Mapping[str, dict[str, Any]], options: argparse.Namespace, store_path: Path) -> float:
    """By the library's forecast of a grid. Lambda makes no step slower: rows that differ in it alone are timed once."""
    split = split_of(FeatureStore(store_path))
    penalties: dict[TrainConfig, list[float]] = {}
    for settings in rows.values():
        config = TrainConfig(**settings | {"split": split, "jobs": options.jobs})
        without = dataclasses.replace(config, attention_penalty=0.0)
        penalties.setdefault(without, []).append(config.attention_penalty)
    plans = (
        plan_grid(grid_of(config, options.seeds, values), store_path, runs_dir=options.out / "runs", part=PART)
        for config, values in penalties.items()
    )
    return sum(plan.seconds for plan in plans)


# What is drawn


def write_figures(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Figures into `.assets`; returns the lines that show them in the guide."""
    ASSETS.mkdir(exist_ok=True)
    shown = [write_plot(ASSETS / "jhmdb-accuracy.svg", "Test accuracy", accuracy_plot(rows))]
    if attentive(rows):
        chosen = best(attentive(rows))
        if "pointing" in chosen.looks:
            plot = pointing_plot(attentive(rows))
            shown.append(write_plot(ASSETS / "jhmdb-pointing.svg", "Peak touches the person's box", plot))
        write_jpeg(ASSETS / "jhmdb-looks.jpg", examples(chosen.runs[0], options))
        shown.append(f"![Clips with where it looked and the person's box]({address(ASSETS / 'jhmdb-looks.jpg')})")
        shown.append(
            wrapped(
                f"*{chosen.name}, the best with attention, its first seed: in order of paths the first clip of each "
                f"class that it recognises, and of each that it does not, up to {SHOWN_CLASSES} of each kind. Light is "
                "where it looks, the thin line is the person's box.*"
            )
        )
    return "\n\n".join(shown)


def accuracy_plot(rows: Sequence[Row]) -> Plot:
    return plot_of({row.name: figure_of(row.hits, row.groups) for row in rows})


def pointing_plot(rows: Sequence[Row]) -> Plot:
    figures = {row.name: figure_of(row.looks["pointing"], row.groups) for row in rows}
    baselines = {name: rows[0].looks.get(f"pointing_{key}") for key, name in BASELINES.items()}
    known = {name: figure_of(values, rows[0].groups) for name, values in baselines.items() if values is not None}
    return plot_of(figures | known)


def plot_of(figures: Mapping[str, Figure]) -> Plot:
    return intervals([Dot(name, value, known_interval(interval)) for name, (value, interval) in figures.items()])


def write_plot(path: Path, title: str, plot: Plot) -> str:
    path.write_bytes(base64.b64decode(plot.address.partition("base64,")[2]))
    return f"**{title}**\n\n![{title}. {plot.words}]({address(path)})"


def address(path: Path) -> str:
    """Where a picture is, as seen from the guide."""
    return os.path.relpath(path, GUIDE.parent)


def examples(run: Run, options: argparse.Namespace) -> Picture:
    """Figs. 2 to 5: clips that a run recognises, and clips that it does not, with where it looked."""
    recognizer = Recognizer(run, jobs=options.jobs)
    config = PictureConfig(width=150, scale="frame")
    boxes = box_source(None, run, config, options.store or options.out / "features.h5")
    titles, strips = [], []
    for kind, right in (("Right", True), ("Wrong", False)):
        clips = first_of_each_class(evaluation_of(run)["videos"], right=right)
        if not clips:
            continue
        titles.append(f"{kind}: by path the first clip of each class, {len(clips[:SHOWN_CLASSES])} of {len(clips)}")
        strips.append([example(recognizer, options.videos / v["path"], v["label"], config, boxes)
                       for v in clips[:SHOWN_CLASSES]])  # fmt: skip
    return stacked(titles, strips)


def first_of_each_class(videos: Sequence[Mapping[str, Any]], *, right: bool) -> list[Mapping[str, Any]]:
    """By path, the first evaluated video of each class that was recognised, or was not."""
    first: dict[str, Mapping[str, Any]] = {}
    for video in sorted(videos, key=lambda video: video["path"]):
        if (video["predicted"] == video["label"]) == right:
            first.setdefault(video["label"], video)
    return list(first.values())


def example(recognizer: Recognizer, clip: Path, label: str, config: PictureConfig, boxes: BoxSource | None) -> Picture:
    look = look_at(recognizer, clip, config, truth=[label], boxes=boxes)
    return strip([strip_row(look, config)], config)


def write_jpeg(path: Path, picture: Picture) -> None:
    """As good as fits into what a page should load."""
    for quality in (90, 85, 80, 70, 60):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_PICTURE_BYTES:
            break
    path.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    try:
        main()
    except AttnrecError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
