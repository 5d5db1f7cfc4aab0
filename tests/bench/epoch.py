"""An epoch of a training on a store of UCF-11's size: blocks a second, and how busy the device is meanwhile.

Legend: N stored frames, K grid side, D channels.
"""

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.features.pack import pack_store
from attnrec.features.parts import PartFile, part_path, parts_dir, read_part
from attnrec.runtime import Progress
from attnrec.settings import TrainConfig
from attnrec.specs import FeatureSpec
from attnrec.training.train import train
from attnrec.video.decode import DecodeSummary

UCF11_VIDEOS, UCF11_FRAMES, UCF11_EPOCHS = 975, 190, 15  # of the paper's training split, the mean, and its epochs
FPS = 30.0
NUM_CLASSES = 11
_WARM_UP = 3  # steps before the clock starts: the first of them records, and loads what is not loaded yet


class Epoch(NamedTuple):
    """What an epoch showed."""

    blocks_per_second: float
    busy: float | None  # share of the time in which the device computed; None where that cannot be asked
    num_blocks: int  # that were timed


def write_made_up_store(path: Path, num_videos: int, side: int, channels: int) -> None:
    """Write a store whose videos all have the same random features, in a class each by turns, all for training."""
    spec = FeatureSpec("googlenet", "inception5b", "made-up", "0" * 64, side, channels, 224, "stretch", FPS, "fp32")
    video = Path("clip.mp4")
    parts_dir(path).mkdir(parents=True)
    part = PartFile(part_path(path, video), [spec])
    cubes = np.random.default_rng(0).random((UCF11_FRAMES, side, side, channels), np.float32)
    part.append({spec.layer: cubes.astype(np.float16)}, (np.arange(UCF11_FRAMES) / FPS).tolist())
    part.commit("0" * 64, DecodeSummary("ok", UCF11_FRAMES, UCF11_FRAMES / FPS, FPS, FPS, False))
    source = read_part(part.path, "0" * 64, [spec])
    assert source is not None
    classes = tuple(f"class{i:02d}" for i in range(NUM_CLASSES))
    entries = tuple(VideoEntry(Path(f"{i}.mp4"), (classes[i % NUM_CLASSES],), f"g{i}") for i in range(num_videos))
    data = Dataset("ucf11", "made", Path("/"), entries, classes, False, {"all": np.zeros(num_videos, np.uint8)}, ())
    content = {entry.path: hashlib.sha256(str(entry.path).encode()).hexdigest() for entry in entries}
    state = {"weight": np.ones(1, np.float32)}
    pack_store(
        path, [spec], data, content, [source] * num_videos, skipped=[], backbone_state=state, program_version="0"
    )


def trained_epoch(store: Path, runs: Path, config: TrainConfig, batch_size: int) -> Epoch:
    """Train, and time the steps after those that warm up."""
    device = torch.device(config.device)
    steps: list[float] = []  # when each was done

    def note(event: Progress) -> None:
        if event.stage == "train" and event.done > len(steps):
            steps.append(time.perf_counter())

    with _busy(device) as busy:
        train(store, config, runs_dir=runs, on_progress=note)
    timed = steps[_WARM_UP - 1 :]
    full = timed[:-1] if len(timed) > 2 else timed  # the last batch may be smaller
    num_blocks = (len(full) - 1) * batch_size
    shares = [share for when, share in busy if full[0] < when < full[-1]]
    return Epoch(num_blocks / (full[-1] - full[0]), float(np.mean(shares)) if shares else None, num_blocks)


@contextlib.contextmanager
def _busy(device: torch.device) -> Iterator[list[tuple[float, float]]]:
    """Times and shares of the device's time, as its driver counts it; on the CPU of all its cores' time.

    Yields:
        A list that grows meanwhile.
    """
    found: list[tuple[float, float]] = []
    done = threading.Event()
    watch = threading.Thread(target=_watch_cuda if device.type == "cuda" else _watch_cpu, args=(found, done))
    watch.start()
    try:
        yield found
    finally:
        done.set()
        watch.join()


def _watch_cuda(found: list[tuple[float, float]], done: threading.Event) -> None:
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        watched = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return
    with watched, contextlib.suppress(ValueError):  # it may have no figure
        assert watched.stdout is not None
        for line in watched.stdout:
            found.append((time.perf_counter(), float(line) / 100))
            if done.is_set():
                break
        watched.kill()


def _watch_cpu(found: list[tuple[float, float]], done: threading.Event) -> None:
    cores = len(os.sched_getaffinity(0))
    then, used = time.perf_counter(), time.process_time()
    while not done.wait(0.2):
        now, using = time.perf_counter(), time.process_time()
        found.append((now, (using - used) / (now - then) / cores))
        then, used = now, using
