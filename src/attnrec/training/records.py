"""What the JSON files of a run say, and whether they do: anybody may have written them.

Types, bounds and sizes are checked here, before anything is built or shown of them.
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
    """What else than the weights a training came to; what a table shows of it."""

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
    """What is looked at of `evaluation-<part>.json`, which holds more."""

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
    """What is shown of a line of `training.jsonl`."""

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
    """What `config.json` says."""

    name: str  # of the run and its folder
    created_at: str  # UTC, ISO 8601
    model: ModelConfig  # architecture and sizes
    training: Recipe  # settings of `train`, as the preset filled them in
    features: FeatureSpec  # settings of the features it was trained on, which a clip's must equal
    feature_scale: float  # factor on stored features before they enter the model
    classes: list[str]  # class names, which the model's outputs index
    store: StoreOrigin  # path, fingerprint, dataset and videos folder of the feature store
    split: SplitOrigin  # name and hash of the split, its leaking groups, and the number of videos in each part
    versions: dict[str, str]  # of attnrec and what its numbers depend on
    machine: dict[str, Any]  # device, CPU threads, and the like
    # Those that were not left to their defaults; None in runs of an attnrec that did not record them
    given: dict[str, Any] | None = None
    finished_at: str | None = None  # UTC, ISO 8601; None while training or after an interruption
    # Best epoch, its validation figures, training time
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


def write_manifest(config: Path, manifest: RunManifest) -> None:
    """Write a manifest, atomically."""
    document = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(manifest)
    write_text(config, json.dumps(json_safe(document), indent=2) + "\n")


def read_manifest(config: Path) -> RunManifest:
    """The manifest that a file holds.

    Raises:
        RunError: It cannot be read, is of another version, or says what no run can be.
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
                # What there was before these were recorded.
                document[name] = {"precision": "fp32", "add_mean": False} | document[name]
            document[name] = config_from_dict(cls, document[name])
        manifest = config_from_dict(RunManifest, document)
        _check(manifest)
    except (KeyError, ValueError, ConfigError) as error:
        raise RunError(f"{config}: cannot be used: {reason_of(error)}") from None
    return manifest


def _check(manifest: RunManifest) -> None:
    """Refuse what is of the right types and cannot be so all the same."""
    model, features = manifest.model, manifest.features
    sizes = (model.feature_dim, model.num_locations, model.num_classes)
    if sizes != (features.feature_dim, features.num_locations, len(manifest.classes)):
        raise ConfigError("the model is of other sizes than features and classes")
    if manifest.finished_at is not None:
        datetime.datetime.fromisoformat(manifest.finished_at)
        require_type(float, manifest.result.get("seconds"), "result: seconds")
    require_type(RunResult, manifest.result, "result")
    require_type(list[dict[str, Any]], manifest.machine.get("resumed_on", []), "machine: resumed_on")
    if not manifest.feature_scale > 0:
        raise ConfigError(f"feature_scale must be over 0, got {manifest.feature_scale}")
    if manifest.given is not None:
        config_from_dict(TrainConfig, manifest.given)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.

    Raises:
        RunError: It cannot be read.
    """
    with _reading(path):
        lines: list[dict[str, Any]] = [json.loads(line) for line in read_regular(path, _MOST_JSON_BYTES).splitlines()]
        require_type(list[LogLine], lines, "a line")
        for line in lines:
            if line.get("kind") == "epoch":
                require_type(tuple[int, float], [line.get("epoch"), line.get("blocks_per_second")], "an epoch")
    return lines


def read_evaluation(path: Path, classes: list[str]) -> dict[str, Any]:
    """The figures of a run with these classes.

    Raises:
        RunError: They cannot be read, or are of other classes.
    """
    document = _read_json(path, _MOST_JSON_BYTES)
    with _reading(path):
        require_type(Evaluation, document, "what it holds")
        confusion = document["confusion"]
        sizes = [] if confusion is None else [len(confusion), *map(len, confusion)]
        if [entry["name"] for entry in document["classes"]] != classes or {*sizes} - {len(classes)}:
            raise ValueError("is of other classes than the run")
    return document


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What may be wrong with JSON that anybody may have written, as a `RunError`."""
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
            raise ValueError(f"nested deeper than {_DEEPEST_JSON}")
    if not isinstance(document, dict):
        raise RunError(f"{path}: not a JSON object")
    return document


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
