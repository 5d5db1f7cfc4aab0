"""What a run is, whatever it is called: the settings that decide its weights, its features and its split."""

import dataclasses
import json
from typing import Any

from attnrec.settings import Recipe, TrainConfig, settings_of
from attnrec.training.run import Run

_SETTINGS = settings_of(TrainConfig)
SCHEDULE = tuple(name for name, setting in _SETTINGS.items() if setting.by_data)


def _is_decisive(name: str, config: TrainConfig) -> bool:
    return _SETTINGS[name].decides and (config.model == "attention" or not _SETTINGS[name].of_attention)


def settings_given(config: TrainConfig) -> dict[str, Any]:
    """Settings that are not at their defaults."""
    fields = TrainConfig.__dataclass_fields__.values()
    return {field.name: value for field in fields if (value := getattr(config, field.name)) != field.default}


def run_name(config: TrainConfig) -> str:
    """`<model>-<what differs from the defaults>`, for example `attention-lambda1-fps6`."""
    given = {name: v for name, v in settings_given(config).items() if name != "model" and _is_decisive(name, config)}
    return "-".join([config.model, *(part_of_name(*item) for item in given.items())]).replace("/", "_")


def part_of_name(name: str, value: Any) -> str:
    """A setting in the name of a run or a row."""
    short = _SETTINGS[name].short if name in _SETTINGS else None
    short = name.replace("_", "") if short is None else short
    if isinstance(value, bool):
        return short if value else f"no{short}"
    return short + (f"{value:g}" if isinstance(value, float) else str(value))


def identity(recipe: Recipe, layer: str, fingerprint: str, split_sha256: str) -> str:
    """All that decides the weights of a training, as text.

    Args:
        recipe: Its settings.
        layer: Whose features are trained on.
        fingerprint: Of the feature store.
        split_sha256: Hash of the split.
    """
    decisive = _decisive(recipe) | {"layer": layer, "fingerprint": fingerprint, "split_sha256": split_sha256}
    return json.dumps(decisive, sort_keys=True)


def identity_of(run: Run) -> str:
    """That of a run."""
    manifest = run.manifest
    return identity(manifest.training, manifest.features.layer, manifest.store["fingerprint"], manifest.split["sha256"])


def row_settings(recipe: Recipe, given: dict[str, Any] | None, layer: str) -> dict[str, Any]:
    """What runs of one row of a table have in common: all that is decisive but for the seed and the split.

    Args:
        recipe: Its settings.
        given: Those that were given; None where that is not known.
        layer: Whose features were trained on.
    """
    settings = _decisive(recipe) | {"layer": layer}
    if given is not None:
        settings |= {name: given.get(name) for name in SCHEDULE}
    return {name: value for name, value in settings.items() if name != "seed"}


def row_settings_of(run: Run) -> dict[str, Any]:
    """Those of a run."""
    return row_settings(run.manifest.training, run.manifest.given, run.manifest.features.layer)


def _decisive(recipe: Recipe) -> dict[str, Any]:
    settings = dataclasses.asdict(recipe)
    return {name: v for name, v in settings.items() if name not in ("split", "layer") and _is_decisive(name, recipe)}
