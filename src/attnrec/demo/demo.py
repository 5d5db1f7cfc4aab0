"""The whole chain on generated clips, without a dataset to download."""

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from attnrec.comparison.compare import compare
from attnrec.comparison.report import write_report
from attnrec.comparison.results import CompareReport
from attnrec.datasets.splits import TEST
from attnrec.demo.sample import SAMPLE_ACTIONS, SampleClip, generate_clips
from attnrec.errors import WeightsError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.report import EvaluationReport
from attnrec.features.extract import extract
from attnrec.features.store import FeatureStore
from attnrec.features.weights import build_trunk, imagenet_weights_at_hand, imagenet_weights_cached
from attnrec.files import write_table
from attnrec.pictures.examples import PageSources
from attnrec.pictures.visualize import VisualizeReport, visualize
from attnrec.runtime import OnProgress, Progress, no_progress
from attnrec.settings import LAYER_SEPARATOR, ArchitectureName, ExtractConfig, TrainConfig
from attnrec.training.presets import PAPER_BACKBONE
from attnrec.training.train import train
from attnrec.video.encode import write_video

NUM_GROUPS = 16
NUM_FRAMES = 30
FPS = 10.0
BACKBONE = "googlenet"


@dataclass(frozen=True)
class DemoReport:
    """Report of the demo."""

    videos: str  # folder of the clips, with `boxes.csv` beside them
    store: str  # feature store
    backbone: str  # CNN that made the features
    weights: str  # `imagenet` or `random`
    attention: EvaluationReport  # test figures of the attention recogniser
    baseline: EvaluationReport  # test figures of the average-pooled one
    picture: VisualizeReport  # the GIF
    table: CompareReport  # both runs side by side
    page: str  # path of the comparison as a page, with plots and clips
    seconds: float  # time taken


def demo(
    folder: str | Path = "attnrec-demo",
    *,
    weights: str | None = None,
    layers: tuple[str, ...] = (),
    seed: int = 0,
    device: str = "auto",
    jobs: int | None = None,
    on_progress: OnProgress = no_progress,
) -> DemoReport:
    """Generate clips, then extract, train attention and a baseline, evaluate, visualize, compare and report.

    Args:
        folder: Folder for all files of the demo.
        weights: Weights as in `extract`; None takes ImageNet's if they can be had within seconds, else random ones.
        layers: Layers of the network to look at, each on its own grid if there are several; empty for the last one.
        seed: Seed of clips, split and training.
        device: Device to run on, see `runtime.resolve_device`.
        jobs: CPU threads.
        on_progress: Called after every step.

    Returns:
        Report of the demo.

    Raises:
        AttnrecError: The folder cannot be written, or the weights cannot be read or downloaded.
    """
    started = time.monotonic()
    folder = Path(folder)
    videos, store, runs = folder / "videos", folder / "features.h5", folder / "runs"
    write_sample_videos(videos, seed, on_progress)
    backbone = BACKBONE
    if weights is None:
        backbone, weights = _network_at_hand()
        why = "" if weights == "imagenet" else ", as ImageNet's are neither cached nor reachable"
        on_progress(Progress("extract", message=f"{backbone} with {weights} weights{why}"))
    extract_config = ExtractConfig(
        backbone=backbone,
        weights=weights,
        layers=layers,
        grid_size=0 if len(layers) > 1 else ExtractConfig.grid_size,
        overwrite=True,
        seed=seed,
        device=device,
        jobs=jobs,
    )
    extract(videos, store, extract_config, on_progress=on_progress)
    figures = {}
    models: tuple[ArchitectureName, ...] = ("attention", "avg-pool")
    for model in models:
        on_progress(Progress("train", message=f"training {model}"))
        training = demo_training(model, seed, device, jobs)
        training = dataclasses.replace(training, layer=LAYER_SEPARATOR.join(layers) or None)
        report = train(store, training, runs_dir=runs, on_progress=on_progress)
        figures[model] = evaluate(report.run, store, device=device, jobs=jobs)
    recognizer = Recognizer(figures["attention"].run, device=device, jobs=jobs)
    picture = visualize(
        recognizer,
        _clip_to_show(videos, store, figures["attention"]),
        folder / "attention.gif",
        overwrite=True,
        on_progress=on_progress,
    )
    table, page = compare([figure.run for figure in figures.values()]), folder / "report.html"
    write_report(page, table, PageSources(store, videos, device, jobs), overwrite=True, on_progress=on_progress)
    return DemoReport(
        videos=str(videos),
        store=str(store),
        backbone=backbone,
        weights=weights,
        attention=figures["attention"],
        baseline=figures["avg-pool"],
        picture=picture,
        table=table,
        page=str(page),
        seconds=time.monotonic() - started,
    )


def _network_at_hand() -> tuple[str, str]:
    """The paper's network if its weights are cached; else GoogLeNet with ImageNet's weights or random ones."""
    if imagenet_weights_cached(PAPER_BACKBONE):
        return PAPER_BACKBONE, "imagenet"
    if imagenet_weights_at_hand(BACKBONE):
        with contextlib.suppress(WeightsError):
            build_trunk(BACKBONE, "imagenet")  # leaves them in the cache
            return BACKBONE, "imagenet"
    return BACKBONE, "random"


def demo_training(model: ArchitectureName, seed: int, device: str, jobs: int | None) -> TrainConfig:
    """Training settings for clips of three seconds and a few minutes on two cores."""
    return TrainConfig(
        model=model,
        attention="content",
        add_mean=False,
        fps=5.0,
        block_frames=15,
        block_stride=2,
        hidden_dim=128,
        num_layers=3,
        epochs=80,
        learning_rate=5e-4,
        seed=seed,
        device=device,
        jobs=jobs,
    )


def write_sample_videos(folder: Path, seed: int, on_progress: OnProgress = no_progress) -> None:
    """Write the generated clips as MP4 in class folders, and the actor's box in every frame as `boxes.csv`."""
    total = NUM_GROUPS * len(SAMPLE_ACTIONS)
    clips = generate_clips(num_groups=NUM_GROUPS, num_frames=NUM_FRAMES, fps=FPS, seed=seed)
    rows: list[list[str | float]] = []
    for done, clip in enumerate(clips):
        on_progress(Progress("clips", done, total, clip.name))
        path = folder / clip.action / f"{clip.name}.mp4"
        write_video(path, iter(clip.frames), clip.fps)
        rows += _box_rows(clip, path.relative_to(folder))
    write_table(folder / "boxes.csv", ["path", "seconds", "x0", "y0", "x1", "y1"], rows)
    on_progress(Progress("clips", total, total))


def _box_rows(clip: SampleClip, path: Path) -> list[list[str | float]]:
    return [[path.as_posix(), frame / clip.fps, *map(int, box)] for frame, box in enumerate(clip.boxes)]


def _clip_to_show(videos: Path, store: Path, figures: EvaluationReport) -> Path:
    """The test clip that was recognised with the highest probability, or the first if none was."""
    features = FeatureStore(store)
    right = [figure for figure in figures.videos if figure.label == figure.predicted]
    if right:
        return videos / max(right, key=lambda figure: figure.probability).path
    return videos / features.path_of(int((features.split("default") == TEST).argmax()))
