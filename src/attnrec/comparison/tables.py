"""Tables of rows: which rows share a table, and how each differs from the table's reference row."""

import dataclasses
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attnrec.comparison.results import ComparedRow, ComparedTable
from attnrec.comparison.row_scores import RowScores, ScoredRun, Split, require_same_videos, row_scores
from attnrec.comparison.rows import build_row
from attnrec.errors import RunError
from attnrec.evaluation.intervals import known_interval
from attnrec.evaluation.significance import holm, paired_difference
from attnrec.training.identity import part_of_name

_EVALUATED = {"reduction": "by-", "last_steps": "last", "block_stride": "every"}


class RowRuns(NamedTuple):
    """The runs of a row, with the settings that they share."""

    settings: dict[str, Any]
    runs: list[ScoredRun]


class _Scored(NamedTuple):
    """A row with its scores, which are None if no run of it has been evaluated."""

    row: ComparedRow
    scores: RowScores | None


Splits = tuple[Split, ...]  # splits of a table, sorted


def tabulate(rows: Sequence[RowRuns], part: str, *, against: str | None, ranked: bool) -> list[ComparedTable]:
    """Arrange rows in tables, in each of which figures are of the same videos.

    Args:
        rows: The rows, in order.
        part: Part of the splits that the rows were scored on.
        against: Name of the row that the others are compared with, or of a run in it; None takes each table's first
            row with figures on all splits.
        ranked: Sort rows, the best first; otherwise they keep their order.

    Raises:
        RunError: There is no row `against`.
    """
    places = _places([run for row in rows for run in row.runs])
    entries: dict[tuple[str, Splits], dict[str, RowRuns]] = {}
    for settings, runs in rows:
        for run in runs:
            own = settings | _evaluated_otherwise(run)
            table = entries.setdefault(places[run.run.manifest.store["fingerprint"], run.split], {})
            table.setdefault(json.dumps(own, sort_keys=True), RowRuns(own, [])).runs.append(run)
    tables = [_table(splits, list(of.values()), part, against, ranked) for (_, splits), of in entries.items()]
    if tables and against is not None and all(table.against is None for table in tables):
        names = ", ".join(row.name for table in tables for row in table.rows)
        raise RunError(f"--against {against}: no such row with figures on all splits; there are {names}")
    return tables[:1] + [dataclasses.replace(table, apart=_why_apart(table, tables[0])) for table in tables[1:]]


def _places(runs: Sequence[ScoredRun]) -> dict[tuple[str, Split], tuple[str, Splits]]:
    """The table of each store and split: folds, known by their names, share one if they test no video twice."""
    videos: dict[str, dict[Split, set[bytes]]] = {}
    for run in runs:
        known = set() if run.predictions is None else set(run.predictions.paths.tolist())
        videos.setdefault(run.run.manifest.store["fingerprint"], {}).setdefault(run.split, set()).update(known)
    places = {}
    for fingerprint, of_split in videos.items():
        families: dict[str, list[Split]] = {}
        for split in sorted(of_split):
            families.setdefault(re.sub(r"-\d+$", "", split.name), []).append(split)
        for family in families.values():
            pairs = itertools.combinations(family, 2)
            folds = all(one.name != two.name and not of_split[one] & of_split[two] for one, two in pairs)
            for split in family:
                places[fingerprint, split] = (fingerprint, tuple(family) if folds else (split,))
    return places


def _evaluated_otherwise(run: ScoredRun) -> dict[str, Any]:
    """The evaluation settings that differ from the run's own."""
    own = dataclasses.asdict(run.run.manifest.training)
    found = {name: run.evaluation.get(name) for name in _EVALUATED}
    return {f"evaluated {name}": value for name, value in found.items() if value not in (None, own[name])}


def _table(splits: Splits, entries: list[RowRuns], part: str, against: str | None, ranked: bool) -> ComparedTable:
    rows = []
    for name, entry in zip(_row_names([entry.settings for entry in entries]), entries, strict=True):
        scores = row_scores(entry.runs)
        rows.append(_Scored(build_row(name, *entry, scores, splits), scores))
    if ranked:
        rows.sort(key=lambda each: -1.0 if each.row.figure is None else each.row.figure, reverse=True)
    reference = next((each for each in rows if _may_be_reference(each, splits, against)), None)
    runs = [run for entry in entries for run in entry.runs]
    manifest = runs[0].run.manifest
    folds = {run.split: run.predictions for run in runs if run.predictions}.values()
    return ComparedTable(
        dataset=manifest.store["dataset"],
        store_fingerprint=manifest.store["fingerprint"],
        backbone=manifest.features.backbone,
        weights_sha256=manifest.features.weights_sha256,
        splits=[split.name for split in splits],
        split_sha256=[split.sha256 for split in splits],
        leaking=any(run.run.manifest.split["leaking_groups"] for run in runs),
        part=part,
        metric="map" if manifest.model.multilabel else "accuracy",
        num_videos=sum(len(fold.paths) for fold in folds),
        num_groups=len({group for fold in folds for group in fold.groups.tolist()}),
        against=None if reference is None else reference.row.name,
        apart=None,
        rows=[each.row for each in rows] if reference is None else _compared(rows, reference),
    )


def _row_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Names of rows: the model, and the settings in which rows that have them differ."""
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


def _may_be_reference(scored: _Scored, splits: Splits, against: str | None) -> bool:
    """Whether a row has figures on all splits and, if `against` is given, is that row."""
    row, scores = scored
    names = {row.name, *(run.run for run in row.runs), *(run.path for run in row.runs)}
    named = against is None or not names.isdisjoint({against, str(Path(against))})  # a folder may end in a slash
    return named and scores is not None and tuple(scores.splits) == splits


def _compared(rows: Sequence[_Scored], reference: _Scored) -> list[ComparedRow]:
    """Add to rows their differences from the reference row, if the videos are the same."""
    other = reference.scores
    assert other is not None
    found = {}
    for i, each in enumerate(rows):
        if each is not reference and (own := each.scores) is not None and own.splits == other.splits:
            require_same_videos(own.counted[0].run, own.videos, other.videos)
            found[i] = paired_difference(own.statistic, other.statistic, own.groups)
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
        for i, (row, _) in enumerate(rows)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _why_apart(table: ComparedTable, first: ComparedTable) -> str:
    """Why a table's rows are not in the first table."""
    if table.store_fingerprint != first.store_fingerprint:
        names = f" (dataset {table.dataset}, not {first.dataset})" if table.dataset != first.dataset else ""
        return f"features of another store{names}, of {table.backbone}"
    return f"split {', '.join(table.splits)} has other {table.part} videos than {', '.join(first.splits)}"
