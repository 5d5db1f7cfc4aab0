"""Specifications of feature cubes and recognisers, as plain values for JSON."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from attnrec.checks import MAX_CHANNELS, MAX_GRID, Range, check
from attnrec.settings import LAYER_SEPARATOR, ArchitectureName, AttentionForm, Glimpse, Resize

LayerGrid = tuple[str, int, int]  # name of a layer, side K of its grid, and its channels D
_Dropout = Annotated[float, Range(0, 1, open="high")]


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides the values of a feature cube: equal specs give interchangeable features."""

    backbone: str  # CNN, as in `ExtractConfig`
    layer: str  # name of the CNN's layer whose map is the cube
    weights_id: str  # where the weights came from, for display
    weights_sha256: str  # hash of the trunk's weights up to the layer, for comparison; joined by + for several layers
    grid_size: Annotated[int, Range(0, MAX_GRID)]  # K of the stored K x K cube
    feature_dim: Annotated[int, Range(1, MAX_CHANNELS)]  # D, its channels
    image_size: Annotated[int, Range(1, 8192)]  # side in px of the CNN's square input
    resize: Resize  # `stretch` distorts a frame to a square, `crop` keeps its aspect and crops the centre
    sample_fps: Annotated[float | None, Range(0, 1000, open="low")]  # most frames per second kept; None keeps all
    precision: str  # `fp32`, or `bf16` if the CNN computed in bfloat16
    scaler: str = "bicubic a=-0.5, full chroma"  # how frames are resampled; another way gives other features
    # Name, K and D of each layer where the cubes of several stand side by side, see `joined`; empty for one.
    joined: tuple[LayerGrid, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        if self.joined:
            names, sides, channels = zip(*self.joined, strict=True)
            whole = (LAYER_SEPARATOR.join(names), max(sides), max(channels), len(names) - 1)
            hashes_joined = self.weights_sha256.count(LAYER_SEPARATOR)
            if min(*sides, *channels) < 1 or (self.layer, self.grid_size, self.feature_dim, hashes_joined) != whole:
                raise ValueError("joined layers do not give the features")

    @property
    def cube_shape(self) -> tuple[int, int, int]:
        """Shape of a feature cube: K, K, D."""
        return self.grid_size, self.grid_size, self.feature_dim

    @property
    def grids(self) -> tuple[LayerGrid, ...]:
        """Name, K and D of each layer."""
        return self.joined or ((self.layer, self.grid_size, self.feature_dim),)

    @property
    def num_locations(self) -> int:
        """Number of locations, L: K * K, summed over layers."""
        return sum(K * K for _, K, _ in self.grids)

    @property
    def layer_sizes(self) -> tuple[tuple[int, int], ...]:
        """L and D of each of several layers; empty for one."""
        return tuple((K * K, D) for _, K, D in self.joined)


def joined(specs: Sequence[FeatureSpec]) -> FeatureSpec:
    """The specification of several layers' cubes side by side: grid of the finest, channels of the deepest."""
    if len(specs) == 1:
        return specs[0]
    return dataclasses.replace(
        specs[0],
        layer=LAYER_SEPARATOR.join(spec.layer for spec in specs),
        weights_sha256=LAYER_SEPARATOR.join(spec.weights_sha256 for spec in specs),
        grid_size=max(spec.grid_size for spec in specs),
        feature_dim=max(spec.feature_dim for spec in specs),
        joined=tuple((spec.layer, spec.grid_size, spec.feature_dim) for spec in specs),
    )


def frame_bytes(specs: Sequence[FeatureSpec]) -> int:
    """Bytes of one frame's cubes over all layers."""
    return sum(spec.num_locations * spec.feature_dim * 2 for spec in specs)


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and sizes of a recogniser."""

    architecture: ArchitectureName
    feature_dim: Annotated[int, Range(1, MAX_CHANNELS)]  # D
    num_locations: Annotated[int, Range(1, MAX_GRID**2)]  # L = K * K
    num_classes: Annotated[int, Range(1, 10**5)]  # C
    attention: AttentionForm = "location"  # form of the attention; without effect on the baselines
    hidden_dim: Annotated[int, Range(1, 16384)] = 512  # H
    num_layers: Annotated[int, Range(1, 32)] = 3  # number of LSTM layers
    dropout: _Dropout = 0.5  # dropout probability on non-recurrent connections
    # L and D of each layer where the cubes of several stand side by side; empty for one.
    layers: tuple[tuple[int, int], ...] = ()
    multilabel: bool = False  # a video may have several labels: sigmoids in place of the softmax
    init_layers: Annotated[int, Range(1, 32)] = 2  # layers of Eq. 6's perceptrons
    scorer_layers: Annotated[int, Range(1, 32)] = 1  # layers of the content scorer
    attention_dim: Annotated[int | None, Range(1, MAX_CHANNELS)] = None  # A, the content scorer's width; None for H
    input_dropout: _Dropout | None = None  # dropout probability on the first LSTM layer's input; None for `dropout`
    add_mean: bool = False  # whether an attention model sees the mean slice beside the glimpse
    glimpse: Glimpse = "soft"  # the expected slice, or that of one location

    def __post_init__(self) -> None:
        check(self)
        locations, channels = (tuple(column) for column in zip(*self.layers, strict=True)) if self.layers else ((), ())
        if self.layers and (
            min(*locations, *channels) < 1 or (sum(locations), max(channels)) != (self.num_locations, self.feature_dim)
        ):
            raise ValueError("layers of other sizes than all of them together")
