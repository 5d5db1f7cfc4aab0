"""Every setting, defined once: name, range, default, help, and whether it decides the weights of a training.

The command line, man pages, presets, run names and the check of `--resume` read these definitions.
"""

import dataclasses
import functools
import inspect
import itertools
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal

from attnrec.checks import MAX_CHANNELS, MAX_GRID, Range, annotations_of, check
from attnrec.errors import ConfigError

ArchitectureName = Literal["attention", "avg-pool", "max-pool", "avg-max-pool", "softmax"]
AttentionForm = Literal["location", "content", "saliency"]
Glimpse = Literal["soft", "hard"]
Preset = Literal["auto", "paper", "authors-code"]
Resize = Literal["stretch", "crop"]
Reduction = Literal["mean", "vote"]
PenaltyReduction = Literal["sum", "mean"]
DecayPer = Literal["block", "batch"]
OptimizerName = Literal["adam", "sgd"]
BlockStarts = Literal["by-time", "by-frame"]
LAYER_SEPARATOR = "+"  # between the layers of a set
OnError = Literal["skip", "fail"]
Precision = Literal["auto", "fp32", "bf16"]
SplitPart = Literal["test", "validation", "train"]
PictureStyle = Literal["paper", "heat", "contour", "grid"]
PictureScale = Literal["frame", "clip", "fixed"]
DatasetLayout = Literal[
    "auto", "folders", "names", "unlabelled", "ucf11", "ucf101", "hmdb51", "jhmdb", "hollywood2", "csv"
]


@dataclass(frozen=True)
class Setting:
    """Describes a setting, beside its name, type and default."""

    help: str  # on the command line and in the man page
    range: Range | None = None  # allowed numbers
    flags: tuple[str, ...] = ()  # names of the option; empty if it is named as the setting
    metavar: str | None = None
    short: str | None = None  # name in run and row names; None for the setting's own
    decides: bool = True  # whether it changes the weights beyond their last digits
    of_attention: bool = False  # used by attention models only
    by_data: bool = False  # presets derive it from the number of blocks, so folds may differ
    has_option: bool = True  # False: given by `--set NAME=VALUE`
    takes_native: bool = False  # the word native gives None
    joined: bool = False  # the items of a list option, joined by `LAYER_SEPARATOR`


@functools.cache
def settings_of(cls: type) -> dict[str, Setting]:
    """The settings among the fields of a dataclass, by name and in order."""
    notes = {name: found for name, (_, found) in annotations_of(cls).items()}
    return {name: note for name, found in notes.items() for note in found if isinstance(note, Setting)}


_FPS = Range(0, 1000, open="low")
_COUNT = Range(1, 10**9)
_DROPOUT = Range(0, 1, open="high")
Seed = Annotated[int, Setting("Seed of everything random.", Range(0, 2**32 - 1))]
Device = Annotated[str, Setting("Device: auto, cpu, cuda or cuda:N.", decides=False)]
# With 100000 it would hang while it makes threads, or end in the system's refusal of one.
Jobs = Annotated[
    int | None,
    Setting("CPU threads, and videos decoded at once; default: all cores.", Range(1, 1024), metavar="N", decides=False),
]


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Settings of `extract`."""

    dataset: Annotated[DatasetLayout, Setting("Layout of the videos, labels and splits; auto detects it.")] = "auto"
    splits: Annotated[
        str | None,
        Setting("Split lists: a CSV, or a folder of files such as trainlist01.txt.", metavar="PATH"),
    ] = None
    labels: Annotated[
        str | None, Setting("CSV with columns path, label and, optionally, group and split.", metavar="FILE")
    ] = None
    boxes: Annotated[
        str | None,
        Setting(
            "CSV of boxes or points to keep in the store, in the format that evaluate takes; default: boxes.csv in the "
            "folder of videos, if there is one.",
            metavar="FILE",
        ),
    ] = None
    backbone: Annotated[
        str, Setting("Network that computes the features; `attnrec info --backbones` lists them.", metavar="NAME")
    ] = "googlenet"
    weights: Annotated[
        str,
        Setting(
            "Weights of the CNN: imagenet (downloaded once), random, or the path of a state dict or a feature store."
        ),
    ] = "imagenet"
    layers: Annotated[
        tuple[str, ...],
        Setting(
            "Layers whose feature maps are stored, comma-separated; default: the last with a spatial map.",
            flags=("--layer",),
            metavar="NAMES",
        ),
    ] = ()
    grid_size: Annotated[
        int, Setting("Pool larger feature maps to K x K; 0 keeps them.", Range(0, MAX_GRID), metavar="K")
    ] = 7
    fps: Annotated[
        float | None,
        Setting(
            "Most frames per second to store; native stores all.",
            _FPS,
            metavar="RATE",
            takes_native=True,
        ),
    ] = 30.0
    resize: Annotated[Resize, Setting("Make a frame square by stretching it, or by cropping its centre.")] = "stretch"
    precision: Annotated[
        Precision, Setting("Precision of the CNN: fp32, bf16, or auto (bf16 where the hardware has it).")
    ] = "auto"
    on_error: Annotated[OnError, Setting("Skip videos that cannot be decoded, or fail at the first of them.")] = "skip"
    strict: Annotated[bool, Setting("Treat damaged and truncated videos as undecodable.", flags=("--strict",))] = False
    overwrite: Annotated[
        bool, Setting("Replace a store that was made with other settings.", flags=("--overwrite",))
    ] = False
    seed: Seed = 0
    device: Device = "auto"
    jobs: Jobs = None

    def __post_init__(self) -> None:
        check(self)
        if len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"layers must differ, got {', '.join(self.layers)}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of `train` as the user gives them. None leaves a setting to the preset, or the split to the store."""

    model: Annotated[ArchitectureName, Setting("Recogniser to train.")] = "attention"
    attention: Annotated[
        AttentionForm | None,
        Setting(
            "Input of the attention: the previous LSTM state (location, the paper's Eq. 1); that and the frame's "
            "features (content); or how strong the features are and how much they change (saliency, the default of "
            "auto).",
            short="",
            of_attention=True,
        ),
    ] = None
    add_mean: Annotated[
        bool | None,
        Setting(
            "Also give the LSTM of an attention model the mean over all locations; auto does, the paper does not.",
            of_attention=True,
        ),
    ] = None
    glimpse: Annotated[
        Glimpse,
        Setting(
            "What the LSTM sees of a frame: the mean over all locations, weighted by the attention (soft, as in the "
            "paper), or one location that the attention draws (hard).",
            short="",
            of_attention=True,
        ),
    ] = "soft"
    attention_penalty: Annotated[
        float,
        Setting(
            "Weight of the doubly stochastic attention penalty.",
            Range(0, 10**6),
            flags=("--lambda",),
            short="lambda",
            of_attention=True,
        ),
    ] = 0.0
    fps: Annotated[float, Setting("Frames per second to sample; at most the stored rate.", _FPS)] = 30.0
    block_frames: Annotated[
        int | None,
        Setting("Frames per block, T: 30; auto takes fewer for shorter videos.", Range(1, 10_000), short="frames"),
    ] = None
    block_stride: Annotated[
        int,
        Setting(
            "Stored frames between the starts of blocks.", _COUNT, flags=("--block-stride", "--stride"), short="stride"
        ),
    ] = 1
    split: Annotated[
        str | None,
        Setting("Split of the store, such as cv3-1 or hmdb51-1; default: the split named default, or the first."),
    ] = None
    layer: Annotated[
        str | None,
        Setting(
            "Layer whose features to train on, or several, as a,b or a+b: the attention then chooses among the "
            "locations of all of them; default: the store's first.",
            short="",
            metavar="NAMES",
            joined=True,
        ),
    ] = None
    preset: Annotated[
        Preset,
        Setting(
            "Defaults of settings that are not given: auto fits model and training to the data; paper takes the "
            "paper's values, authors-code those of the authors' released code."
        ),
    ] = "auto"
    hidden_dim: Annotated[
        int | None,
        Setting(
            "Hidden units per LSTM layer: 512 in the paper; auto takes fewer for small datasets.",
            Range(1, 16384),
            flags=("--hidden",),
        ),
    ] = None
    num_layers: Annotated[
        int | None,
        Setting("LSTM layers: 3 in the paper; auto takes fewer for small datasets.", Range(1, 32), flags=("--layers",)),
    ] = None
    dropout: Annotated[float, Setting("Dropout probability on non-recurrent connections.", _DROPOUT)] = 0.5
    batch_size: Annotated[int | None, Setting("Blocks per batch.", Range(1, 65536), by_data=True)] = None
    epochs: Annotated[int | None, Setting("Maximum number of epochs.", Range(1, 10**6), by_data=True)] = None
    learning_rate: Annotated[
        float | None, Setting("Learning rate of the optimiser.", Range(0, 100, open="low"), by_data=True)
    ] = None
    weight_decay: Annotated[float, Setting("Weight decay, gamma in the paper.", Range(0, 100))] = 1e-5
    retrain: Annotated[
        bool,
        Setting(
            "Afterwards train anew on the training and validation videos together, down to the training loss of the "
            "best epoch.",
            flags=("--retrain",),
        ),
    ] = False
    optimizer: Annotated[
        OptimizerName | None, Setting("Optimiser: adam, or sgd without momentum.", has_option=False)
    ] = None
    decay_per: Annotated[
        DecayPer | None,
        Setting("Add weight decay to the mean loss of a batch (block) or to its sum (batch).", has_option=False),
    ] = None
    penalty_reduction: Annotated[
        PenaltyReduction | None,
        Setting("Sum the attention penalty over locations, or average it.", of_attention=True, has_option=False),
    ] = None
    init_layers: Annotated[
        int | None,
        Setting("Layers of the perceptrons that give the initial LSTM state (Eq. 6).", Range(1, 32), has_option=False),
    ] = None
    scorer_layers: Annotated[
        int | None,
        Setting("Layers of the content-attention scorer.", Range(1, 32), of_attention=True, has_option=False),
    ] = None
    attention_dim: Annotated[
        int | None,
        Setting("Units of the content-attention scorer.", Range(1, MAX_CHANNELS), of_attention=True, has_option=False),
    ] = None
    reinforce_weight: Annotated[
        float,
        Setting(
            "Hard attention: weight of the gradient of the choices; 1 makes the whole that of the expected loss.",
            Range(0, 10**6),
            of_attention=True,
            has_option=False,
        ),
    ] = 1.0
    entropy_weight: Annotated[
        float,
        Setting(
            "Hard attention: weight of the attention's entropy, which keeps it from settling early.",
            Range(0, 10**6),
            of_attention=True,
            has_option=False,
        ),
    ] = 0.002
    input_dropout: Annotated[
        float | None,
        Setting("Dropout probability on the first LSTM layer's input.", _DROPOUT, has_option=False),
    ] = None
    block_starts: Annotated[
        BlockStarts | None,
        Setting("Sample blocks by the times of frames, or by counting frames as 30 a second.", has_option=False),
    ] = None
    reduction: Annotated[
        Reduction | None,
        Setting("Prediction of a video from its blocks: mean probability, or majority vote.", flags=("--reduce",)),
    ] = None
    last_steps: Annotated[
        int | None, Setting("Predict from this number of last steps of each block.", Range(1, 10_000), has_option=False)
    ] = None
    clip: Annotated[
        float | None,
        Setting("Gradient clipping: maximum gradient norm; 0 for none, as in the paper.", Range(0, 10**9)),
    ] = None
    patience: Annotated[
        int | None,
        Setting("Early stopping: epochs without a better validation loss; 0 for none.", Range(0, 10**6), by_data=True),
    ] = None
    max_steps: Annotated[int | None, Setting("Maximum number of optimiser steps.", _COUNT, metavar="N")] = None
    overfit: Annotated[
        int | None, Setting("For debugging: train on N blocks and skip validation.", _COUNT, metavar="N")
    ] = None
    precision: Annotated[
        Precision, Setting("Precision of the training: fp32, bf16, or auto (bf16 where the hardware has it).")
    ] = "auto"
    save_every: Annotated[
        float,
        Setting(
            "Seconds between checkpoints within an epoch; each epoch ends with one.", Range(0, 10**9), decides=False
        ),
    ] = 120.0
    tensorboard: Annotated[
        bool,
        Setting(
            "Write the figures of training.jsonl as TensorBoard's event files too; needs attnrec[tensorboard].",
            decides=False,
        ),
    ] = False
    seed: Seed = 0
    device: Device = "auto"
    jobs: Jobs = None

    def __post_init__(self) -> None:
        check(self)
        if self.layer is not None:
            names = self.layer.replace(",", LAYER_SEPARATOR).split(LAYER_SEPARATOR)
            object.__setattr__(self, "layer", LAYER_SEPARATOR.join(name.strip() for name in names))
        if self.retrain and (self.max_steps is not None or self.overfit is not None):
            raise ConfigError("--retrain trains to the loss of a whole training: leave out --max-steps and --overfit")
        if self.last_steps is not None and self.last_steps > (self.block_frames or self.last_steps):
            raise ConfigError(f"last_steps {self.last_steps}: a block has {self.block_frames} frames")


OF_CHOICES = {name: getattr(TrainConfig, name) for name in ("reinforce_weight", "entropy_weight")}
"""The settings of hard attention's choices, at their defaults."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainConfig):
    """Settings of `train` with every gap filled in by the preset."""

    attention: AttentionForm
    add_mean: bool
    block_frames: int
    split: str
    hidden_dim: int
    num_layers: int
    batch_size: int
    epochs: int
    learning_rate: float
    optimizer: OptimizerName
    decay_per: DecayPer
    penalty_reduction: PenaltyReduction
    init_layers: int
    scorer_layers: int
    input_dropout: float
    block_starts: BlockStarts
    reduction: Reduction
    last_steps: int
    clip: float  # 0 for no clipping
    patience: int  # 0 for no early stopping


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The grid that `compare` trains: models x rates x layers x splits x seeds, attention by form, glimpse, lambda."""

    models: Annotated[
        tuple[ArchitectureName, ...],
        Setting(
            "Grid: recognisers, comma-separated; default: all but avg-max-pool.",
            flags=("--models", "--model"),
            metavar="NAMES",
        ),
    ] = ("attention", "avg-pool", "max-pool", "softmax")
    attention: Annotated[
        tuple[AttentionForm, ...],
        Setting("Grid: forms of attention: location, content, saliency.", metavar="NAMES"),
    ] = ()
    glimpse: Annotated[
        tuple[Glimpse, ...],
        Setting("Grid: what attention models see of a frame: soft, hard.", metavar="NAMES"),
    ] = ()
    penalties: Annotated[
        tuple[float, ...],
        Setting(
            "Grid: weights of the doubly stochastic attention penalty.",
            Range(0, 10**6),
            flags=("--lambdas", "--lambda"),
            metavar="NUMBERS",
        ),
    ] = (0.0,)
    fps: Annotated[tuple[float, ...], Setting("Grid: frames per second to sample.", _FPS, metavar="NUMBERS")] = ()
    splits: Annotated[
        tuple[str, ...],
        Setting(
            "Grid: splits of the store, such as cv3-1,cv3-2,cv3-3.", flags=("--splits", "--split"), metavar="NAMES"
        ),
    ] = ()
    layers: Annotated[
        tuple[str, ...],
        Setting(
            "Grid: layers to train on, or sets of them, such as inception5b,inception4e+inception5b.",
            flags=("--layer",),
            metavar="NAMES",
        ),
    ] = ()
    num_seeds: Annotated[
        int,
        Setting("Grid: number of seeds, counted from --seed.", Range(1, 1000), flags=("--seeds",), metavar="N"),
    ] = 1
    training: TrainConfig = field(default_factory=TrainConfig)  # all other settings

    def __post_init__(self) -> None:
        if not self.models or not self.penalties:
            raise ConfigError("a grid needs a model and a lambda")
        check(self)
        self.rows()  # raises for settings that no training accepts

    def rows(self) -> list[TrainConfig]:
        """The distinct configurations of the grid in the order asked for, each with the first seed and split."""
        rows = []
        for model in self.models:
            forms = self.attention or (self.training.attention,) if model == "attention" else (None,)
            glimpses = self.glimpse or (self.training.glimpse,) if model == "attention" else ("soft",)
            penalties = self.penalties if model == "attention" else (0.0,)
            rates, layers = self.fps or (self.training.fps,), self.layers or (self.training.layer,)
            for form, glimpse, penalty, fps, layer in itertools.product(forms, glimpses, penalties, rates, layers):
                changes: dict[str, Any] = {"model": model, "attention": form, "attention_penalty": penalty, "fps": fps}
                changes |= {"layer": layer, "glimpse": glimpse} | ({} if glimpse == "hard" else OF_CHOICES)
                rows.append(dataclasses.replace(self.training, **changes))
        return list(dict.fromkeys(rows))

    def seeds(self) -> range:
        """The seeds of the trainings."""
        return range(self.training.seed, self.training.seed + self.num_seeds)

    def split_names(self) -> list[str | None]:
        """The distinct splits of the grid; None leaves the choice to the store."""
        return list(dict.fromkeys(self.splits or (self.training.split,)))


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Settings of `visualize`."""

    style: Annotated[
        PictureStyle,
        Setting(
            "How attention is drawn: as white light on a darkened frame (paper), a colour map (heat), lines of equal "
            "attention (contour), or the grid's cells with their weights (grid)."
        ),
    ] = "paper"
    scale: Annotated[
        PictureScale,
        Setting(
            "What is drawn at full strength: each frame's peak, as in the paper, the whole clip's peak, or a fixed "
            "multiple of uniform attention."
        ),
    ] = "clip"
    width: Annotated[
        int,
        Setting(
            "Maximum width of a frame's picture in pixels; twice this in an .html page.", Range(64, 1920), metavar="PX"
        ),
    ] = 240
    start: Annotated[float, Setting("Start of the drawn part, in seconds.", Range(0, 10**9), metavar="SECONDS")] = 0.0
    duration: Annotated[
        float | None,
        Setting("Seconds to draw; default: to the end of the clip.", Range(0, 10**9, open="low"), metavar="SECONDS"),
    ] = None
    strip: Annotated[int, Setting("Number of equally spaced steps in a .png.", Range(1, 60), metavar="N")] = 6
    boxes: bool = True  # whether annotated boxes are drawn where they are known

    def __post_init__(self) -> None:
        check(self)


def option_of(name: str) -> str:
    """The option that gives a setting of `TrainConfig` on the command line."""
    setting = settings_of(TrainConfig)[name]
    if not setting.has_option:
        return f"--set {name}"
    return setting.flags[0] if setting.flags else "--" + name.replace("_", "-")


def words_of(name: str, value: Any) -> list[str]:
    """The command-line words that give a setting of `TrainConfig` a value."""
    option = option_of(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--')}"]
    return ["--set", f"{name}={value}"] if option.startswith("--set") else [option, str(value)]


def _explain(config: type) -> None:
    """Let help() show what each setting of a config means, and their defaults without annotations."""
    meanings = (f"    {name}: {setting.help}" for name, setting in settings_of(config).items())
    config.__doc__ = f"{config.__doc__}\n\nArgs:\n" + "\n".join(meanings) + "\n"
    defaults = ((each.name, None if each.default is MISSING else each.default) for each in fields(config))
    keyword = inspect.Parameter.KEYWORD_ONLY
    shown = inspect.Signature([inspect.Parameter(name, keyword, default=value) for name, value in defaults])
    config.__signature__ = shown  # type: ignore[attr-defined]


for _config in (ExtractConfig, TrainConfig, GridConfig, PictureConfig):
    _explain(_config)
