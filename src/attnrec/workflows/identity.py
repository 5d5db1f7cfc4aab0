"""What a run is, whatever it is called: the settings that decide its weights, its features and its split."""

import dataclasses
import json
from typing import Any

from attnrec.config import TrainConfig
from attnrec.run import Run

FREE = ("device", "jobs", "save_every")  # leave the weights as they are, but for their last digits
OF_ATTENTION = ("attention", "add_mean", "attention_penalty", "penalty_reduction", "scorer_layers", "attention_dim")
# What a preset makes of the number of blocks, and so of each fold's own.
SCHEDULE = ("batch_size", "epochs", "patience", "learning_rate")
_SHORT = {"attention_penalty": "lambda", "attention": "", "block_frames": "frames", "block_stride": "stride"}


def settings_given(config: TrainConfig) -> dict[str, Any]:
    """Settings that are not at their defaults."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def run_name(config: TrainConfig) -> str:
    """`<model>-<what differs from the defaults>`, for example `attention-lambda1-fps6`."""
    left_out = {"model", *FREE} | (set() if config.model == "attention" else set(OF_ATTENTION))
    given = {name: value for name, value in settings_given(config).items() if name not in left_out}
    return "-".join([config.model, *(part_of_name(*item) for item in given.items())]).replace("/", "_")


def part_of_name(name: str, value: Any) -> str:
    """A setting in the name of a run or a row."""
    short = _SHORT.get(name, name.replace("_", ""))
    if isinstance(value, bool):
        return short if value else f"no{short}"
    return short + (f"{value:g}" if isinstance(value, float) else str(value))


def identity(config: TrainConfig, layer: str, fingerprint: str, split_sha256: str) -> str:
    """All that decides the weights of a training, as text.

    Args:
        config: Settings without gaps.
        layer: Whose features are trained on.
        fingerprint: Of the feature store.
        split_sha256: Hash of the split.
    """
    decisive = _decisive(config) | {"layer": layer, "fingerprint": fingerprint, "split_sha256": split_sha256}
    return json.dumps(decisive, sort_keys=True)


def identity_of(run: Run) -> str:
    """That of a run."""
    manifest = run.manifest
    return identity(manifest.training, manifest.features.layer, manifest.store["fingerprint"], manifest.split["sha256"])


def row_settings(config: TrainConfig, given: dict[str, Any] | None, layer: str) -> dict[str, Any]:
    """What runs of one row of a table have in common: all that is decisive but for the seed and the split.

    Args:
        config: Settings without gaps.
        given: Those that were given; None where that is not known.
        layer: Whose features were trained on.
    """
    settings = _decisive(config) | {"layer": layer}
    if given is not None:
        settings |= {name: given.get(name) for name in SCHEDULE}
    return {name: value for name, value in settings.items() if name != "seed"}


def row_settings_of(run: Run) -> dict[str, Any]:
    """Those of a run."""
    return row_settings(run.manifest.training, run.manifest.given, run.manifest.features.layer)


def _decisive(config: TrainConfig) -> dict[str, Any]:
    left_out = {*FREE, "split", "layer"} | (set() if config.model == "attention" else set(OF_ATTENTION))
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
