"""A clip of 10 s at 1080p to pictures, against the extraction of its features and the encoder alone.

    python tests/bench/bench_visualize.py [--device cuda] [--backbone googlenet] [--seconds 10]

Prints a Markdown table of seconds and peak memory, each row from processes of its own. The run is of random weights:
what it sees does not change how long it takes.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from attnrec.evaluation.predict import Recognizer
from attnrec.features.extract import extract
from attnrec.features.extractor import prepare_trunk
from attnrec.models.architectures import build_model
from attnrec.pictures.visualize import visualize
from attnrec.runtime import default_jobs, processor, resolve_device, resolve_precision, versions
from attnrec.settings import ExtractConfig, PictureConfig, TrainConfig
from attnrec.specs import FeatureSpec, ModelConfig
from attnrec.training.presets import PAPER_FRAMES, recipe_of, sampling_of
from attnrec.training.records import RunManifest
from attnrec.training.run import create_run, utc_now
from attnrec.video.decode import FrameReader, probe
from attnrec.video.encode import write_timed_video
from attnrec.video.ffmpeg import ffmpeg_path

CLASSES = ["one", "two", "three"]


def make_clip(path: Path, seconds: int) -> None:
    """A 1080p clip at 30 frames a second in which something moves, with some noise."""
    source = f"testsrc2=size=1920x1080:rate=30:duration={seconds},noise=alls=6:allf=t"
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    command = [ffmpeg_path(), "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, *encoder, os.fspath(path)]
    if os.spawnv(os.P_WAIT, command[0], command):
        raise SystemExit("ffmpeg could not make the clip")


def make_run(folder: Path, backbone: str, device: str) -> Path:
    """A run with attention and random weights, as a training with the paper's sizes would leave it."""
    precision = resolve_precision("auto", resolve_device(device))
    trunk, (spec,) = prepare_trunk(ExtractConfig(backbone=backbone, weights="random"), precision)
    state = {name: np.array(weight, order="C") for name, weight in trunk.weights_state().items()}
    run = create_run(folder, manifest(spec), state)
    run.save_model(build_model(run.manifest.model))
    run.update(finished_at=utc_now(), result={"seconds": 0.0})
    return run.path


def manifest(spec: FeatureSpec) -> RunManifest:
    """What the run's `config.json` says."""
    asked = TrainConfig(preset="paper")
    return RunManifest(
        name="attention",
        created_at=utc_now(),
        model=ModelConfig("attention", spec.feature_dim, spec.num_locations, len(CLASSES)),
        training=recipe_of(
            asked,
            sampling_of(asked, "default", PAPER_FRAMES),
            dataset="made-up",
            feature_dim=spec.feature_dim,
            multilabel=False,
            num_blocks=1,
            has_validation=False,
            precision="fp32",
        ),
        features=spec,
        feature_scale=1.0,
        classes=CLASSES,
        store={"path": "", "fingerprint": "", "dataset": "made-up", "videos_dir": ""},
        split={"name": "default", "sha256": "", "leaking_groups": [], "parts": {}},
        versions=versions(),
        machine={},
    )


def extracted(clip: Path, folder: Path, backbone: str, device: str) -> None:
    """What `attnrec extract` needs for the clip."""
    (folder / "videos" / "one").mkdir(parents=True)
    (folder / "videos" / "one" / clip.name).symlink_to(clip)
    config = ExtractConfig(backbone=backbone, weights="random", device=device)
    extract(folder / "videos", folder / "features.h5", config)


def encoded(clip: Path, out: Path, shape: tuple[int, int]) -> None:
    """What the encoder alone needs for frames of the picture's size."""
    frames = [frame for frame, _ in FrameReader(clip, width=shape[1], height=shape[0])]
    started = time.perf_counter()
    write_timed_video(out, frames, np.arange(len(frames)) / 30, len(frames) / 30, overwrite=True)
    (out.parent / "seconds").write_text(str(time.perf_counter() - started))


def drawn(run: Path, clip: Path, out: Path, config: PictureConfig, device: str) -> None:
    """What `attnrec visualize` needs."""
    visualize(Recognizer(run, device=device), clip, out, config, overwrite=True)


def measured(work: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """Seconds, and peak memory in MB of a process and of the largest one that it starts."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(send, work, arguments))
    process.start()
    result: tuple[float, float] = receive.recv()
    process.join()
    return result


def _measure(send, work, arguments) -> None:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - started
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    send.send((seconds, sum(peaks) / 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backbone", default="googlenet")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, gif, mp4 = folder / "clip.mp4", folder / "out.gif", folder / "out.mp4"
        make_clip(clip, options.seconds)
        run = make_run(folder / "runs", options.backbone, options.device)
        config = PictureConfig()
        rows = {"extract alone": measured(extracted, clip, folder, options.backbone, options.device)}
        for out in (gif, mp4):
            drawing = measured(drawn, run, clip, out, config, options.device)
            info = probe(out)
            _, memory = measured(encoded, clip, out, (info.height, info.width))
            rows[f"{out.suffix} encoder alone"] = (float((folder / "seconds").read_text()), memory)
            rows[f"visualize to {out.suffix}"] = drawing
        _print_table(rows, options)


def _print_table(rows: dict[str, tuple[float, float]], options: argparse.Namespace) -> None:
    print(f"{options.seconds} s at 1080p, {options.backbone}, {default_jobs()} cores, {processor()[0]}\n")
    print("| what | seconds | against extract + encoder | peak memory, MB |")
    print("|---|---|---|---|")
    for name, (seconds, memory) in rows.items():
        suffix = name.removeprefix("visualize to ")
        alone = rows["extract alone"][0] + rows.get(f"{suffix} encoder alone", (0, 0))[0]
        share = f"{seconds / alone:.2f} x" if name.startswith("visualize") else ""
        print(f"| {name} | {seconds:.1f} | {share} | {memory:.0f} |")


if __name__ == "__main__":
    main()
