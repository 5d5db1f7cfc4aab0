"""What `evaluate` kept of every video of a part, read again.

Legend: V videos, C classes.
"""

import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import RunError
from attnrec.run import Run


@dataclass(frozen=True)
class Predictions:
    """Scored videos.

    Attributes:
        paths: Of the videos, bytes, shape (V,).
        groups: Of each, bytes, shape (V,).
        targets: Class indices (V,), or 0 / 1 for each class (V, C) where videos may have several labels.
        probs: Class probabilities, shape (V, C).
    """

    paths: NDArray[np.bytes_]
    groups: NDArray[np.bytes_]
    targets: NDArray[Any]
    probs: NDArray[np.float64]


def read_predictions(run: Run, part: str) -> Predictions | None:
    """Those of a run; None where it has none, or has them of an attnrec that did not write the groups.

    Raises:
        RunError: The file is damaged.
    """
    path = run.path / f"predictions-{part}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "video_group" not in arrays:
                return None
            targets = arrays["video_labels" if "video_labels" in arrays else "video_label"]
            found = Predictions(arrays["video_path"], arrays["video_group"], targets, arrays["video_probs"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: cannot be read ({type(error).__name__}); evaluate the run again") from None
    lengths = {len(found.paths), len(found.groups), len(found.targets), len(found.probs)}
    if len(lengths) != 1 or found.probs.ndim != 2 or not len(found.paths):
        raise RunError(f"{path}: its columns do not agree; evaluate the run again")
    return found
