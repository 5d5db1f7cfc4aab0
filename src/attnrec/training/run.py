"""The run directory: a trained recogniser with all that is needed to use, reproduce and compare it.

The JSON files are read without torch, which is imported only to load weights.
"""

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from attnrec.errors import RunError, WeightsError
from attnrec.files import (
    atomic_path,
    json_safe,
    machine_memory,
    opened_regular,
    read_regular,
    reason_of,
    require_regular,
    write_error,
    write_text,
)
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import LAYER_SEPARATOR
from attnrec.training.records import RunManifest, read_evaluation, read_log, read_manifest, write_manifest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from attnrec.drawing.figure import Plot
    from attnrec.features.backbone import Trunk

CONFIG, MODEL, BACKBONE, LOG = "config.json", "model.safetensors", "backbone.safetensors", "training.jsonl"
_HEADER_BYTES = 16 * 2**20  # maximum header of a file of tensors


class Run:
    """A run directory.

    Args:
        path: The folder.

    Raises:
        RunError: The folder is missing, not a run, of another version, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / CONFIG).exists():
            raise RunError(f"{self.path}: not a run, it has no {CONFIG}; make one with `attnrec train`")
        self.manifest = read_manifest(self.path / CONFIG)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from attnrec.training.curves import run_html

        return run_html(self)

    @property
    def name(self) -> str:
        """Name of the run, that of its folder."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether the training has finished."""
        return self.manifest.finished_at is not None

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest, in memory and on disk."""
        self.manifest = dataclasses.replace(self.manifest, **changes)
        write_manifest(self.path / CONFIG, self.manifest)

    def save_model(self, model: "nn.Module") -> None:
        """Write the recogniser's parameters, atomically."""
        state = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in model.state_dict().items()}
        with atomic_path(self.path / MODEL) as temporary:
            temporary.write_bytes(save(state))  # not save_file, whose errors do not say that the disk is full

    def load_model(self, device: "torch.device") -> "nn.Module":
        """Load the trained recogniser, in evaluation mode.

        Raises:
            RunError: The weights are missing, damaged, or of another architecture.
        """
        import torch

        from attnrec.models.architectures import build_model

        state = self._model_state()
        model = build_model(self.manifest.model)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        return model.to(device).eval()

    @property
    def model_sha256(self) -> str:
        """Hash of the recogniser's parameters. Raises as `load_model`."""
        from attnrec.features.state_dicts import weights_sha256

        return weights_sha256(self._model_state())

    @property
    def num_parameters(self) -> int | None:
        """Number of the recogniser's parameters, from the header of its weights file; None if that cannot be read."""
        path = self.path / MODEL
        try:
            require_regular(path)
            with safetensors.safe_open(path, framework="numpy") as file:
                names = file.keys()  # cannot be iterated itself
                return int(sum(math.prod(file.get_slice(name).get_shape()) for name in names))
        except (OSError, ValueError, safetensors.SafetensorError):
            return None

    def require_weights(self) -> None:
        """Check that the recogniser's parameters can be read. Raises as `load_model`."""
        self._model_state()

    def _model_state(self) -> dict[str, NDArray[Any]]:
        from attnrec.models.architectures import state_shapes

        shapes = state_shapes(self.manifest.model)
        state = _load_tensors(self.path / MODEL, sum(4 * math.prod(shape) for shape in shapes.values()))
        if {name: value.shape for name, value in state.items()} != shapes:
            raise RunError(f"{self.path / MODEL}: its weights do not fit {CONFIG}; train again")
        return state

    def load_trunk(self) -> "Trunk":
        """Load the CNN trunk that made the run's features, on the CPU.

        Raises:
            RunError: The weights are missing, damaged, or not those that made the features.
        """
        from attnrec.features.backbone import Trunk, network_bytes
        from attnrec.features.state_dicts import weights_sha256

        spec = self.manifest.features
        trunk = Trunk(spec.backbone, layers=[name for name, _, _ in spec.grids], grid_size=spec.grid_size)
        try:
            state = _load_tensors(self.path / BACKBONE, network_bytes(spec.backbone))
            trunk.load_weights_state(state, str(self.path / BACKBONE))
        except WeightsError as error:
            raise RunError(f"{error}; train again") from None
        found = LAYER_SEPARATOR.join(weights_sha256(trunk.weights_state(layer)) for layer in trunk.layers)
        if found != spec.weights_sha256:
            raise RunError(f"{self.path / BACKBONE}: not the weights that made the run's features; train again")
        return trunk

    def log(self, record: dict[str, Any]) -> None:
        """Append a line to `training.jsonl`."""
        path = self.path / LOG
        try:
            with opened_regular(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY) as file:
                file.write((json.dumps(json_safe(record)) + "\n").encode())
        except OSError as error:
            raise write_error(path, error) from None

    def read_log(self) -> list[dict[str, Any]]:
        """Read the lines of `training.jsonl`, oldest first; none if there is no such file.

        Raises:
            RunError: The file cannot be read.
        """
        path = self.path / LOG
        return read_log(path) if path.exists() else []

    @property
    def log_bytes(self) -> int:
        """Size of `training.jsonl`."""
        path = self.path / LOG
        return path.stat().st_size if path.exists() else 0

    def cut_log(self, num_bytes: int) -> None:
        """Cut `training.jsonl` to its first `num_bytes`, dropping lines written after the last checkpoint."""
        if self.log_bytes > num_bytes:
            os.truncate(self.path / LOG, num_bytes)

    def mend(self, backbone_state: Callable[[], dict[str, NDArray[Any]]]) -> None:
        """Remove half-written files of a killed process, and write the backbone's weights if they are missing."""
        for name in map(Path, (CONFIG, MODEL, BACKBONE)):
            for left_over in self.path.glob(f".{name.stem}-*{name.suffix}"):
                left_over.unlink()
        if not (self.path / BACKBONE).exists():
            _save_backbone(self, backbone_state())

    def save_plot(self, name: str, plot: "Plot") -> Path:
        """Write a plot as `<name>.svg` and `<name>.png`, each atomically; returns the path of the latter."""
        path = self.path / f"{name}.png"
        for target, content in ((path.with_suffix(".svg"), plot.svg()), (path, plot.png())):
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        return path

    def write_evaluation(self, part: str, report: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Write `evaluation-<part>.json` and `predictions-<part>.npz`, each atomically."""
        with atomic_path(self.path / f"predictions-{part}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        write_text(self.path / f"evaluation-{part}.json", json.dumps(json_safe(report), indent=2) + "\n")
        self._drop_derived(part)

    def drop_evaluations(self) -> None:
        """Remove the evaluations of all parts, which belong to other weights after further training."""
        for path in (*self.path.glob("evaluation-*.json"), *self.path.glob("predictions-*.npz")):
            path.unlink()
        self._drop_derived("*")

    def _drop_derived(self, part: str) -> None:
        """Remove what would be out of date: pictures of a confusion, and CSV files of earlier versions."""
        names = (f"predictions-{part}.csv", f"blocks-{part}.csv", f"confusion-{part}.svg", f"confusion-{part}.png")
        for path in (found for name in names for found in self.path.glob(name)):
            if path.is_file():
                path.unlink()

    def read_evaluation(self, part: str) -> dict[str, Any] | None:
        """Read `evaluation-<part>.json`; None if there is no such file."""
        path = self.path / f"evaluation-{part}.json"
        return read_evaluation(path, self.manifest.classes) if path.exists() else None


class HasRun(Protocol):
    """A report that names its run's folder."""

    @property
    def run(self) -> "str | Run":
        """The run, or its folder."""


RunLike = str | Path | Run | HasRun
"""A run, its folder, or a report of it."""


def as_run(source: RunLike) -> Run:
    """Open a run, given itself, its folder, or a report of it. Raises as `Run`."""
    if isinstance(source, Run):
        return source
    return Run(source) if isinstance(source, str | Path) else as_run(source.run)


def create_run(runs_dir: Path, manifest: RunManifest, backbone_state: dict[str, NDArray[Any]]) -> Run:
    """Create the directory of a run that is about to be trained.

    Args:
        runs_dir: Folder of all runs.
        manifest: Manifest of the run; its `name` gets the next free number appended.
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
    write_manifest(path / CONFIG, dataclasses.replace(manifest, name=path.name))
    run = Run(path)
    _save_backbone(run, backbone_state)
    return run


def find_runs(runs_dir: Path, *, finished: bool | None = True, on_progress: OnProgress = no_progress) -> list[Run]:
    """Find the finished, the unfinished, or all runs in a folder, oldest first.

    Args:
        runs_dir: The folder.
        finished: Whether to find finished or unfinished runs; None finds all, the unfinished ones first.
        on_progress: Told of runs that cannot be read, which are left out. Folders that are not runs are ignored.
    """
    found = []
    for config in sorted(runs_dir.glob(f"*/{CONFIG}")):
        try:
            run = Run(config.parent)
        except RunError as error:
            on_progress(left_out(error))
            continue
        if finished in (None, run.finished):
            found.append(run)
    return sorted(found, key=_age)


def _age(run: Run) -> tuple[bool, str, str]:
    return run.finished, run.manifest.finished_at or run.manifest.created_at, run.name


def left_out(error: RunError) -> Progress:
    """Progress message that a run is left out because it cannot be read."""
    return Progress("runs", message=f"left out: {error}")


def newest_run(runs_dir: Path, *, with_attention: bool = False, on_progress: OnProgress = no_progress) -> Run:
    """The run that finished last, of those whose weights can be read; `on_progress` is told of runs that cannot.

    Raises:
        RunError: There is no such run.
    """
    kind = "finished run with attention" if with_attention else "finished run"
    for run in reversed(find_runs(runs_dir, on_progress=on_progress)):
        if with_attention and run.manifest.model.architecture != "attention":
            continue
        try:
            run.require_weights()
        except RunError as error:
            on_progress(left_out(error))
            continue
        return run
    raise RunError(f"{runs_dir}: no {kind} here; make one with `attnrec train`, or name one by --run")


def utc_now() -> str:
    """The current UTC time in ISO 8601 with microseconds, by which runs are sorted."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def _save_backbone(run: Run, state: dict[str, NDArray[Any]]) -> None:
    target, data = run.path / BACKBONE, save(state)
    for other in find_runs(run.path.parent):
        if other.manifest.features.weights_sha256 == run.manifest.features.weights_sha256:
            try:
                # A damaged file must not be linked.
                if read_regular(other.path / BACKBONE, len(data)) != data:
                    continue
                os.link(other.path / BACKBONE, target)
                return
            except OSError:
                continue  # damaged, or a file system without links: a copy serves
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def _load_tensors(path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """Load the tensors of a file, refusing files larger than `most_bytes` and a header, NaN and infinity."""
    if most_bytes > machine_memory():
        raise RunError(f"{path}: would take {most_bytes / 1e9:.1f} GB, more than this machine's memory")
    try:
        require_regular(path)
        if path.stat().st_size > most_bytes + _HEADER_BYTES:
            raise ValueError(f"holds {path.stat().st_size / 1e6:.1f} MB where the network has {most_bytes / 1e6:.1f}")
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, ValueError, TypeError, LookupError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: cannot be read ({reason_of(error)}); was the run's training ended early?") from None
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise RunError(f"{path}: {name} holds NaN or infinity; train again")
    return tensors
