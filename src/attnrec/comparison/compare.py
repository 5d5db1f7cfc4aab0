"""`compare`: tables of configurations with the significance of their differences, beside the paper's figures."""

import json
from collections.abc import Sequence
from pathlib import Path

from attnrec.comparison.published import paper_dataset, published_figures
from attnrec.comparison.results import CompareReport
from attnrec.comparison.row_scores import readable_runs, scored_run
from attnrec.comparison.tables import RowRuns, tabulate
from attnrec.errors import RunError
from attnrec.runtime import OnProgress, no_progress
from attnrec.settings import GridConfig
from attnrec.training.identity import row_settings_of
from attnrec.training.run import RunLike, as_run, find_runs


def compare(
    runs: Sequence[RunLike] = (),
    *,
    grid: GridConfig | None = None,
    store: str | Path | None = None,
    runs_dir: str | Path = "runs",
    part: str = "test",
    against: str | None = None,
    on_progress: OnProgress = no_progress,
) -> CompareReport:
    """Tabulate finished runs by their evaluation, or a grid of runs, training the missing ones first.

    Runs that differ only in seed and fold make one row. Rows are in one table if their figures are of the same videos;
    each is compared with one row of the table by a bootstrap over groups of videos.

    Args:
        runs: Runs, their folders, or reports of them; empty takes all finished runs in `runs_dir`, and reports those
            that cannot be read.
        grid: Grid of runs to train; `runs` is ignored then.
        store: Feature store of the grid; None takes the only one in the current folder.
        runs_dir: Folder of the runs.
        part: Part of the split that figures are of.
        against: Name of the row that the others are compared with, or of a run in it; None takes the first row: the
            best of finished runs, or the first of a grid.
        on_progress: Called after every step.

    Returns:
        The tables.

    Raises:
        RunError: There are no finished runs, a named run is unfinished or damaged, or there is no row
            `against`.
        AttnrecError: The grid does not fit its store.
        KeyboardInterrupt: The process was interrupted; running the same grid again resumes it.
    """
    if grid is None:
        rows, summary = _rows_of(runs, Path(runs_dir), part, on_progress), None
    else:
        from attnrec.comparison.grid import run_grid  # trains, so that it loads torch

        rows, summary = run_grid(grid, store, runs_dir=Path(runs_dir), part=part, on_progress=on_progress)
    tables = tabulate(rows, part, against=against, ranked=grid is None)
    datasets = {paper_dataset(scored.run) for row in rows for scored in row.runs}
    source, figures = published_figures()
    return CompareReport(tables, summary, [figure for figure in figures if figure.dataset in datasets], source)


def _rows_of(named: Sequence[RunLike], runs_dir: Path, part: str, on_progress: OnProgress) -> list[RowRuns]:
    if named:
        chosen = [scored_run(as_run(run), part) for run in named]
    else:
        chosen = readable_runs(find_runs(runs_dir, on_progress=on_progress), part, on_progress)
    if not chosen:
        raise RunError(f"{runs_dir}: no finished run here; make one with `attnrec train`")
    if unfinished := next((scored.run for scored in chosen if not scored.run.finished), None):
        raise RunError(f"{unfinished.path}: is not finished")
    rows: dict[str, RowRuns] = {}
    for scored in chosen:
        settings = row_settings_of(scored.run)
        rows.setdefault(json.dumps(settings, sort_keys=True), RowRuns(settings, [])).runs.append(scored)
    return list(rows.values())
