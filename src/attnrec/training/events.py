"""TensorBoard's event files of a training, with the figures of `training.jsonl`; needs `attnrec[tensorboard]`."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

from attnrec.errors import ConfigError
from attnrec.files import write_error

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

        self._folder = folder
        self._writer = SummaryWriter(folder, purge_step=step + 1, flush_secs=_FLUSH_SECONDS)

    def add(self, record: dict[str, Any]) -> None:
        """Write a line of the log."""
        for name, value in record.items():
            if name not in _NO_FIGURES and value is not None:
                tag = f"{record['kind']}/{name}"
                try:
                    self._writer.add_scalar(tag, value, record["step"])
                except OSError as error:
                    raise write_error(self._folder, error) from None

    def close(self) -> None:
        """Write what is left, if there is room; all of it is in `training.jsonl` as well."""
        with contextlib.suppress(OSError):
            self._writer.close()
