"""The errors that a user can meet, as types; each message says what is wrong, where, and what to do next."""

from pathlib import Path


class AttnrecError(Exception):
    """Base of every error that a user can cause and fix."""


class ConfigError(AttnrecError):
    """Options that do not fit together, or do not fit the data."""


class DataError(AttnrecError):
    """A folder of videos, a label or a split that cannot be used."""


class VideoError(AttnrecError):
    """A video that cannot be decoded.

    Attributes:
        reason: Short machine-readable reason, one of `attnrec.video.decode.REASONS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FeatureStoreError(AttnrecError):
    """A feature store that is missing, damaged, foreign or made with other settings."""


class RunError(AttnrecError):
    """A run directory that is missing, incomplete or does not fit the input."""


class RunBusyError(RunError):
    """A run that another process is training.

    Attributes:
        path: Folder of the run.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: another `attnrec train` is at work on it; wait for it")
        self.path = path


class WeightsError(AttnrecError):
    """Backbone weights that cannot be read or downloaded, or do not fit the network."""
