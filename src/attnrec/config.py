"""Frozen settings of every workflow, as plain values that go to and come from JSON."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from attnrec.checks import require_type, shortened
from attnrec.errors import ConfigError

BackboneName = Literal["googlenet", "bvlc_googlenet", "resnet18", "resnet50", "squeezenet1_0", "mobilenet_v3_large"]
ArchitectureName = Literal["attention", "avg-pool", "max-pool", "avg-max-pool", "softmax"]
AttentionForm = Literal["location", "content", "saliency"]
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
DatasetLayout = Literal[
    "auto", "folders", "names", "unlabelled", "ucf11", "ucf101", "hmdb51", "jhmdb", "hollywood2", "csv"
]

Config = TypeVar("Config")


class Bounds(NamedTuple):
    """What a setting may be: from `low` to `high`, or over `low` where it is `open`."""

    low: float
    high: float
    open: bool = False


MAX_GRID = 64
MAX_CHANNELS = 16384
# Far beyond what makes sense, and far below what takes a machine's memory or makes no number of a float32.
BOUNDS = {
    "fps": Bounds(0, 1000, open=True),
    "sample_fps": Bounds(0, 1000, open=True),
    "block_frames": Bounds(1, 10_000),
    "block_stride": Bounds(1, 10**9),
    "hidden_dim": Bounds(1, 16384),
    "num_layers": Bounds(1, 32),
    "init_layers": Bounds(1, 32),
    "scorer_layers": Bounds(1, 32),
    "attention_dim": Bounds(1, MAX_CHANNELS),
    "last_steps": Bounds(1, 10_000),
    "batch_size": Bounds(1, 65536),
    "epochs": Bounds(1, 10**6),
    "max_steps": Bounds(1, 10**9),
    "overfit": Bounds(1, 10**9),
    "patience": Bounds(0, 10**6),
    "learning_rate": Bounds(0, 100, open=True),
    "attention_penalty": Bounds(0, 10**6),
    "weight_decay": Bounds(0, 100),
    "clip": Bounds(0, 10**9),
    "save_every": Bounds(0, 10**9),
    "seed": Bounds(0, 2**32 - 1),
    "jobs": Bounds(1, 1024),
    "grid_size": Bounds(0, MAX_GRID),  # 0 keeps a map as it is
    "feature_dim": Bounds(1, MAX_CHANNELS),
    "num_locations": Bounds(1, MAX_GRID**2),
    "num_classes": Bounds(1, 10**5),
    "image_size": Bounds(1, 8192),
    "feature_scale": Bounds(0, 10**9, open=True),
}


def _check_bounds(config: Any) -> None:
    """Check the settings that have bounds; None is any setting's way to say that it is not given."""
    for field in fields(config):
        bounds, value = BOUNDS.get(field.name), getattr(config, field.name)
        if bounds is None or value is None:
            continue
        low, high, is_open = bounds
        if not low <= value <= high or (is_open and value == low):
            what = f"over {low} and at most {high}" if is_open else f"from {low} to {high}"
            raise ConfigError(f"{field.name} must be {what}, got {shortened(value)}")


def _check_dropout(config: Any) -> None:
    for name in ("dropout", "input_dropout"):
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise ConfigError(f"{name} must be in [0, 1), got {value}")


def _check_choices(config: Any, optional: Collection[str] = (), **choices: Any) -> None:
    for name, allowed in choices.items():
        if getattr(config, name) not in (*get_args(allowed), *([None] if name in optional else [])):
            raise ConfigError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(config, name)!r}")


def config_from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a config dataclass from its JSON fields.

    Raises:
        ConfigError: A field is missing, unknown, of another type or out of bounds.
    """
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"{cls.__name__}: unknown field {unknown[0]!r}; was it made by a newer attnrec?")
    hints = get_type_hints(cls)
    for name, value in values.items():
        require_type(hints[name], value, f"{cls.__name__}: {name}")
    try:
        return cls(**{name: _plain(hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from None


def _plain(hint: Any, value: Any) -> Any:
    return tuple(value) if get_origin(hint) is tuple else value


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

    def __post_init__(self) -> None:
        _check_bounds(self)

    @property
    def num_locations(self) -> int:
        """L = K * K."""
        return self.grid_size**2


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `extract`; see its options for their meaning. `splits`, `labels` and `boxes` are paths."""

    dataset: DatasetLayout = "auto"
    splits: str | None = None
    labels: str | None = None
    boxes: str | None = None
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
        _check_bounds(self)


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
        add_mean: Whether an attention model sees the mean slice beside the glimpse.
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
    add_mean: bool = False

    def __post_init__(self) -> None:
        _check_choices(self, architecture=ArchitectureName, attention=AttentionForm)
        _check_bounds(self)
        _check_dropout(self)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `train`. None means: the preset decides (see `workflows.presets`), or, for `split`, the store.

    For `clip` and `patience` 0 means never; for `max_steps` and `overfit` None does. `save_every` is in seconds.
    """

    model: ArchitectureName = "attention"
    attention: AttentionForm | None = None
    add_mean: bool | None = None
    attention_penalty: float = 0.0
    fps: float = 30.0
    block_frames: int | None = None
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
    precision: Precision = "auto"
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
        _check_bounds(self)
        _check_dropout(self)
        if self.retrain and (self.max_steps is not None or self.overfit is not None):
            raise ConfigError("--retrain trains to the loss of a whole training: leave out --max-steps and --overfit")
        if self.last_steps is not None and self.last_steps > (self.block_frames or self.last_steps):
            raise ConfigError(
                f"--last-steps {self.last_steps}: a block has {self.block_frames} frames; see --block-frames"
            )

    @property
    def num_steps(self) -> int:
        """T, of settings without gaps."""
        assert self.block_frames is not None
        return self.block_frames


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
        boxes: Draw annotated boxes where they are known.
    """

    style: PictureStyle = "paper"
    scale: PictureScale = "clip"
    width: int = 240
    strip: int = 6
    start: float = 0.0
    duration: float | None = None
    boxes: bool = True

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
