"""The JSON files of a run, read and checked: anybody may have written them.

Types, bounds and sizes are checked before anything is built from them or shown.
"""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from attnrec.checks import config_from_dict, require_type, shortened
from attnrec.errors import ConfigError, RunError
from attnrec.files import json_safe, read_regular, reason_of, write_text
from attnrec.settings import Recipe, TrainConfig
from attnrec.specs import FeatureSpec, ModelConfig

FORMAT = "attnrec-run"
VERSION = 1

# A store of a million videos makes a config of 8 MB at most, and figures and a log of 64 MB.
_MOST_CONFIG_BYTES = 8 * 2**20
_MOST_JSON_BYTES = 64 * 2**20
_DEEPEST_JSON = 16


class StoreOrigin(TypedDict):
    """The feature store of a run."""

    path: str
    fingerprint: str
    dataset: str
    videos_dir: str


class SplitOrigin(TypedDict):
    """The split of a run: its name and hash, the groups on both sides, and the number of videos in each part."""

    name: str
    sha256: str
    leaking_groups: list[str]
    parts: dict[str, int]


class RunResult(TypedDict, total=False):
    """The results of a training, as recorded in the manifest and shown in tables."""

    best_epoch: int
    seconds: float
    validation_accuracy: float | None
    validation_map: float | None
    validation_loss: float | None


class EvaluatedVideo(TypedDict):
    """A video in `evaluation-<part>.json`."""

    path: str
    label: str
    predicted: str
    probability: float


class EvaluatedClass(TypedDict):
    """A class in `evaluation-<part>.json`; a NaN is written as None."""

    name: str
    num_videos: int
    accuracy: float | None
    average_precision: float | None


class Evaluation(TypedDict):
    """The fields of `evaluation-<part>.json` that are read; the file has more."""

    reduction: str
    last_steps: int
    block_stride: int
    accuracy: float | None
    map: float | None
    attention_entropy: float | None
    penalty_above_floor: float | None
    classes: list[EvaluatedClass]
    confusion: list[list[int]] | None
    videos: list[EvaluatedVideo]
    faithfulness: dict[str, Any] | None


class LogLine(TypedDict, total=False):
    """The fields of a line of `training.jsonl` that are shown."""

    kind: str
    epoch: int
    blocks_per_second: float
    loss: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    validation_map: float | None
    penalty_above_floor: float | None
    attention_entropy: float | None


@dataclass(frozen=True)
class RunManifest:
    """The manifest of a run, `config.json`."""

    name: str  # name of the run and its folder
    created_at: str  # UTC, ISO 8601
    model: ModelConfig  # architecture and sizes
    training: Recipe  # settings of `train`, as the preset filled them in
    features: FeatureSpec  # settings of its features; those of a clip must be equal
    # Factor on stored features before they enter the model; for several layers, on those of each
    feature_scale: float | tuple[float, ...]
    classes: list[str]  # class names, which the model's outputs index
    store: StoreOrigin  # path, fingerprint, dataset and videos folder of the feature store
    split: SplitOrigin  # name and hash of the split, its leaking groups, and the number of videos in each part
    versions: dict[str, str]  # versions of attnrec and of the packages that its numbers depend on
    machine: dict[str, Any]  # device, CPU threads, and the like
    # Settings of `train` not at their defaults; None in runs of versions that did not record them
    given: dict[str, Any] | None = None
    finished_at: str | None = None  # UTC, ISO 8601; None while training or after an interruption
    # Best epoch, its validation figures, training time
    result: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def feature_scales(self) -> tuple[float, ...]:
        """Factor on the stored features of each layer."""
        return self.feature_scale if isinstance(self.feature_scale, tuple) else (self.feature_scale,)


def write_manifest(config: Path, manifest: RunManifest) -> None:
    """Write a manifest, atomically."""
    document = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(manifest)
    write_text(config, json.dumps(json_safe(document), indent=2) + "\n")


def read_manifest(config: Path) -> RunManifest:
    """Read and check a manifest.

    Raises:
        RunError: The file cannot be read, is of another version, or has impossible values.
    """
    document = _read_json(config, _MOST_CONFIG_BYTES)
    if document.pop("format", None) != FORMAT:
        raise RunError(f"{config}: not a run of attnrec")
    if (version := document.pop("version", None)) != VERSION:
        raise RunError(f"{config}: version {shortened(version)}, this attnrec reads {VERSION}")
    nested = {"model": ModelConfig, "training": Recipe, "features": FeatureSpec}
    try:
        for name, cls in nested.items():
            require_type(dict[str, Any], document[name], name)
            if cls is Recipe:
                # Their values before they were recorded.
                document[name] = {"precision": "fp32", "add_mean": False} | document[name]
            document[name] = config_from_dict(cls, document[name])
        manifest = config_from_dict(RunManifest, document)
        _check(manifest)
    except (KeyError, ValueError, ConfigError) as error:
        raise RunError(f"{config}: cannot be used: {reason_of(error)}") from None
    return manifest


def _check(manifest: RunManifest) -> None:
    """Check a manifest of the right types for impossible values."""
    model, features = manifest.model, manifest.features
    sizes = (model.feature_dim, model.num_locations, model.num_classes)
    if sizes != (features.feature_dim, features.num_locations, len(manifest.classes)):
        raise ConfigError("the model is of other sizes than features and classes")
    if manifest.finished_at is not None:
        datetime.datetime.fromisoformat(manifest.finished_at)
        require_type(float, manifest.result.get("seconds"), "result: seconds")
    require_type(RunResult, manifest.result, "result")
    require_type(list[dict[str, Any]], manifest.machine.get("resumed_on", []), "machine: resumed_on")
    if len(manifest.feature_scales) != len(features.grids) or not min(manifest.feature_scales) > 0:
        raise ConfigError(f"feature_scale must be over 0 for each layer, got {manifest.feature_scale}")
    if model.layers != features.layer_sizes:
        raise ConfigError("the model is of other layers than the features")
    if manifest.given is not None:
        config_from_dict(TrainConfig, manifest.given)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of `training.jsonl`.

    Raises:
        RunError: The file cannot be read.
    """
    with _reading(path):
        lines: list[dict[str, Any]] = [json.loads(line) for line in read_regular(path, _MOST_JSON_BYTES).splitlines()]
        require_type(list[LogLine], lines, "a line")
        for line in lines:
            if line.get("kind") == "epoch":
                require_type(tuple[int, float], [line.get("epoch"), line.get("blocks_per_second")], "an epoch")
    return lines


def read_evaluation(path: Path, classes: list[str]) -> dict[str, Any]:
    """Read the evaluation of a run with these classes.

    Raises:
        RunError: The file cannot be read, or is of other classes.
    """
    document = _read_json(path, _MOST_JSON_BYTES)
    with _reading(path):
        require_type(Evaluation, document, "evaluation")
        confusion = document["confusion"]
        sizes = [] if confusion is None else [len(confusion), *map(len, confusion)]
        if [entry["name"] for entry in document["classes"]] != classes or {*sizes} - {len(classes)}:
            raise ValueError("it has other classes than the run")
    return document


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn everything that can go wrong in reading untrusted JSON into a `RunError`."""
    try:
        yield
    except (OSError, ValueError, RecursionError, MemoryError, ConfigError) as error:
        raise RunError(f"{path}: cannot be read: {reason_of(error)}") from None


def _read_json(path: Path, most_bytes: int) -> dict[str, Any]:
    with _reading(path):
        document = json.loads(read_regular(path, most_bytes).decode("utf-8"))
        level = [document]
        for _ in range(_DEEPEST_JSON):
            level = [item for value in level if isinstance(value, dict | list) for item in _items(value)]
        if level:
            raise ValueError(f"nested deeper than {_DEEPEST_JSON} levels")
    if not isinstance(document, dict):
        raise RunError(f"{path}: not a JSON object")
    return document


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
