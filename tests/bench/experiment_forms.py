"""One layer or two, soft or hard: every form of attention on J-HMDB with the paper's own network, side by side.

    attnrec extract JHMDB/ jhmdb.h5 --backbone bvlc_googlenet --layer inception4e,inception5b --grid-size 0
    python tests/bench/experiment_forms.py jhmdb.h5 --out forms [--seeds 3] [--rows 1,4] [--write]

Trains every row with every seed, evaluates it on the test part of the first split, and prints a Markdown table. The
same command goes on after an interruption and takes what is finished. `--write` puts the table between the markers of
the guide on forms of attention.
"""

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from experiment_jhmdb import (
    BASELINES,
    COMMON,
    Row,
    accuracy_cells,
    boxed,
    difference_of,
    evaluate_missing,
    figure_of,
    looked,
    markdown,
    person_boxes,
    row_of,
    signed,
    split_of,
    taken_in_words,
    trained,
    with_spread,
    wrapped,
)
from written import TOP, write_between

from attnrec.features.store import FeatureStore
from attnrec.runtime import prepare_cpu
from attnrec.settings import TrainConfig
from attnrec.training.run import Run

GUIDE = TOP / "src/attnrec/guide/forms.md"
LAYERS = ("inception5b", "inception4e+inception5b")
FORMS: dict[str, dict[str, Any]] = {
    "saliency": {"attention": "saliency", "add_mean": False},
    "location": {"attention": "location", "add_mean": False},
}


def rows() -> dict[str, dict[str, Any]]:
    """Settings of each row by its name; the first is what the others are compared with."""
    found: dict[str, dict[str, Any]] = {}
    for name, glimpse, layer in itertools.product(FORMS, ("soft", "hard"), LAYERS):
        found[f"{name}, {glimpse}, {layer}"] = COMMON | FORMS[name] | {"glimpse": glimpse, "layer": layer}
    for layer in LAYERS:
        found[f"average-pooled, {layer}"] = COMMON | {"model": "avg-pool", "layer": layer}
    return found


def main() -> None:
    options = parsed()
    made = []
    for name, settings in rows().items():
        if name not in options.chosen:
            continue
        store = FeatureStore(options.store, settings["layer"])
        config = dataclasses.replace(TrainConfig(**settings), split=split_of(store), jobs=options.jobs)
        runs = trained(config, options.seeds, options.store, options.out / "runs")
        for run in runs:
            evaluate_missing(run, options.store, options)
        targets = person_boxes(store)
        made.append(row_of(name, runs, [looked(run, store, targets, options.out) for run in runs]))
        print(f"{name}: {100 * made[-1].hits.mean():.1f} %", file=sys.stderr, flush=True)
    text = report(made)
    print(text)
    if options.write:
        write_between(GUIDE, "jhmdb-forms", text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="features of J-HMDB, of both layers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of what was measured")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="CPU threads")
    parser.add_argument("--rows", help="only these rows, by their numbers from 1, as 1,4")
    parser.add_argument("--write", action="store_true", help="renew the table of the guide on forms of attention")
    options = parser.parse_args()
    names = list(rows())
    options.chosen = [names[int(number) - 1] for number in options.rows.split(",")] if options.rows else names
    prepare_cpu(options.jobs)
    return options


def report(made: list[Row]) -> str:
    """The table, and what to know about it."""
    first = made[0]
    lines = [[row.name, *accuracy_cells(row, first), *look_cells(row), step_cell(row.runs)] for row in made]
    heads = ["attention, glimpse, layers", "accuracy %", "sd over seeds", "95 %", "difference from the first row"]
    heads += ["peak touches the person's box %", "95 %", "difference from the centre", "entropy", "ms a step"]
    about = (
        f"{first.hits.shape[1]} test videos of {len(set(first.groups))} source films, {len(first.runs)} seeds; "
        "intervals are over films, differences paired on the videos. A step has as many blocks in every row. "
    )
    parts = [markdown(heads, lines), *([grids_table(made)] if any(row.looks for row in made) else [])]
    return "\n\n".join([*parts, wrapped(about + taken_in_words(made))])


def look_cells(row: Row) -> list[str]:
    """How often the peak is on the person, and how spread the attention is."""
    if "pointing" not in row.looks:
        return [""] * 4
    gain = difference_of(*boxed(row, "pointing", "pointing_centre"))
    return [
        *with_spread(figure_of(row.looks["pointing"], row.groups)),
        signed(gain),
        f"{row.looks['entropy'].mean():.3f}",
    ]


def grids_table(made: list[Row]) -> str:
    """What attention that ignores the frame reaches on each grid: the smaller a cell, the less it touches by chance."""
    lines = []
    for layer in LAYERS:
        row = next((row for row in made if row.name.endswith(f" {layer}") and row.looks), None)
        if row is not None:
            cells = [with_spread(figure_of(row.looks[f"pointing_{key}"], row.groups)) for key in BASELINES]
            lines.append([layer, *itertools.chain.from_iterable(cells)])
    heads = itertools.chain.from_iterable((f"{name} %", "95 %") for name in BASELINES.values())
    return markdown(["peak touches the person's box, layers", *heads], lines)


def step_cell(runs: list[Run]) -> str:
    """Milliseconds of a training step, the median over epochs and seeds."""
    speeds = [line["blocks_per_second"] for run in runs for line in run.read_log() if line["kind"] == "epoch"]
    return f"{1000 * runs[0].manifest.training.batch_size / float(np.median(speeds)):.0f}"


if __name__ == "__main__":
    main()
