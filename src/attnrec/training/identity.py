"""What a run is: the settings that decide its weights, its name, and the command lines that make it again."""

import dataclasses
import json
import shlex
from typing import Any

from attnrec.settings import Recipe, TrainConfig, settings_of, words_of
from attnrec.training.run import Run

_SETTINGS = settings_of(TrainConfig)
_MOST_NAME_BYTES = 200  # file systems take 255, with the number behind it
SCHEDULE = tuple(name for name, setting in _SETTINGS.items() if setting.by_data)


def _is_decisive(name: str, config: TrainConfig) -> bool:
    return _SETTINGS[name].decides and (config.model == "attention" or not _SETTINGS[name].of_attention)


def settings_given(config: TrainConfig) -> dict[str, Any]:
    """Settings that are not at their defaults."""
    fields = TrainConfig.__dataclass_fields__.values()
    return {field.name: value for field in fields if (value := getattr(config, field.name)) != field.default}


def run_name(config: TrainConfig) -> str:
    """`<model>-<what differs from the defaults>`, such as `attention-lambda1-fps6`; a long one is cut."""
    given = {name: v for name, v in settings_given(config).items() if name != "model" and _is_decisive(name, config)}
    name = "-".join([config.model, *(part_of_name(*item) for item in given.items())]).replace("/", "_")
    return name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")


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


def commands_of(run: Run, part: str, evaluation: dict[str, Any]) -> list[str]:
    """Command lines that train a run again and score it, under a comment on the features.

    Args:
        run: The run.
        part: That was evaluated.
        evaluation: What `evaluate` wrote of it; empty where it did not.
    """
    spec, store = run.manifest.features, run.manifest.store
    K = spec.grid_size
    lines = [
        f"# {run.name}, on {store['path']}: {spec.backbone} {spec.layer}, {K} x {K}, of {store['videos_dir']}",
        f"# weights {spec.weights_id}, SHA-256 {spec.weights_sha256}; split {run.manifest.split['sha256']}",
        train_command(run),
    ]
    if evaluation:
        training = run.manifest.training
        ways = (
            ("--reduce", evaluation["reduction"], training.reduction),
            ("--last-steps", evaluation["last_steps"], training.last_steps),
            ("--stride", evaluation["block_stride"], training.block_stride),
        )
        words = ["attnrec", "evaluate", "--run", str(run.path), "--part", part]
        words += [word for option, used, own in ways if used != own for word in (option, str(used))]
        lines.append(shlex.join(words))
    return lines


def _of_preset(model: str) -> tuple[str, ...]:
    attention = ("attention", "add_mean") if model == "attention" else ()
    return (*attention, *SCHEDULE, "block_frames", "num_layers", "hidden_dim")


def train_command(run: Run) -> str:
    """The command line that trains a run again: what was given, or all settings where that was not recorded.

    Split and precision are named whether they were given or found, as another machine may find another precision; and
    so is what a preset made of the data, as another attnrec may make another model of it.
    """
    manifest = run.manifest
    given = manifest.given if manifest.given is not None else settings_given(manifest.training)
    decided = {name: getattr(manifest.training, name) for name in _of_preset(manifest.training.model)}
    settings = decided | given | {"split": manifest.split["name"], "precision": manifest.training.precision}
    words = ["attnrec", "train", manifest.store["path"]]
    for name, setting in settings_of(TrainConfig).items():
        if (value := settings.get(name)) is not None and setting.decides:
            words += words_of(name, value)
    return shlex.join(words)
