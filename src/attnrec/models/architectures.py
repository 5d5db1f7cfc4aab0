"""The recognisers by name, and the builder that turns a config into a module."""

import math
from collections.abc import Callable

import torch
from torch import nn

from attnrec.models.attention import AttentionLSTM
from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
from attnrec.specs import ModelConfig


def _attention(config: ModelConfig) -> nn.Module:
    return AttentionLSTM(
        feature_dim=config.feature_dim,
        num_locations=config.num_locations,
        num_classes=config.num_classes,
        hidden_dim=config.hidden_dim,
        num_layers=config.num_layers,
        attention=config.attention,
        attention_dim=config.attention_dim,
        scorer_layers=config.scorer_layers,
        init_layers=config.init_layers,
        dropout=config.dropout,
        input_dropout=config.input_dropout,
        add_mean=config.add_mean,
        layers=config.layers,
        glimpse=config.glimpse,
    )


def _pooled(pooling: str) -> Callable[[ModelConfig], nn.Module]:
    def build(config: ModelConfig) -> nn.Module:
        return PooledLSTM(
            pooling,
            feature_dim=config.feature_dim,
            num_classes=config.num_classes,
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            init_layers=config.init_layers,
            dropout=config.dropout,
            input_dropout=config.input_dropout,
            layers=config.layers,
        )

    return build


def _softmax(config: ModelConfig) -> nn.Module:
    return SoftmaxRegression(
        feature_dim=config.feature_dim,
        num_locations=config.num_locations,
        num_classes=config.num_classes,
        layers=config.layers,
    )


ARCHITECTURES: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "attention": _attention,
    "avg-pool": _pooled("avg"),
    "max-pool": _pooled("max"),
    "avg-max-pool": _pooled("avg-max"),
    "softmax": _softmax,
}


def build_model(config: ModelConfig) -> nn.Module:
    """Build a recogniser with fresh parameters.

    Args:
        config: Architecture and sizes of the recogniser.

    Returns:
        A module that maps cubes (B, T, L, D) to a `RecognizerOutput`.
    """
    return ARCHITECTURES[config.architecture](config)


def count_parameters(config: ModelConfig) -> int:
    """Number of a recogniser's parameters, without allocating them."""
    return sum(math.prod(shape) for shape in state_shapes(config).values())


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a recogniser's parameters by name, without allocating them."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build_model(config).state_dict().items()}
