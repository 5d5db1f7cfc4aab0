"""Action recognition with visual attention: train on a folder of videos, see where the model looks.

    import attnrec

    attnrec.extract("videos", "out.h5")
    report = attnrec.train("out.h5")
    attnrec.evaluate(report.run)
    recognizer = attnrec.load_run(report.run)
    recognizer.predict("clip.mp4").probs
    recognizer.attend("clip.mp4").attention  # (S, K, K)

In a notebook what these give shows itself; `attnrec guide notebook` walks through it. For your own models and training,
`BlockDataset` gives the blocks of a store, and `AttentionLSTM`, `PooledLSTM` and `SoftmaxRegression` are the
recognisers. The names below load what they need on first use.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnrec.cli.lines import show_progress
    from attnrec.comparison.compare import compare
    from attnrec.comparison.report import write_report
    from attnrec.errors import AttnrecError
    from attnrec.evaluation.attended import AttendedClip
    from attnrec.evaluation.evaluate import evaluate
    from attnrec.evaluation.predict import Recognizer, load_run, predict
    from attnrec.export import export as export_onnx
    from attnrec.features.block_dataset import BlockDataset
    from attnrec.features.extract import extract
    from attnrec.models.attention import AttentionLSTM
    from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
    from attnrec.pictures.gallery import gallery
    from attnrec.pictures.run_page import write_run_page
    from attnrec.pictures.visualize import versus, visualize
    from attnrec.settings import ExtractConfig, GridConfig, PictureConfig, TrainConfig
    from attnrec.training.run import Run
    from attnrec.training.train import resume, train

# By default OpenMP's threads spin while they wait; beside any other busy process training then takes ten times as long.
# OpenMP reads this when torch is loaded; the second variable is for Intel's and LLVM's.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
if "torch" not in sys.modules and not {*_WAITING, "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(_WAITING)

_HOMES = {
    "AttendedClip": "attnrec.evaluation.attended",
    "AttentionLSTM": "attnrec.models.attention",
    "AttnrecError": "attnrec.errors",
    "BlockDataset": "attnrec.features.block_dataset",
    "ExtractConfig": "attnrec.settings",
    "GridConfig": "attnrec.settings",
    "PictureConfig": "attnrec.settings",
    "PooledLSTM": "attnrec.models.baselines",
    "Recognizer": "attnrec.evaluation.predict",
    "Run": "attnrec.training.run",
    "SoftmaxRegression": "attnrec.models.baselines",
    "TrainConfig": "attnrec.settings",
    "compare": "attnrec.comparison.compare",
    "evaluate": "attnrec.evaluation.evaluate",
    "export_onnx": "attnrec.export:export",
    "extract": "attnrec.features.extract",
    "gallery": "attnrec.pictures.gallery",
    "load_run": "attnrec.evaluation.predict",
    "predict": "attnrec.evaluation.predict",
    "resume": "attnrec.training.train",
    "show_progress": "attnrec.cli.lines",
    "train": "attnrec.training.train",
    "versus": "attnrec.pictures.visualize",
    "visualize": "attnrec.pictures.visualize",
    "write_report": "attnrec.comparison.report",
    "write_run_page": "attnrec.pictures.run_page",
}

__all__ = [
    "AttendedClip",
    "AttentionLSTM",
    "AttnrecError",
    "BlockDataset",
    "ExtractConfig",
    "GridConfig",
    "PictureConfig",
    "PooledLSTM",
    "Recognizer",
    "Run",
    "SoftmaxRegression",
    "TrainConfig",
    "compare",
    "evaluate",
    "export_onnx",
    "extract",
    "gallery",
    "load_run",
    "predict",
    "resume",
    "show_progress",
    "train",
    "versus",
    "visualize",
    "write_report",
    "write_run_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, own_name = _HOMES[name].partition(":")
    return getattr(import_module(home), own_name or name)


def __dir__() -> list[str]:
    return sorted(__all__)
