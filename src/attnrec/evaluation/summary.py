"""Several runs on a part of their splits: the mean of their figures, and whether they look at the same places."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnrec.errors import ConfigError
from attnrec.evaluation.agreement import AttendingRun, attention_agreement
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.faithfulness import require_attention
from attnrec.evaluation.report import EvaluationSummary
from attnrec.runtime import OnProgress, no_progress, resolve_device
from attnrec.training.origin import store_of_run
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run

FIGURES = ("accuracy", "mean_class_accuracy", "top_k_accuracy", "map", "log_loss")


def evaluate_runs(
    runs: Sequence[str | Path | Run],
    store: str | Path | None = None,
    *,
    part: str = "test",
    block_stride: int | None = None,
    faithfulness: bool = False,
    device: str = "auto",
    on_progress: OnProgress = no_progress,
    **settings: Any,
) -> EvaluationSummary:
    """Score several runs, such as folds or seeds, and take the mean of their figures.

    Args:
        runs: Of one dataset.
        store: As in `evaluate`.
        part: Likewise.
        block_stride: Likewise.
        faithfulness: Likewise; also compare the attention of each two runs that see the same blocks.
        device: As in `evaluate`.
        on_progress: Likewise.
        **settings: Likewise.

    Raises:
        ConfigError: The runs are of different datasets, or there are none.
        AttnrecError: As `evaluate`.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    datasets = {run.manifest.store["dataset"] for run in opened}
    if len(datasets) != 1:
        raise ConfigError(f"runs of different datasets have no mean: {', '.join(sorted(datasets)) or 'no run given'}")
    if faithfulness:
        for run in opened:
            require_attention(run)
    settings |= {"part": part, "block_stride": block_stride, "device": device, "on_progress": on_progress}
    reports = [evaluate(run, store, faithfulness=faithfulness, **settings) for run in opened]
    agreement = []
    if faithfulness:
        attending = [_attending(run, store, part, block_stride) for run in opened]
        agreement = attention_agreement(attending, resolve_device(device), on_progress=on_progress)
    columns = {name: [getattr(report, name) for report in reports] for name in FIGURES}
    known = {name: np.array(column) for name, column in columns.items() if None not in column}
    return EvaluationSummary(
        runs=reports,
        mean={name: float(column.mean()) for name, column in known.items()},
        sd={name: float(column.std(ddof=1)) if len(column) > 1 else float("nan") for name, column in known.items()},
        agreement=agreement,
    )


def _attending(run: Run, store: str | Path | None, part: str, block_stride: int | None) -> AttendingRun:
    features = store_of_run(run, store)
    return AttendingRun(run, features, run_blocks(features, run.manifest.training, part, block_stride))
