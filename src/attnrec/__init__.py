"""Action recognition with visual attention: train on a folder of videos, see where the model looks.

    import attnrec

    attnrec.extract("videos", "out.h5")
    report = attnrec.train("out.h5")
    attnrec.evaluate(report.run)
    recognizer = attnrec.load_run(report.run)
    recognizer.predict("clip.mp4").probs
    recognizer.attend("clip.mp4").attention  # (S, K, K)

For your own models and training, `BlockDataset` gives the blocks of a store, and `AttentionLSTM`, `PooledLSTM` and
`SoftmaxRegression` are the recognisers. The names below load what they need on first use.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnrec.comparison.compare import compare
    from attnrec.errors import AttnrecError
    from attnrec.evaluation.evaluate import evaluate
    from attnrec.evaluation.predict import Recognizer, load_run
    from attnrec.features.block_dataset import BlockDataset
    from attnrec.features.extract import extract
    from attnrec.models.attention import AttentionLSTM
    from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
    from attnrec.pictures.visualize import visualize
    from attnrec.settings import ExtractConfig, GridConfig, TrainConfig
    from attnrec.training.train import train

# By default OpenMP's threads spin while they wait; beside any other busy process training then takes ten times as long.
# OpenMP reads this when torch is loaded; the second variable is for Intel's and LLVM's.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
if "torch" not in sys.modules and not {*_WAITING, "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(_WAITING)

_HOMES = {
    "AttentionLSTM": "attnrec.models.attention",
    "AttnrecError": "attnrec.errors",
    "BlockDataset": "attnrec.features.block_dataset",
    "ExtractConfig": "attnrec.settings",
    "GridConfig": "attnrec.settings",
    "PooledLSTM": "attnrec.models.baselines",
    "Recognizer": "attnrec.evaluation.predict",
    "SoftmaxRegression": "attnrec.models.baselines",
    "TrainConfig": "attnrec.settings",
    "compare": "attnrec.comparison.compare",
    "evaluate": "attnrec.evaluation.evaluate",
    "extract": "attnrec.features.extract",
    "load_run": "attnrec.evaluation.predict",
    "train": "attnrec.training.train",
    "visualize": "attnrec.pictures.visualize",
}

__all__ = [
    "AttentionLSTM",
    "AttnrecError",
    "BlockDataset",
    "ExtractConfig",
    "GridConfig",
    "PooledLSTM",
    "Recognizer",
    "SoftmaxRegression",
    "TrainConfig",
    "compare",
    "evaluate",
    "extract",
    "load_run",
    "train",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
