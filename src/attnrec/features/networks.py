"""The networks that features can be computed by, and where each gives its last spatial map.

Legend: N frames, K grid side, D channels, T tokens.
"""

import difflib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnrec.errors import ConfigError
from attnrec.features.caffe_googlenet import CaffeGoogLeNet
from attnrec.features.caffemodel import ZooWeights
from attnrec.features.timm_networks import PREFIX, timm_network

MAP_IMAGE_SIZE = 224  # side in px of the frames that `last_map` is of
_CAFFE = "bvlc_googlenet"
_SHAPE_KEEPERS = {
    F.batch_norm, F.layer_norm, F.relu, F.relu6, F.silu, F.gelu, F.hardswish, F.hardsigmoid, torch.sigmoid
}  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """A network that features can be computed by."""

    build: Callable[[], nn.Module]  # builds the network with uninitialised weights
    weights: Any  # published weights, of torchvision, Caffe's model zoo or timm
    mean: tuple[float, ...]  # RGB mean in [0, 1] to subtract
    std: tuple[float, ...]  # RGB standard deviation to divide by
    only_layer: str | None = None  # the one layer of a network that cannot be cut, as it cannot be traced


@dataclass(frozen=True)
class LastMap:
    """The last spatial map that a network computes of frames of `MAP_IMAGE_SIZE` px."""

    layer: str  # name of the module that gives it
    side: int  # K
    channels: int  # D


def backbone_names() -> list[str]:
    """Names of all networks but timm's, which are there if timm is."""
    return [_CAFFE, *torchvision.models.list_models(module=torchvision.models)]


@functools.cache
def backbone_of(name: str) -> Backbone:
    """The network of a name.

    Raises:
        ConfigError: There is none.
    """
    if name == _CAFFE:
        return Backbone(
            CaffeGoogLeNet,
            ZooWeights(
                "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
                "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
            ),
            mean=(123 / 255, 117 / 255, 104 / 255),
            std=(1 / 255,) * 3,
        )
    if name.startswith(PREFIX):
        network, mean, std = timm_network(name, MAP_IMAGE_SIZE)
        return Backbone(network.build, network, mean, std, only_layer="features")
    if name not in (names := backbone_names()):
        near = difflib.get_close_matches(name, names)
        meant = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"--backbone {name}: unknown; {meant}`attnrec info --backbones` lists all")
    weights = _weights_for(name)
    build = functools.partial(torchvision.models.get_model, name, weights=None)
    if name not in ("googlenet", "inception_v3"):
        transforms = weights.transforms()
        return Backbone(build, weights, tuple(transforms.mean), tuple(transforms.std))
    # The ImageNet weights of these come with `transform_input`, which turns ImageNet's normalisation into this one.
    # The cut network would lose it, so it is part of the normalisation here.
    return Backbone(functools.partial(build, init_weights=False, aux_logits=False), weights, (0.5,) * 3, (0.5,) * 3)


def _weights_for(name: str) -> Any:
    """The default ImageNet weights of a torchvision network, or those for frames of 224 px where they need larger."""
    published = torchvision.models.get_model_weights(name)
    fitting = [weights for weights in published if max(weights.meta["min_size"]) <= MAP_IMAGE_SIZE]
    return published.DEFAULT if published.DEFAULT in fitting or not fitting else fitting[0]


@functools.cache
def last_map(name: str) -> LastMap:
    """Where a network gives its last spatial map: the last of its own blocks with weights that gives a square one.

    Nothing is computed but shapes.

    Raises:
        ConfigError: There is no such network.
    """
    with _ShapesOnly():
        network = backbone_of(name).build().eval().to("meta")
        found: list[LastMap] = []

        def note(layer: str, output: Any) -> None:
            maps = spatial_map(output)
            if maps is not None and maps.shape[2] > 1:
                found.append(LastMap(layer, maps.shape[2], maps.shape[1]))

        for layer, block in _blocks(network):
            if any(True for _ in block.parameters()):
                block.register_forward_hook(lambda _module, _inputs, output, layer=layer: note(layer, output))
        with torch.inference_mode():
            network(torch.empty(1, 3, MAP_IMAGE_SIZE, MAP_IMAGE_SIZE))
    return found[-1]


def _blocks(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that a network calls itself, by name; a list of modules is not called."""
    blocks: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList):
            blocks += [(f"{name}.{index}", block) for index, block in child.named_children()]
        else:
            blocks.append((name, child))
    return blocks


def spatial_map(output: Any) -> Tensor | None:
    """What a layer gives as a map with channels first, or None if it gives no square one.

    Args:
        output: Maps (N, D, K, K) or (N, K, K, D), or tokens (N, T, D) of a K x K grid after fewer than 2 K + 1 others,
            such as a class token, which are left out.

    Returns:
        The map, a view of shape (N, D, K, K).
    """
    if not isinstance(output, Tensor):
        return None
    if output.ndim == 4 and output.shape[2] == output.shape[3]:
        return output
    if output.ndim == 4 and output.shape[1] == output.shape[2]:
        return output.permute(0, 3, 1, 2)
    if output.ndim == 3:
        side = math.isqrt(output.shape[1])
        return output[:, output.shape[1] - side**2 :].mT.reshape(len(output), output.shape[2], side, side)
    return None


def network_state(name: str) -> dict[str, Tensor]:
    """A whole network's weights including its classifier, as shapes and types without values."""
    with _ShapesOnly():
        state: dict[str, Tensor] = backbone_of(name).build().to("meta").state_dict()
    return state


class _ShapesOnly(TorchFunctionMode):
    """Context in which networks are built and run on the meta device; with as little work as shapes need.

    `torch.device("meta")` would also take the numbers that RegNet computes its widths from, and spends most of its time
    on drawing weights and on activations.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("tensor")  # as `nn.init` names it
        fills = func.__name__.endswith("_") and not func.__name__.endswith("__")
        if func in _SHAPE_KEEPERS or (fills and isinstance(first, Tensor) and first.is_meta):
            return first
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)
