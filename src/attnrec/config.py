"""Frozen settings of every workflow, as plain values that go to and come from JSON."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from attnrec.errors import ConfigError

BackboneName = Literal["googlenet", "bvlc_googlenet", "resnet18", "resnet50", "squeezenet1_0", "mobilenet_v3_large"]
ArchitectureName = Literal["attention", "avg-pool", "max-pool", "softmax"]
AttentionForm = Literal["location", "content"]
Preset = Literal["auto", "paper", "authors-code"]
Resize = Literal["stretch", "crop"]
Reduction = Literal["mean", "vote"]
PenaltyReduction = Literal["sum", "mean"]
DecayPer = Literal["block", "batch"]
OptimizerName = Literal["adam", "sgd"]
BlockStarts = Literal["by-time", "by-frame"]
OnError = Literal["skip", "fail"]
Precision = Literal["auto", "fp32", "bf16"]
SplitPart = Literal["test", "validation", "train"]
PictureStyle = Literal["paper", "heat", "contour", "grid"]
PictureScale = Literal["frame", "clip", "fixed"]
DatasetLayout = Literal["auto", "folders", "names", "unlabelled", "ucf11", "ucf101", "hmdb51", "hollywood2", "csv"]

Config = TypeVar("Config")


def _check_choices(config: Any, optional: Collection[str] = (), **choices: Any) -> None:
    for name, allowed in choices.items():
        if getattr(config, name) not in (*get_args(allowed), *([None] if name in optional else [])):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(config, name)!r}")


def config_from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config dataclass from its JSON fields.

    Raises:
        ConfigError: A field is missing or unknown.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{cls.__name__}: unknown field {unknown[0]!r}; was it made by a newer attnrec?")
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from None


@dataclass(frozen=True)
class FeatureSpec:
    """All that decides the numbers in a feature cube: two equal specs give interchangeable features.

    Attributes:
        backbone: Network, one of `BackboneName`.
        layer: Name of the network's layer whose map is the cube.
        weights_id: Where the weights came from, for people.
        weights_sha256: Hash of the trunk's weights, for comparison.
        grid_size: K of the stored K x K cube.
        feature_dim: D, its channels.
        image_size: Side in px of the square that the network sees.
        resize: `stretch` distorts a frame to the square, `crop` keeps its aspect and cuts the middle out.
        sample_fps: Most frames per second that are kept of a video; None keeps all.
        precision: `fp32`, or `bf16` where the network computed in bfloat16.
        scaler: How frames are resampled; a change of it makes other features.
    """

    backbone: str
    layer: str
    weights_id: str
    weights_sha256: str
    grid_size: int
    feature_dim: int
    image_size: int
    resize: Resize
    sample_fps: float | None
    precision: str
    scaler: str = "bicubic a=-0.5, full chroma"

    @property
    def num_locations(self) -> int:
        """L = K * K."""
        return self.grid_size**2


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `extract`; see its options for their meaning. `splits` and `labels` are paths."""

    dataset: DatasetLayout = "auto"
    splits: str | None = None
    labels: str | None = None
    backbone: BackboneName = "googlenet"
    weights: str = "imagenet"
    layers: tuple[str, ...] = ()
    grid_size: int = 7
    resize: Resize = "stretch"
    sample_fps: float | None = 30.0
    precision: Precision = "auto"
    on_error: OnError = "skip"
    strict: bool = False
    overwrite: bool = False
    seed: int = 0
    device: str = "auto"
    jobs: int | None = None

    def __post_init__(self) -> None:
        _check_choices(
            self, dataset=DatasetLayout, backbone=BackboneName, resize=Resize, precision=Precision, on_error=OnError
        )
        if len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"layers must differ, got {', '.join(self.layers)}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must be from 0 to 2^32 - 1, got {self.seed}")
        if not 0 <= self.grid_size <= 64:
            raise ConfigError(f"grid_size must be from 0 to 64, got {self.grid_size}")
        if self.sample_fps is not None and not 0 < self.sample_fps <= 1000:
            raise ConfigError(f"sample_fps must be over 0 and at most 1000, or None, got {self.sample_fps}")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and sizes of a recogniser.

    Attributes:
        architecture: One of `ArchitectureName`.
        feature_dim: D.
        num_locations: L = K * K.
        num_classes: C.
        attention: Form of the location scorer; of no effect on the baselines.
        hidden_dim: H.
        num_layers: LSTM layers.
        dropout: Probability on non-recurrent connections.
        multilabel: A video may have several labels: sigmoids in place of the softmax.
        init_layers: Layers of Eq. 6's perceptrons.
        scorer_layers: Layers of the content scorer.
        attention_dim: A, width of the content scorer; H where None.
        input_dropout: Probability on the first LSTM layer's input; `dropout` where None.
    """

    architecture: ArchitectureName
    feature_dim: int
    num_locations: int
    num_classes: int
    attention: AttentionForm = "location"
    hidden_dim: int = 512
    num_layers: int = 3
    dropout: float = 0.5
    multilabel: bool = False
    init_layers: int = 2
    scorer_layers: int = 1
    attention_dim: int | None = None
    input_dropout: float | None = None

    def __post_init__(self) -> None:
        _check_choices(self, architecture=ArchitectureName, attention=AttentionForm)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`. None means: the preset decides (see `workflows.presets`), or, for `split`, the store.

    For `clip` and `patience` 0 means never; for `max_steps` and `overfit` None does. `save_every` is in seconds.
    """

    model: ArchitectureName = "attention"
    attention: AttentionForm | None = None
    attention_penalty: float = 0.0
    fps: float = 30.0
    block_frames: int = 30
    block_stride: int = 1
    split: str | None = None
    layer: str | None = None
    preset: Preset = "auto"
    hidden_dim: int | None = None
    num_layers: int | None = None
    dropout: float = 0.5
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-5
    retrain: bool = False
    optimizer: OptimizerName | None = None
    decay_per: DecayPer | None = None
    penalty_reduction: PenaltyReduction | None = None
    init_layers: int | None = None
    scorer_layers: int | None = None
    attention_dim: int | None = None
    input_dropout: float | None = None
    block_starts: BlockStarts | None = None
    reduction: Reduction | None = None
    last_steps: int | None = None
    clip: float | None = None
    patience: int | None = None
    max_steps: int | None = None
    overfit: int | None = None
    precision: Precision = "fp32"
    save_every: float = 120.0
    seed: int = 0
    device: str = "auto"
    jobs: int | None = None

    def __post_init__(self) -> None:
        _check_choices(self, model=ArchitectureName, preset=Preset, precision=Precision)
        optional = {
            "attention": AttentionForm,
            "optimizer": OptimizerName,
            "decay_per": DecayPer,
            "penalty_reduction": PenaltyReduction,
            "block_starts": BlockStarts,
            "reduction": Reduction,
        }
        _check_choices(self, optional, **optional)
        counts = ("block_frames", "block_stride", "hidden_dim", "num_layers", "batch_size", "epochs")
        depths = ("init_layers", "scorer_layers", "attention_dim", "last_steps", "max_steps", "overfit")
        for name in ("fps", *counts, *depths, "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be a positive number, got {value}")
        for name in ("attention_penalty", "weight_decay", "clip", "patience", "save_every"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name} must be zero or more, got {value}")
        for name in ("dropout", "input_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {value}")
        if self.retrain and (self.max_steps is not None or self.overfit is not None):
            raise ConfigError("--retrain trains to the loss of a whole training: leave out --max-steps and --overfit")
        if self.last_steps is not None and self.last_steps > self.block_frames:
            raise ConfigError(f"last_steps must be at most block_frames, {self.block_frames}, got {self.last_steps}")


# Options of `train` under other names than their settings.
_OPTIONS = {
    "attention_penalty": "--lambda",
    "hidden_dim": "--hidden",
    "num_layers": "--layers",
    "attention_dim": "--scorer-width",
    "reduction": "--reduce",
}


def option_of(setting: str) -> str:
    """The option of `train` that gives a setting of `TrainConfig`."""
    return _OPTIONS.get(setting, "--" + setting.replace("_", "-"))


@dataclass(frozen=True)
class PictureConfig:
    """Settings of `visualize`.

    Attributes:
        style: `paper` is white light on the darkened frame, `heat` a colour map, `contour` lines of equal attention,
            `grid` the cells with their weights.
        scale: What is drawn at full strength: the `frame`'s own peak, the `clip`'s, or a `fixed` multiple of uniform
            attention.
        width: Widest that one picture of a frame may be, in px; the aspect is the video's.
        strip: Steps of a strip.
        start: Where in the clip to begin, in seconds.
        duration: Seconds to draw; None draws up to the end.
    """

    style: PictureStyle = "paper"
    scale: PictureScale = "clip"
    width: int = 240
    strip: int = 6
    start: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        _check_choices(self, style=PictureStyle, scale=PictureScale)
        if not 64 <= self.width <= 1920:
            raise ConfigError(f"--width {self.width}: must be from 64 to 1920 px")
        if not 1 <= self.strip <= 60:
            raise ConfigError(f"--strip {self.strip}: must be from 1 to 60 steps")
        if not 0 <= self.start < float("inf"):
            raise ConfigError(f"--start {self.start:g}: must be zero or more seconds")
        if self.duration is not None and not 0 < self.duration < float("inf"):
            raise ConfigError(f"--duration {self.duration:g}: must be over zero seconds")
