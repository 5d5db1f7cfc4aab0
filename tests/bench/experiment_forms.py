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
import statistics
import sys
import time
from collections.abc import Mapping
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
    person_boxes,
    row_of,
    signed,
    split_of,
    taken_in_words,
    trained,
    with_spread,
    wrapped,
)
from written import TOP, markdown, write_between

from attnrec.distributed import World
from attnrec.features.store import FeatureStore
from attnrec.runtime import prepare_cpu
from attnrec.settings import TrainConfig
from attnrec.training.plan import prepare
from attnrec.training.step import Stepper

GUIDE = TOP / "src/attnrec/guide/forms.md"
STEP_ROUNDS = 20
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
    made, configs = [], {}
    for name, settings in rows().items():
        if name not in options.chosen:
            continue
        store = FeatureStore(options.store, settings["layer"])
        config = dataclasses.replace(TrainConfig(**settings), split=split_of(store), jobs=options.jobs)
        configs[name] = config
        runs = trained(config, options.seeds, options.store, options.out / "runs")
        for run in runs:
            evaluate_missing(run, options.store, options)
        targets = person_boxes(store)
        made.append(row_of(name, runs, [looked(run, store, targets, options.out) for run in runs]))
        print(f"{name}: {100 * made[-1].hits.mean():.1f} %", file=sys.stderr, flush=True)
    text = report(made, step_seconds(options.store, configs))
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


def report(made: list[Row], steps: Mapping[str, float]) -> str:
    """The table, and what to know about it."""
    first = made[0]
    lines = [[row.name, *accuracy_cells(row, first), *look_cells(row), f"{1000 * steps[row.name]:.0f}"] for row in made]
    heads = ["attention, glimpse, layers", "accuracy %", "sd over seeds", "95 %", "difference from the first row"]
    heads += ["peak touches the person's box %", "95 %", "difference from the centre", "entropy", "ms a step"]
    about = (
        f"{first.hits.shape[1]} test videos of {len(set(first.groups))} source films, {len(first.runs)} seeds; "
        "intervals are over films, differences paired on the videos. Steps have as many blocks in every row, and were "
        f"timed by turns, {STEP_ROUNDS} of each. "
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


def step_seconds(store_path: Path, configs: Mapping[str, TrainConfig]) -> dict[str, float]:
    """Seconds of a training step with the reading of its batch by row, medians of steps that alternate between rows."""
    sessions = {name: prepare(store_path, config) for name, config in configs.items()}
    rng = np.random.default_rng(0)
    steppers = {name: Stepper(session, World()) for name, session in sessions.items()}
    batches = {}
    for name, session in sessions.items():
        chosen = rng.integers(0, len(session.train), (1 + STEP_ROUNDS, session.recipe.batch_size))
        batches[name] = steppers[name].batches(session.train, list(chosen))
        steppers[name].model.train()
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for k in range(1 + STEP_ROUNDS):  # the first warms up
        for name, stepper in steppers.items():
            started = time.perf_counter()
            stepper.take(next(batches[name]), k)
            times[name] += [time.perf_counter() - started] if k else []
    return {name: statistics.median(each) for name, each in times.items()}


if __name__ == "__main__":
    main()
