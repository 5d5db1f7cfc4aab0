"""TensorBoard's event files of a training, with the figures of `training.jsonl`; needs `attnrec[tensorboard]`."""

import importlib.util
from pathlib import Path
from typing import Any

from attnrec.errors import ConfigError

_FLUSH_SECONDS = 5
_NO_FIGURES = ("kind", "epoch", "step")


def require_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        ConfigError: It is not.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard needs tensorboard, which is not installed; install attnrec[tensorboard]")


class EventFiles:
    """Writes lines of the log as scalars, named `epoch/loss` and so on, at the training's steps.

    Args:
        folder: Folder of the run.
        step: Steps done; TensorBoard drops what an earlier process wrote of later ones.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # The writer keeps no file of its own as long as nothing is written.
        self._writer = SummaryWriter(folder, purge_step=step + 1, flush_secs=_FLUSH_SECONDS)

    def add(self, record: dict[str, Any]) -> None:
        """Write a line of the log."""
        for name, value in record.items():
            if name not in _NO_FIGURES and value is not None:
                tag = f"{record['kind']}/{name}"
                self._writer.add_scalar(tag, value, record["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
