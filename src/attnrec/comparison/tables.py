"""Tables of rows that may be ranked: who stands with whom, and who differs from whom."""

import dataclasses
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attnrec.comparison.results import ComparedRow, ComparedTable
from attnrec.comparison.row_scores import RowScores, ScoredRun, require_same_videos, row_scores
from attnrec.comparison.rows import build_row, known_interval
from attnrec.errors import RunError
from attnrec.evaluation.significance import holm, paired_difference
from attnrec.training.identity import part_of_name

_EVALUATED = {"reduction": "by-", "last_steps": "last", "block_stride": "every"}


class RowRuns(NamedTuple):
    """A row to be: the settings that its runs share, and the runs."""

    settings: dict[str, Any]
    runs: list[ScoredRun]


Splits = tuple[tuple[str, str], ...]  # names and hashes of a table's splits, sorted
_Entry = tuple[dict[str, Any], list[ScoredRun]]


def tabulate(rows: Sequence[RowRuns], part: str, *, against: str | None, ranked: bool) -> list[ComparedTable]:
    """Tables of rows whose figures are of the same videos.

    Args:
        rows: In order.
        part: Of the splits that the rows were scored on.
        against: Name of the row that the others are compared with, or of a run in it; None takes each table's first
            that misses no split.
        ranked: Put the best row first; otherwise they stay in order.

    Raises:
        RunError: There is no such row.
    """
    places = _places([run for row in rows for run in row.runs])
    entries: dict[tuple[str, Splits], dict[str, _Entry]] = {}
    for settings, runs in rows:
        for run in runs:
            own = settings | _evaluated_otherwise(run)
            table = entries.setdefault(places[run.run.manifest.store["fingerprint"], run.split], {})
            table.setdefault(json.dumps(own, sort_keys=True), (own, []))[1].append(run)
    tables = [_table(splits, list(of.values()), part, against, ranked) for (_, splits), of in entries.items()]
    if tables and against is not None and all(table.against is None for table in tables):
        names = ", ".join(row.name for table in tables for row in table.rows)
        raise RunError(f"--against {against}: no such row with figures on all splits; there are {names}")
    return tables[:1] + [dataclasses.replace(table, apart=_why_apart(table, tables[0])) for table in tables[1:]]


def _places(runs: Sequence[ScoredRun]) -> dict[tuple[str, tuple[str, str]], tuple[str, Splits]]:
    """The table of each store and split: folds, told by their names, share one if they test no video twice."""
    videos: dict[str, dict[tuple[str, str], set[bytes]]] = {}
    for run in runs:
        known = set() if run.predictions is None else set(run.predictions.paths.tolist())
        videos.setdefault(run.run.manifest.store["fingerprint"], {}).setdefault(run.split, set()).update(known)
    places = {}
    for fingerprint, of_split in videos.items():
        families: dict[str, list[tuple[str, str]]] = {}
        for name, sha256 in sorted(of_split):
            families.setdefault(re.sub(r"-\d+$", "", name), []).append((name, sha256))
        for family in families.values():
            pairs = itertools.combinations(family, 2)
            folds = all(one[0] != two[0] and not of_split[one] & of_split[two] for one, two in pairs)
            for split in family:
                places[fingerprint, split] = (fingerprint, tuple(family) if folds else (split,))
    return places


def _evaluated_otherwise(run: ScoredRun) -> dict[str, Any]:
    """How a run was evaluated where that is not by its own settings."""
    own = dataclasses.asdict(run.run.manifest.training)
    found = {name: run.evaluation.get(name) for name in _EVALUATED}
    return {f"evaluated {name}": value for name, value in found.items() if value not in (None, own[name])}


def _table(splits: Splits, entries: list[_Entry], part: str, against: str | None, ranked: bool) -> ComparedTable:
    names = _row_names([settings for settings, _ in entries])
    scores = [row_scores(runs) for _, runs in entries]
    rows = [
        build_row(name, settings, runs, score, splits)
        for name, (settings, runs), score in zip(names, entries, scores, strict=True)
    ]
    if ranked:
        order = sorted(range(len(rows)), key=lambda i: _figure_or_least(rows[i]), reverse=True)
        rows, scores = [rows[i] for i in order], [scores[i] for i in order]
    reference = _reference(rows, scores, splits, against)
    if reference is not None:
        rows = _compared(rows, scores, reference)
    manifest = entries[0][1][0].run.manifest
    every = {split: run for _, runs in entries for run in runs if run.predictions for split in [run.split]}
    folds = [run.predictions for run in every.values() if run.predictions]
    return ComparedTable(
        dataset=manifest.store["dataset"],
        store_fingerprint=manifest.store["fingerprint"],
        backbone=manifest.features.backbone,
        weights_sha256=manifest.features.weights_sha256,
        splits=[name for name, _ in splits],
        split_sha256=[sha256 for _, sha256 in splits],
        leaking=any(run.run.manifest.split["leaking_groups"] for _, runs in entries for run in runs),
        part=part,
        metric="map" if manifest.model.multilabel else "accuracy",
        num_videos=sum(len(fold.paths) for fold in folds),
        num_groups=len({group for fold in folds for group in fold.groups.tolist()}),
        against=None if reference is None else rows[reference].name,
        apart=None,
        rows=rows,
    )


def _figure_or_least(row: ComparedRow) -> float:
    return -1.0 if row.figure is None else row.figure


def _row_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The model of each row, and the settings in which those rows differ that have them."""
    values: dict[str, set[str]] = {}
    for settings in rows:
        for name, value in settings.items():
            values.setdefault(name, set()).add(repr(value))
    names = []
    for settings in rows:
        parts = [settings["model"]]
        for name, value in settings.items():
            evaluated = name.removeprefix("evaluated ")
            if evaluated != name:
                parts.append(f"{_EVALUATED[evaluated]}{value}")
            elif name != "model" and len(values[name]) > 1 and value is not None and value is not False:
                parts.append(part_of_name(name, value))
        names.append("-".join(parts))
    return names


def _reference(
    rows: Sequence[ComparedRow], scores: Sequence[RowScores | None], splits: Splits, against: str | None
) -> int | None:
    """Index of the row that the others are compared with."""
    for i, (row, score) in enumerate(zip(rows, scores, strict=True)):
        names = {row.name, *(run.run for run in row.runs), *(run.path for run in row.runs)}
        named = against is None or not names.isdisjoint({against, str(Path(against))})  # a folder may end in a slash
        if named and score is not None and tuple(score.splits) == splits:
            return i
    return None


def _compared(rows: list[ComparedRow], scores: Sequence[RowScores | None], reference: int) -> list[ComparedRow]:
    """The rows with their differences from one of them, where the videos are the same."""
    other = scores[reference]
    assert other is not None
    found = {}
    for i, score in enumerate(scores):
        if i != reference and score is not None and score.splits == other.splits:
            require_same_videos(score.counted[0].run, score.videos, other.videos)
            found[i] = paired_difference(score.statistic, other.statistic, score.groups)
    corrected = dict(zip(found, holm([each.p_value for each in found.values()]), strict=True))
    return [
        dataclasses.replace(
            row,
            difference=found[i].difference,
            difference_interval=known_interval(found[i].interval),
            p_value=_known(found[i].p_value),
            corrected_p_value=_known(corrected[i]),
        )
        if i in found
        else row
        for i, row in enumerate(rows)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _why_apart(table: ComparedTable, first: ComparedTable) -> str:
    """Why a table's rows are not ranked among those of the first."""
    if table.store_fingerprint != first.store_fingerprint:
        names = f" (dataset {table.dataset}, not {first.dataset})" if table.dataset != first.dataset else ""
        return f"features of another store{names}"
    return f"split {', '.join(table.splits)} has other {table.part} videos than {', '.join(first.splits)}"
