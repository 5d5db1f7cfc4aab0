"""The CNN trunk: networks cut after one or more spatial maps, from uint8 frames to feature cubes.

Legend: N frames, K grid side, D channels.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from attnrec.errors import ConfigError, WeightsError
from attnrec.features.caffe_googlenet import CaffeGoogLeNet, LocalResponseNorm
from attnrec.features.caffemodel import ZooWeights

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A CNN that features can be computed by."""

    build: Callable[[], nn.Module]  # builds the network with uninitialised weights
    weights: Any  # ImageNet weights, from torchvision or Caffe's model zoo
    layer: str  # default layer, the last with a spatial map
    mean: tuple[float, float, float] = _IMAGENET_MEAN  # RGB mean in [0, 1] to subtract
    std: tuple[float, float, float] = _IMAGENET_STD  # RGB standard deviation to divide by


def _googlenet() -> nn.Module:
    network: nn.Module = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False)
    return network


BACKBONES: dict[str, Backbone] = {
    "bvlc_googlenet": Backbone(
        CaffeGoogLeNet,
        ZooWeights(
            "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel", "405fc5acd08a3bb12de8ee5e23a96bec22f08204"
        ),
        "inception5b",
        (123 / 255, 117 / 255, 104 / 255),
        (1 / 255,) * 3,
    ),
    # GoogLeNet's ImageNet weights come with `transform_input`, which turns ImageNet's normalisation into this one.
    # The cut network would lose it, so it is part of the normalisation here.
    "googlenet": Backbone(
        _googlenet, torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1, "inception5b", (0.5,) * 3, (0.5,) * 3
    ),
    "resnet18": Backbone(torchvision.models.resnet18, torchvision.models.ResNet18_Weights.IMAGENET1K_V1, "layer4"),
    "resnet50": Backbone(torchvision.models.resnet50, torchvision.models.ResNet50_Weights.IMAGENET1K_V2, "layer4"),
    "squeezenet1_0": Backbone(
        torchvision.models.squeezenet1_0, torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1, "features"
    ),
    "mobilenet_v3_large": Backbone(
        torchvision.models.mobilenet_v3_large, torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V2, "features"
    ),
}


class Trunk(nn.Module):
    """A CNN up to some of its layers, with normalisation before it and pooling to a grid after it.

    Args:
        backbone: A name of `BACKBONES`.
        layers: Names of modules of the network that give spatial maps; empty for the last such module.
        grid_size: K; larger square maps are average-pooled to K x K, 0 keeps the map.

    Raises:
        ConfigError: There is no such backbone or layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, *, layers: Sequence[str] = (), grid_size: int = 0) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ConfigError(f"--backbone {backbone}: unknown; choose from {', '.join(BACKBONES)}")
        entry = BACKBONES[backbone]
        self.backbone = backbone
        self.layers = tuple(layers) or (entry.layer,)
        self.grid_size = grid_size
        self.network = _cut(entry.build(), self.layers, backbone)
        self.register_buffer("mean", torch.tensor(entry.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(entry.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Compute feature cubes.

        Args:
            frames: RGB frames in [0, 255], shape (N, H, W, 3), any number type.

        Returns:
            Feature cubes by layer, shape (N, K, K, D), rows from the top and columns from the left of the frame.

        Raises:
            ConfigError: A layer gives no square spatial map.
        """
        images = (frames.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        dtype = next(self.network.parameters()).dtype  # that of the normalisation, or half of it
        maps = self.network(images.to(dtype).contiguous(memory_format=torch.channels_last))
        return {layer: self._cubes(layer, maps[layer]) for layer in self.layers}

    def _cubes(self, layer: str, maps: Tensor) -> Tensor:
        if maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
            raise ConfigError(f"--layer {layer}: gives shape {tuple(maps.shape[1:])}, not a square spatial map")
        if 0 < self.grid_size < maps.shape[2]:
            maps = F.adaptive_avg_pool2d(maps.to(self.mean.dtype), self.grid_size)
        cubes: Tensor = maps.permute(0, 2, 3, 1)
        return cubes

    def cube_shapes(self, image_size: int) -> dict[str, tuple[int, int]]:
        """K and D of the cubes of each layer, for square frames of `image_size` px."""
        with torch.inference_mode():
            cubes = self(torch.zeros(1, image_size, image_size, 3, device=self.mean.device))
        return {layer: (cube.shape[1], cube.shape[3]) for layer, cube in cubes.items()}

    def weights_state(self, layer: str | None = None) -> dict[str, NDArray[Any]]:
        """The network's weights by name, as stored with features and runs; given a layer, only those it depends on."""
        modules = None if layer is None else _modules_before(self.network, layer)
        return {
            name: tensor.cpu().numpy()
            for name, tensor in self.network.state_dict().items()
            if modules is None or any(name == module or name.startswith(f"{module}.") for module in modules)
        }

    def load_weights_state(self, state: Mapping[str, NDArray[Any] | Tensor], source: str) -> None:
        """Load the network's weights from a state dict, which may hold others as well.

        Args:
            state: Weights by name, as from `weights_state` or torchvision.
            source: Where the weights come from, for error messages.

        Raises:
            WeightsError: A weight is missing, has another shape, or is not finite.
        """
        wanted = self.network.state_dict()
        # The classifier, the auxiliary heads (`aux*`) and other layers lie behind the cut.
        kept = {name: torch.as_tensor(weight) for name, weight in state.items() if name in wanted}
        if missing := sorted(set(wanted) - set(kept)):
            raise WeightsError(f"{source}: not weights of {self.backbone}: {missing[0]} is missing")
        for name, weight in kept.items():
            if weight.shape != wanted[name].shape:
                raise WeightsError(f"{source}: not weights of {self.backbone}: {name} has shape {tuple(weight.shape)}")
            if not bool(weight.isfinite().all()):
                raise WeightsError(f"{source}: {name} holds NaN or infinity")
        self.network.load_state_dict(kept)


def network_bytes(backbone: str) -> int:
    """Bytes of a whole network's weights, including its classifier, without allocating them."""
    with torch.device("meta"):
        return sum(weight.nbytes for weight in BACKBONES[backbone].build().state_dict().values())


def _cut(network: nn.Module, layers: Sequence[str], backbone: str) -> fx.GraphModule:
    for layer in layers:
        if layer not in dict(network.named_modules()):
            names = ", ".join(name for name, _ in network.named_children())
            raise ConfigError(f"--layer {layer}: {backbone} has no such layer; it has, among others, {names}")
    outputs = {layer: layer for layer in layers}
    with warnings.catch_warnings():
        # Tracing says that the training graph differs (dropout); the trunk is only ever evaluated.
        warnings.simplefilter("ignore")
        try:
            whole = {"leaf_modules": [LocalResponseNorm]}
            trunk: fx.GraphModule = create_feature_extractor(
                network.eval(), outputs, tracer_kwargs=whole, suppress_diff_warning=True
            )
        except ValueError:  # inside a block that torchvision traces as one piece, or never run
            raise ConfigError(
                f"--layer {', '.join(layers)}: {backbone} cannot be cut there; name a whole block"
            ) from None
    return trunk


def _modules_before(network: fx.GraphModule, layer: str) -> set[str]:
    """Names of the modules and parameters that a layer's map depends on."""
    output = next(node for node in network.graph.nodes if node.op == "output")
    waiting, seen = [output.args[0][layer]], set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += node.all_input_nodes
    return {str(node.target) for node in seen if node.op in ("call_module", "get_attr")}
