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
    """The settings that differ from their defaults."""
    fields = TrainConfig.__dataclass_fields__.values()
    return {field.name: value for field in fields if (value := getattr(config, field.name)) != field.default}


def run_name(config: TrainConfig) -> str:
    """The name of a run: `<model>-<settings not at their defaults>`, such as `attention-lambda1-fps6`; cut if long."""
    given = {name: v for name, v in settings_given(config).items() if name != "model" and _is_decisive(name, config)}
    name = "-".join([config.model, *(part_of_name(*item) for item in given.items())]).replace("/", "_")
    return name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")


def part_of_name(name: str, value: Any) -> str:
    """The part of a run's or row's name that stands for a setting."""
    short = _SETTINGS[name].short if name in _SETTINGS else None
    short = name.replace("_", "") if short is None else short
    if isinstance(value, bool):
        return short if value else f"no{short}"
    return short + (f"{value:g}" if isinstance(value, float) else str(value))


def identity(recipe: Recipe, layer: str, fingerprint: str, split_sha256: str) -> str:
    """Everything that decides the weights of a training, as text.

    Args:
        recipe: Settings of the training.
        layer: CNN layer whose features are trained on.
        fingerprint: Fingerprint of the feature store.
        split_sha256: Hash of the split.
    """
    decisive = _decisive(recipe) | {"layer": layer, "fingerprint": fingerprint, "split_sha256": split_sha256}
    return json.dumps(decisive, sort_keys=True)


def identity_of(run: Run) -> str:
    """The `identity` of a finished or unfinished run."""
    manifest = run.manifest
    return identity(manifest.training, manifest.features.layer, manifest.store["fingerprint"], manifest.split["sha256"])


def row_settings(recipe: Recipe, given: dict[str, Any] | None, layer: str) -> dict[str, Any]:
    """The settings that the runs of one table row share: all that decide the weights, except seed and split.

    Args:
        recipe: Settings of the training.
        given: The settings that the user gave; None if that is not known.
        layer: CNN layer whose features were trained on.
    """
    settings = _decisive(recipe) | {"layer": layer}
    if given is not None:
        settings |= {name: given.get(name) for name in SCHEDULE}
    return {name: value for name, value in settings.items() if name != "seed"}


def row_settings_of(run: Run) -> dict[str, Any]:
    """The `row_settings` of a run."""
    return row_settings(run.manifest.training, run.manifest.given, run.manifest.features.layer)


def _decisive(recipe: Recipe) -> dict[str, Any]:
    settings = dataclasses.asdict(recipe)
    return {name: v for name, v in settings.items() if name not in ("split", "layer") and _is_decisive(name, recipe)}


def commands_of(run: Run, part: str, evaluation: dict[str, Any]) -> list[str]:
    """Command lines that train and evaluate a run again, under a comment on its features.

    Args:
        run: The run.
        part: Part of the split that was evaluated.
        evaluation: The evaluation of that part; empty if there is none.
    """
    spec, store = run.manifest.features, run.manifest.store
    layers = " + ".join(f"{layer}, {K} x {K}" for layer, K, _ in spec.grids)
    lines = [
        f"# {run.name}, on {store['path']}: {spec.backbone} {layers}, of {store['videos_dir']}",
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
        words += ["--samples", str(evaluation["samples"])] if evaluation.get("samples") else []
        lines.append(shlex.join(words))
    return lines


def _of_preset(model: str) -> tuple[str, ...]:
    attention = ("attention", "add_mean") if model == "attention" else ()
    return (*attention, *SCHEDULE, "block_frames", "num_layers", "hidden_dim")


def train_command(run: Run) -> str:
    """The command line that trains a run again: the settings given, or all of them if that was not recorded.

    Split and precision are always included, as another machine may choose another precision; so are the settings that
    the preset derived from the data, as another version of attnrec may derive others.
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
