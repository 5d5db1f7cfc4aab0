"""Action recognition with visual attention: train on a folder of videos, see where the model looks.

    import attnrec

    attnrec.extract("videos", "out.h5")
    report = attnrec.train("out.h5")
    attnrec.evaluate(report.run)
    recognizer = attnrec.load_run(report.run)
    recognizer.predict("clip.mp4").probs
    recognizer.attend("clip.mp4").attention  # (S, K, K)

The names below load what they need when they are first used.
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
    from attnrec.features.extract import extract
    from attnrec.pictures.visualize import visualize
    from attnrec.settings import ExtractConfig, GridConfig, TrainConfig
    from attnrec.training.train import train

# OpenMP's threads spin while they wait, by default, and beside any other busy process training takes ten times as long.
# OpenMP reads this when torch is loaded; the second variable is what Intel's and LLVM's call it.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
if "torch" not in sys.modules and not {*_WAITING, "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update(_WAITING)

_HOMES = {
    "AttnrecError": "attnrec.errors",
    "ExtractConfig": "attnrec.settings",
    "GridConfig": "attnrec.settings",
    "Recognizer": "attnrec.evaluation.predict",
    "TrainConfig": "attnrec.settings",
    "compare": "attnrec.comparison.compare",
    "evaluate": "attnrec.evaluation.evaluate",
    "extract": "attnrec.features.extract",
    "load_run": "attnrec.evaluation.predict",
    "train": "attnrec.training.train",
    "visualize": "attnrec.pictures.visualize",
}

__all__ = [
    "AttnrecError",
    "ExtractConfig",
    "GridConfig",
    "Recognizer",
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
