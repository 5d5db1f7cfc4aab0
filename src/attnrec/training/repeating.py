"""The lines that make a run again."""

import shlex
from typing import Any

from attnrec.settings import TrainConfig, settings_of, words_of
from attnrec.training.identity import SCHEDULE, settings_given
from attnrec.training.run import Run


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
