"""The run directory: a trained recogniser with all that is needed to use, reproduce and compare it."""

import dataclasses
import datetime
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import nn

from attnrec.config import FeatureSpec, ModelConfig, TrainConfig, config_from_dict
from attnrec.errors import ConfigError, RunError, WeightsError
from attnrec.files import atomic_path, json_safe, write_error, write_table, write_text
from attnrec.models.architectures import build_model
from attnrec.models.backbone import Trunk
from attnrec.models.pretrained import weights_sha256

FORMAT = "attnrec-run"
VERSION = 1
CONFIG, MODEL, BACKBONE, LOG = "config.json", "model.safetensors", "backbone.safetensors", "training.jsonl"


@dataclass(frozen=True)
class RunManifest:
    """What `config.json` says.

    Attributes:
        name: Of the run and its folder.
        created_at: UTC, ISO 8601.
        model: Architecture and sizes.
        training: Settings of `train`, as the preset filled them in.
        given: Those that were not left to their defaults; None in runs of an attnrec that did not record them.
        features: Settings of the features it was trained on, which a clip's must equal.
        feature_scale: Factor on stored features before they enter the model.
        classes: Class names, which the model's outputs index.
        store: Path, fingerprint, dataset and videos folder of the feature store.
        split: Name and hash of the split, its leaking groups, and the number of videos in each part.
        versions: Of attnrec and what its numbers depend on.
        machine: Device, CPU threads, and the like.
        finished_at: UTC, ISO 8601; None while training or after an interruption.
        result: Best epoch, its validation figures, training time.
    """

    name: str
    created_at: str
    model: ModelConfig
    training: TrainConfig
    features: FeatureSpec
    feature_scale: float
    classes: list[str]
    store: dict[str, str]
    split: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    given: dict[str, Any] | None = None
    finished_at: str | None = None
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


class Run:
    """A run directory.

    Args:
        path: Its folder.

    Raises:
        RunError: It is not there, no run, of another version, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether its training came to an end."""
        return self.manifest.finished_at is not None

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest, on disk as well."""
        self.manifest = dataclasses.replace(self.manifest, **changes)
        _write_manifest(self.path, self.manifest)

    def save_model(self, model: nn.Module) -> None:
        """Write the recogniser's parameters, atomically."""
        state = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}
        with atomic_path(self.path / MODEL) as temporary:
            temporary.write_bytes(save(state))  # not save_file, whose errors do not say that the disk is full

    def load_model(self, device: torch.device) -> nn.Module:
        """The trained recogniser in evaluation mode.

        Raises:
            RunError: Its weights are missing, damaged, or of another architecture.
        """
        model = build_model(self.manifest.model)
        state = _load_tensors(self.path / MODEL)
        try:
            model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        except RuntimeError:
            raise RunError(f"{self.path / MODEL}: its weights do not fit {CONFIG}; train again") from None
        return model.to(device).eval()

    @property
    def model_sha256(self) -> str:
        """Hash of the recogniser's parameters. Raises as `load_model`."""
        return weights_sha256(_load_tensors(self.path / MODEL))

    def load_trunk(self) -> Trunk:
        """The CNN trunk that made the run's features, on the CPU.

        Raises:
            RunError: Its weights are missing, damaged, or not those that made the features.
        """
        spec = self.manifest.features
        trunk = Trunk(spec.backbone, layers=[spec.layer], grid_size=spec.grid_size)
        try:
            trunk.load_weights_state(_load_tensors(self.path / BACKBONE), str(self.path / BACKBONE))
        except WeightsError as error:
            raise RunError(f"{error}; train again") from None
        if weights_sha256(trunk.weights_state()) != spec.weights_sha256:
            raise RunError(f"{self.path / BACKBONE}: not the weights that made the run's features; train again")
        return trunk

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to `training.jsonl`."""
        path = self.path / LOG
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(json_safe(record)) + "\n")
        except OSError as error:
            raise write_error(path, error) from None

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of `training.jsonl`, the first first; none where there is no such file.

        Raises:
            RunError: It cannot be read.
        """
        path = self.path / LOG
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read: {error}") from None

    @property
    def log_bytes(self) -> int:
        """Size of `training.jsonl`."""
        path = self.path / LOG
        return path.stat().st_size if path.exists() else 0

    def cut_log(self, num_bytes: int) -> None:
        """Drop what `training.jsonl` says beyond its first `num_bytes`: lines that a killed training wrote last."""
        if self.log_bytes > num_bytes:
            os.truncate(self.path / LOG, num_bytes)

    def mend(self, backbone_state: Callable[[], dict[str, NDArray[Any]]]) -> None:
        """Remove what a killed process left half written, and write the backbone if it did not come to that."""
        for name in map(Path, (CONFIG, MODEL, BACKBONE)):
            for left_over in self.path.glob(f".{name.stem}-*{name.suffix}"):
                left_over.unlink()
        if not (self.path / BACKBONE).exists():
            _save_backbone(self, backbone_state())

    def write_evaluation(self, part: str, report: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Write `evaluation-<part>.json` and `predictions-<part>.npz`, each atomically."""
        with atomic_path(self.path / f"predictions-{part}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        write_text(self.path / f"evaluation-{part}.json", json.dumps(json_safe(report), indent=2) + "\n")

    def drop_evaluations(self) -> None:
        """Remove the figures of all parts, which are of other weights once a training has gone on."""
        for pattern in ("evaluation-*.json", "predictions-*.npz", "predictions-*.csv", "blocks-*.csv"):
            for path in self.path.glob(pattern):
                path.unlink()

    def write_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a CSV file into the folder, as `files.write_table`."""
        write_table(self.path / name, columns, rows)

    def read_evaluation(self, part: str) -> dict[str, Any] | None:
        """What `write_evaluation` wrote, or None."""
        path = self.path / f"evaluation-{part}.json"
        return _read_json(path) if path.is_file() else None


def create_run(runs_dir: Path, manifest: RunManifest, backbone_state: dict[str, NDArray[Any]]) -> Run:
    """Make the folder of a run that is about to be trained.

    Args:
        runs_dir: Folder of all runs.
        manifest: Of the run; its `name` gets the next free number appended.
        backbone_state: Weights of the trunk by parameter name.

    Returns:
        The run.

    Raises:
        AttnrecError: The folder cannot be written.
    """
    number = 1
    while True:
        path = runs_dir / f"{manifest.name}-{number}"
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(f"{path}: cannot be made: {error.strerror}") from None
    _write_manifest(path, dataclasses.replace(manifest, name=path.name))
    run = Run(path)
    _save_backbone(run, backbone_state)
    return run


def find_runs(runs_dir: Path, *, finished: bool = True) -> list[Run]:
    """All runs in a folder that are finished, or not, the oldest first; folders that are no runs are passed over."""
    found = []
    for config in runs_dir.glob(f"*/{CONFIG}"):
        try:
            run = Run(config.parent)
        except RunError:
            continue
        if run.finished == finished:
            found.append(run)
    return sorted(found, key=lambda run: (run.manifest.finished_at or run.manifest.created_at, run.name))


def newest_run(runs_dir: Path, *, with_attention: bool = False) -> Run:
    """The run that finished last.

    Raises:
        RunError: There is none.
    """
    kind = "finished run with attention" if with_attention else "finished run"
    runs = [run for run in find_runs(runs_dir) if not with_attention or run.manifest.model.architecture == "attention"]
    if not runs:
        raise RunError(f"{runs_dir}: no {kind} here; make one with `attnrec train`, or name one by --run")
    return runs[-1]


def utc_now() -> str:
    """The time, UTC, ISO 8601 with microseconds, so that runs sort by it."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def _save_backbone(run: Run, state: dict[str, NDArray[Any]]) -> None:
    target = run.path / BACKBONE
    for other in find_runs(run.path.parent):
        if other.manifest.features.weights_sha256 == run.manifest.features.weights_sha256:
            try:
                os.link(other.path / BACKBONE, target)
                return
            except OSError:
                break  # a file system without links: a copy serves
    with atomic_path(target) as temporary:
        temporary.write_bytes(save(state))


def _load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
        return tensors
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({error}); was the run's training ended early?") from None


def _write_manifest(path: Path, manifest: RunManifest) -> None:
    document = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(manifest)
    write_text(path / CONFIG, json.dumps(json_safe(document), indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise RunError(f"{path}: not a JSON object")
    return document


def _read_manifest(path: Path) -> RunManifest:
    config = path / CONFIG
    if not config.is_file():
        raise RunError(f"{path}: not a run, it has no {CONFIG}; make one with `attnrec train`")
    document = _read_json(config)
    if document.pop("format", None) != FORMAT:
        raise RunError(f"{config}: not a run of attnrec")
    if (version := document.pop("version", None)) != VERSION:
        raise RunError(f"{config}: version {version}, this attnrec reads {VERSION}")
    nested = {"model": ModelConfig, "training": TrainConfig, "features": FeatureSpec}
    try:
        for name, cls in nested.items():
            document[name] = config_from_dict(cls, document[name])
        return RunManifest(**document)
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{config}: cannot be used: {error}") from None
