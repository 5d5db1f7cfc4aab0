"""Weights for a trunk: those of ImageNet, of a file, or random ones that are the same on every machine."""

import contextlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from attnrec.errors import WeightsError
from attnrec.features.backbone import Trunk, network_bytes
from attnrec.features.caffemodel import read_caffemodel
from attnrec.features.networks import backbone_names, backbone_of
from attnrec.features.state_dicts import PICKLE_ERRORS, load_pickled_tensors
from attnrec.features.store import FeatureStore, is_store
from attnrec.files import read_regular, reason_of

RANDOM_SEED = 0
_EMBEDDING_DEVIATION = 0.02  # standard deviation that transformers draw their embeddings with
_SPARE_BYTES = 64 * 2**20


def build_trunk(backbone: str, weights: str, *, layers: Sequence[str] = (), grid_size: int = 7) -> tuple[Trunk, str]:
    """Build a trunk and load its weights.

    Args:
        backbone: A name of `backbone_names`.
        weights: `imagenet` (downloaded once), `random`, or the path of a state dict, a .caffemodel or a feature store.
        layers: Layers of the trunk, as in `Trunk`; so is `grid_size`.

    Returns:
        The trunk, in evaluation mode on the CPU, and a name for its weights.

    Raises:
        ConfigError: There is no such backbone or layer.
        WeightsError: The weights cannot be read or downloaded, or do not fit.
    """
    trunk = Trunk(backbone, layers=layers, grid_size=grid_size)
    if weights == "random":
        _initialise_random(trunk)
        return trunk, f"random-{RANDOM_SEED}"
    if weights == "imagenet":
        trunk.load_weights_state(_imagenet_state(backbone), f"published weights of {backbone}")
        return trunk, str(backbone_of(backbone).weights)
    # Twice, for 64-bit numbers, with room for auxiliary heads and the archive.
    if is_store(Path(weights)):
        store = FeatureStore(Path(weights))
        if store.spec.backbone != backbone:
            raise WeightsError(f"--weights {weights}: has those of --backbone {store.spec.backbone}, not of {backbone}")
        trunk.load_weights_state(store.backbone_state(), f"--weights {weights}")
        return trunk, store.spec.weights_id
    state = _state_of_file(Path(weights), trunk, 2 * network_bytes(backbone) + _SPARE_BYTES)
    try:
        trunk.load_weights_state(state, f"--weights {weights}")
    except WeightsError as error:
        raise WeightsError(f"{error}; {_whose(Path(weights), backbone)}") from None
    return trunk, Path(weights).name


def imagenet_weights_cached(backbone: str) -> bool:
    """Whether the ImageNet weights of a backbone are in torch's cache."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / _file_name(backbone)).is_file()


def imagenet_weights_at_hand(backbone: str, timeout_seconds: float = 3.0) -> bool:
    """Whether the ImageNet weights of a backbone are in torch's cache, or their server answers in time."""
    if imagenet_weights_cached(backbone):
        return True
    try:
        request = urllib.request.Request(backbone_of(backbone).weights.url, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


def _imagenet_state(backbone: str) -> dict[str, Tensor]:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch announces the download on stdout
            state: dict[str, Tensor] = backbone_of(backbone).weights.get_state_dict(progress=False, check_hash=True)
        return state
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"ImageNet weights of {backbone} cannot be downloaded ({reason_of(error)}); give {_file_name(backbone)} "
            "from another machine by --weights PATH, or use --weights random"
        ) from None


def _whose(path: Path, backbone: str) -> str:
    """A guess whose weights a file has that are not those of a backbone, by its name."""
    named = [name for name in backbone_names() if name in path.stem and name != backbone]
    return f"try --backbone {max(named, key=len)}" if named else "are they of another --backbone?"


def _file_name(backbone: str) -> str:
    """File name of a backbone's ImageNet weights, on their server and in torch's cache."""
    name: str = backbone_of(backbone).weights.url.rsplit("/", 1)[-1]
    return name


def _state_of_file(path: Path, trunk: Trunk, most_bytes: int) -> dict[str, Tensor]:
    if not path.exists():
        raise WeightsError(f"--weights {path}: no such file; give imagenet, random or the path of a state dict")
    if path.suffix == ".caffemodel":
        shapes = {name: weight.shape for name, weight in trunk.network_state().items()}
        return read_caffemodel(path, shapes, most_bytes)
    if path.suffix == ".safetensors":
        return _safetensors_state(path, most_bytes)
    try:
        state = load_pickled_tensors(path, most_bytes)
    except (*PICKLE_ERRORS, OSError) as error:
        raise WeightsError(f"--weights {path}: not a file of weights that torch can load: {reason_of(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"--weights {path}: not a state dict; save one with torch.save(network.state_dict(), PATH)")
    return state


def _safetensors_state(path: Path, most_bytes: int) -> dict[str, Tensor]:
    try:
        return load(read_regular(path, most_bytes))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"--weights {path}: not a safetensors file: {reason_of(error)}") from None


def _initialise_random(trunk: Trunk) -> None:
    """Set Kaiming-normal weights, and BatchNorm statistics of seeded frames, as a function of `RANDOM_SEED` alone.

    Everything is drawn by NumPy and rounded to float16, which is far coarser than the rounding differences between
    processors, so that the weights have the same hash on every machine.
    """
    rng = np.random.default_rng(RANDOM_SEED)
    for module in trunk.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            _draw(module.weight, np.sqrt(2 / module.weight[0].numel()), rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        else:
            _set_own(module, rng)
    _calibrate(trunk, rng)


def _draw(weight: Tensor, deviation: float, rng: np.random.Generator) -> None:
    drawn = rng.standard_normal(tuple(weight.shape)) * deviation
    weight.copy_(torch.from_numpy(drawn.astype(np.float16)))


def _set_own(module: nn.Module, rng: np.random.Generator) -> None:
    """Draw the weights that a module holds besides its layers', such as position embeddings; constants are kept."""
    for weight in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if isinstance(weight, nn.Parameter) and bool((weight != weight.flatten()[0]).any()):
            _draw(weight, _EMBEDDING_DEVIATION, rng)
        elif weight.is_floating_point():
            weight.copy_(weight.half())


def _calibrate(trunk: Trunk, rng: np.random.Generator) -> None:
    norms = [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # take this batch's statistics as they are
    trunk.double()
    with torch.inference_mode():
        trunk(torch.from_numpy(_calibration_frames(rng)))
    for norm in norms:
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(statistic.half())
    trunk.float()


def _calibration_frames(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Four seeded frames with edges and with detail at every scale, shape (4, 224, 224, 3)."""
    frames = np.zeros((4, 224, 224, 3))
    for side in (2, 4, 7, 14, 28, 56, 112, 224):
        squares = rng.random((4, side, side, 3))
        frames += squares.repeat(224 // side, axis=1).repeat(224 // side, axis=2) / 8
    return np.round(np.clip((frames - 0.5) * 2 + 0.5, 0, 1) * 255).astype(np.uint8)
