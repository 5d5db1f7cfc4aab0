"""The CNN trunk: torchvision networks cut after a spatial map, from uint8 frames to feature cubes.

Legend: N frames, K grid side, D channels.
"""

import contextlib
import hashlib
import http.client
import pickle
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from attnrec.errors import ConfigError, WeightsError

BATCH_FRAMES = 32  # one batch shape for every frame of every video: features depend on it in the last digits
RANDOM_SEED = 0

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network that the features can come from.

    Attributes:
        build: Makes it with uninitialised weights.
        weights: torchvision's ImageNet weights of it.
        layer: Its last spatial map, where it is cut unless told otherwise.
        mean: RGB mean that its weights expect to be taken off, in [0, 1].
        std: RGB scale that its weights expect to be divided by.
    """

    build: Callable[[], nn.Module]
    weights: Any
    layer: str
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD


def _googlenet() -> nn.Module:
    network: nn.Module = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False)
    return network


BACKBONES: dict[str, Backbone] = {
    # GoogLeNet's ImageNet weights come with `transform_input`, which turns ImageNet's normalisation into this one.
    # It would get lost in the cut, so it is part of the normalisation here.
    "googlenet": Backbone(
        _googlenet, torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1, "inception5b", (0.5,) * 3, (0.5,) * 3
    ),
    "resnet50": Backbone(torchvision.models.resnet50, torchvision.models.ResNet50_Weights.IMAGENET1K_V2, "layer4"),
    "squeezenet1_0": Backbone(
        torchvision.models.squeezenet1_0, torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1, "features"
    ),
}


class Trunk(nn.Module):
    """A network up to one of its layers, with its normalisation before it and pooling to a grid after it.

    Args:
        backbone: A name of `BACKBONES`.
        layer: Name of a module of the network that gives a spatial map; None for its last one.
        grid_size: K; larger square maps are average-pooled to it, 0 keeps the map.

    Raises:
        ConfigError: There is no such backbone or layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, *, layer: str | None = None, grid_size: int = 0) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ConfigError(f"--backbone {backbone}: unknown; choose from {', '.join(BACKBONES)}")
        entry = BACKBONES[backbone]
        self.backbone = backbone
        self.layer = layer or entry.layer
        self.grid_size = grid_size
        self.network = _cut(entry.build(), self.layer, backbone)
        self.register_buffer("mean", torch.tensor(entry.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(entry.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute feature cubes.

        Args:
            frames: RGB in [0, 255], shape (N, H, W, 3), any number type.

        Returns:
            Feature cubes, shape (N, K, K, D), rows from the top and columns from the left of the frame.

        Raises:
            ConfigError: The layer gives no square spatial map.
        """
        images = (frames.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        maps = self.network(images.contiguous(memory_format=torch.channels_last))["map"]
        if maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
            raise ConfigError(f"--layer {self.layer}: gives shape {tuple(maps.shape[1:])}, not a square spatial map")
        if 0 < self.grid_size < maps.shape[2]:
            maps = F.adaptive_avg_pool2d(maps, self.grid_size)
        cubes: Tensor = maps.permute(0, 2, 3, 1)
        return cubes

    def cube_shape(self, image_size: int) -> tuple[int, int]:
        """K and D for square frames of `image_size` px."""
        with torch.inference_mode():
            cubes = self(torch.zeros(1, image_size, image_size, 3, device=self.mean.device))
        return cubes.shape[1], cubes.shape[3]

    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Feature cubes of up to `BATCH_FRAMES` frames, on the trunk's device and in its one batch shape.

        Args:
            frames: RGB frames, shape (n, H, W, 3).

        Returns:
            Cubes rounded to float16, shape (n, K, K, D). Values beyond its range become its largest.
        """
        batch = np.zeros((BATCH_FRAMES, *frames.shape[1:]), np.uint8)
        batch[: len(frames)] = frames
        with torch.inference_mode():
            cubes = self(torch.from_numpy(batch).to(self.mean.device))[: len(frames)]
            largest = torch.finfo(torch.float16).max
            result: NDArray[np.float16] = cubes.clamp(-largest, largest).to(torch.float16).cpu().numpy()
        return result

    def weights_state(self) -> dict[str, NDArray[Any]]:
        """The network's weights by name, as stored beside features and runs."""
        return {name: tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()}

    def load_weights_state(self, state: Mapping[str, NDArray[Any] | Tensor]) -> None:
        """Load what `weights_state` gave.

        Raises:
            WeightsError: Names or shapes do not fit the network.
        """
        try:
            self.network.load_state_dict({name: torch.as_tensor(weight) for name, weight in state.items()})
        except RuntimeError as error:
            raise WeightsError(f"weights do not fit {self.backbone}: {_first_line(error)}") from None


def build_trunk(backbone: str, weights: str, *, layer: str | None = None, grid_size: int = 7) -> tuple[Trunk, str]:
    """Trunk with weights.

    Args:
        backbone: A name of `BACKBONES`.
        weights: `imagenet` (torchvision's, downloaded once), `random`, or the path of a state dict.
        layer: See `Trunk`.
        grid_size: See `Trunk`.

    Returns:
        The trunk, in evaluation mode on the CPU, and a name for its weights.

    Raises:
        ConfigError: There is no such backbone or layer.
        WeightsError: The weights cannot be had or do not fit.
    """
    trunk = Trunk(backbone, layer=layer, grid_size=grid_size)
    if weights == "random":
        _initialise_random(trunk)
        return trunk, f"random-{RANDOM_SEED}"
    if weights == "imagenet":
        _load_into(trunk, _imagenet_state(backbone), f"torchvision's weights of {backbone}")
        return trunk, str(BACKBONES[backbone].weights)
    _load_into(trunk, _state_of_file(Path(weights)), weights)
    return trunk, Path(weights).name


def weights_sha256(state: Mapping[str, NDArray[Any]]) -> str:
    """Hash of weights: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, weight in sorted(state.items()):
        digest.update(f"{name} {weight.dtype.str} {weight.shape}\n".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def imagenet_weights_at_hand(backbone: str, timeout_seconds: float = 3.0) -> bool:
    """Whether torchvision's weights are in torch's cache, or their server answers within the time."""
    url: str = BACKBONES[backbone].weights.url
    if (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file():
        return True
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout_seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


def _cut(network: nn.Module, layer: str, backbone: str) -> nn.Module:
    if layer not in dict(network.named_modules()):
        names = ", ".join(name for name, _ in network.named_children())
        raise ConfigError(f"--layer {layer}: {backbone} has no such layer; it has, among others, {names}")
    with warnings.catch_warnings():
        # Tracing says that the training graph differs (dropout); the trunk is only ever evaluated.
        warnings.simplefilter("ignore")
        trunk: nn.Module = create_feature_extractor(network.eval(), {layer: "map"}, suppress_diff_warning=True)
    return trunk


def _imagenet_state(backbone: str) -> dict[str, Tensor]:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch announces the download on stdout
            state: dict[str, Tensor] = BACKBONES[backbone].weights.get_state_dict(progress=False, check_hash=True)
        return state
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        name = BACKBONES[backbone].weights.url.rsplit("/", 1)[-1]
        raise WeightsError(
            f"ImageNet weights of {backbone} cannot be downloaded ({_first_line(error)}); give {name} from another "
            "machine by --weights PATH, or use --weights random"
        ) from None


def _state_of_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"--weights {path}: no such file; give imagenet, random or the path of a state dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError) as error:
        raise WeightsError(
            f"--weights {path}: not a file of weights that torch can load: {_first_line(error)}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"--weights {path}: not a state dict; save one with torch.save(network.state_dict(), PATH)")
    return state


def _load_into(trunk: Trunk, state: Mapping[str, Tensor], source: str) -> None:
    wanted = trunk.network.state_dict()
    # The classifier and the auxiliary heads (`aux*`) lie behind the cut.
    kept = {name: weight for name, weight in state.items() if name in wanted}
    if missing := sorted(set(wanted) - set(kept)):
        raise WeightsError(f"{source}: not weights of {trunk.backbone}: {missing[0]} is missing")
    wrong = [name for name, weight in kept.items() if weight.shape != wanted[name].shape]
    if wrong:
        raise WeightsError(
            f"{source}: not weights of {trunk.backbone}: {wrong[0]} has shape {tuple(kept[wrong[0]].shape)}"
        )
    trunk.network.load_state_dict(kept)


def _initialise_random(trunk: Trunk) -> None:
    """Kaiming-normal convolutions and BatchNorm statistics of built-in frames, a function of `RANDOM_SEED` alone.

    Everything is drawn by NumPy and rounded to float16, far above the rounding errors of any processor's own
    instructions, so that the weights have the same hash on every machine.
    """
    rng = np.random.default_rng(RANDOM_SEED)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            drawn = rng.standard_normal(tuple(module.weight.shape)) * np.sqrt(2 / fan_in)
            module.weight.copy_(torch.from_numpy(drawn.astype(np.float16)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.train()
            module.momentum = 1.0  # take this batch's statistics as they are
    trunk.double()
    with torch.inference_mode():
        trunk(torch.from_numpy(_calibration_frames(rng)))
    for norm in _batch_norms(trunk):
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(statistic.half())
    trunk.float()


def _batch_norms(trunk: Trunk) -> Iterator[nn.BatchNorm2d]:
    return (module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d))


def _calibration_frames(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Four seeded frames with edges and with detail at every scale, shape (4, 224, 224, 3)."""
    frames = np.zeros((4, 224, 224, 3))
    for side in (2, 4, 7, 14, 28, 56, 112, 224):
        squares = rng.random((4, side, side, 3))
        frames += squares.repeat(224 // side, axis=1).repeat(224 // side, axis=2) / 8
    return np.round(np.clip((frames - 0.5) * 2 + 0.5, 0, 1) * 255).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
