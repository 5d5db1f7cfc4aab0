"""The trunk: networks cut after one or more spatial maps, from uint8 frames to feature cubes.

Legend: N frames, K grid side, D channels.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from attnrec.errors import ConfigError, WeightsError
from attnrec.features.caffe_googlenet import LocalResponseNorm
from attnrec.features.networks import backbone_of, last_map, network_state, spatial_map

# What torchvision has renamed since it published weights.
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


class Trunk(nn.Module):
    """A network up to some of its layers, with normalisation before it and pooling to a grid after it.

    Args:
        backbone: A name of `backbone_names`.
        layers: Names of modules of the network that give spatial maps; empty for the last such module.
        grid_size: K; larger square maps are average-pooled to K x K, 0 keeps the map.

    Raises:
        ConfigError: There is no such backbone or layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, *, layers: Sequence[str] = (), grid_size: int = 0) -> None:
        super().__init__()
        entry = backbone_of(backbone)
        self.backbone = backbone
        self.layers = tuple(layers) or (entry.only_layer or last_map(backbone).layer,)
        self.grid_size = grid_size
        if entry.only_layer is not None and self.layers != (entry.only_layer,):
            raise ConfigError(f"--layer {', '.join(layers)}: {backbone} has {entry.only_layer} alone")
        network = entry.build()
        self.network = network if entry.only_layer is not None else _cut(network, self.layers, backbone)
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
        outputs = self.network(images.to(dtype).contiguous(memory_format=torch.channels_last))
        if isinstance(outputs, Tensor):  # of a network that is not cut
            outputs = {self.layers[0]: outputs}
        return {layer: self._cubes(layer, outputs[layer]) for layer in self.layers}

    def _cubes(self, layer: str, output: Any) -> Tensor:
        maps = spatial_map(output)
        if maps is None:
            given = f"shape {tuple(output.shape[1:])}" if isinstance(output, Tensor) else "several tensors"
            raise ConfigError(f"--layer {layer}: gives {given}, not a square spatial map")
        if 0 < self.grid_size < maps.shape[2]:
            maps = F.adaptive_avg_pool2d(maps.to(self.mean.dtype), self.grid_size)
        cubes: Tensor = maps.permute(0, 2, 3, 1)
        return cubes

    def cube_shapes(self, image_size: int) -> dict[str, tuple[int, int]]:
        """K and D of the cubes of each layer, for square frames of `image_size` px."""
        with torch.inference_mode():
            cubes = self(torch.zeros(1, image_size, image_size, 3, device=self.mean.device))
        return {layer: (cube.shape[1], cube.shape[3]) for layer, cube in cubes.items()}

    def network_state(self) -> dict[str, Tensor]:
        """The network's weights by name, as tensors that share its memory."""
        state: dict[str, Tensor] = self.network.state_dict()
        # Tracing adds what it has computed of MaxViT's buffers.
        return {name: tensor for name, tensor in state.items() if not name.startswith("_tensor_constant")}

    def weights_state(self, layer: str | None = None) -> dict[str, NDArray[Any]]:
        """The network's weights by name, as stored with features and runs; given a layer, only those it depends on."""
        cut = self.network if isinstance(self.network, fx.GraphModule) else None
        modules = None if layer is None or cut is None else _modules_before(cut, layer)
        return {
            name: tensor.cpu().numpy()
            for name, tensor in self.network_state().items()
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
        wanted = self.network_state()
        # The classifier, the auxiliary heads (`aux*`) and other layers lie behind the cut.
        named = {_present_name(name): weight for name, weight in state.items()}
        kept = {name: torch.as_tensor(weight) for name, weight in named.items() if name in wanted}
        if missing := sorted(set(wanted) - set(kept)):
            raise WeightsError(f"{source}: not weights of {self.backbone}: {missing[0]} is missing")
        for name, weight in kept.items():
            if weight.shape != wanted[name].shape:
                raise WeightsError(f"{source}: not weights of {self.backbone}: {name} has shape {tuple(weight.shape)}")
            if not bool(weight.isfinite().all()):
                raise WeightsError(f"{source}: {name} holds NaN or infinity")
        self.network.load_state_dict(kept, strict=False)


def network_bytes(backbone: str) -> int:
    """Bytes of a whole network's weights, including its classifier, without allocating them."""
    return sum(weight.nbytes for weight in network_state(backbone).values())


def _present_name(weight: str) -> str:
    for earlier, present in _RENAMED:
        weight = earlier.sub(present, weight)
    return weight


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
