"""A training step against a plainly written one, in one run.

    python tests/bench/bench_train.py [--device cuda] [--batch 128] [--bf16] [--rounds 3] [--jobs N] [--write]

Prints Markdown tables; `--write` puts them into the guide on speed, and the shorter one into README. The plain port is
what one would write first in fp32: an LSTMCell for each layer and step, the glimpse by broadcasting and summing, the
head at every step, F.dropout at every step. Its parameters are the same ones. Times are medians over rounds that
alternate between all rows; each has a warm-up step that does not count. Then `attnrec train` trains for an epoch on a
made-up store of UCF-11's size, or of fewer `--videos`.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attnrec  # noqa: F401  before torch: it says how torch's threads wait

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from epoch import UCF11_EPOCHS, UCF11_FRAMES, UCF11_VIDEOS, Epoch, trained_epoch, write_made_up_store
from torch import Tensor, nn
from written import README, SPEED, hardware, markdown, write_between

from attnrec.capture import Captured
from attnrec.features.feed import CubeFeed
from attnrec.models.attention import AttentionLSTM
from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
from attnrec.models.head import RecognizerOutput
from attnrec.models.losses import recognition_loss
from attnrec.runtime import prepare_cpu, resolve_device, resolve_precision
from attnrec.settings import TrainConfig
from attnrec.training.step import build_optimizer, capturable

Step = Callable[[], None]
NAMES = {
    "location": "attention, location",
    "content": "attention, content",
    "saliency": "attention, saliency",
    "avg": "average-pooled",
    "max": "max-pooled",
    "softmax": "softmax regression",
}


def plain_port(model: nn.Module, cubes: Tensor, dropout: float) -> RecognizerOutput:
    """The recogniser as one would write it first."""
    mean = cubes.mean(dim=(1, 2))
    hidden = [mlp(mean) for mlp in model.init_hidden]
    cell = [mlp(mean) for mlp in model.init_cell]
    logits, attention = [], []
    salient = model.saliency_scorer(cubes) if getattr(model, "attention", None) == "saliency" else None
    for t in range(cubes.shape[1]):
        X = cubes[:, t]  # (B, L, D)
        if isinstance(model, AttentionLSTM):
            if model.attention == "saliency":
                scores = salient[:, t]
            elif model.attention == "location":
                scores = model.location_scorer(hidden[-1])
            else:
                scorer = model.content_scorer
                joint = torch.tanh(scorer.from_feature(X) + scorer.from_hidden(hidden[-1]).unsqueeze(1))
                scores = scorer.score(joint).squeeze(-1)
            probs = F.softmax(scores, dim=1)
            attention.append(probs)
            x = (probs.unsqueeze(2) * X).sum(dim=1)
        else:
            x = X.mean(dim=1) if model.pooling == "avg" else X.amax(dim=1)
        for n, layer in enumerate(model.cells):
            hidden[n], cell[n] = layer(F.dropout(x, dropout), (hidden[n], cell[n]))
            x = hidden[n]
        squashed = torch.tanh(model.head.hidden(F.dropout(x, dropout)))
        logits.append(model.head.logits(F.dropout(squashed, dropout)))
    return RecognizerOutput(torch.stack(logits, dim=1), torch.stack(attention, dim=1) if attention else None)


class Peak:
    """Memory above that at the start: resident memory, sampled, on the CPU; the allocator's count on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> "Peak":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.start = torch.cuda.memory_allocated(self.device)
            return self
        self.start = self.highest = self._resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.highest = max(self.highest, self._resident())

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.gb = (torch.cuda.max_memory_allocated(self.device) - self.start) / 1e9
            return
        self.done.set()
        self.thread.join()
        self.gb = (self.highest - self.start) / 1e9


def seconds(work: Step, device: torch.device) -> float:
    """Wall time."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def build(kind: str, options: argparse.Namespace, dropout: float) -> nn.Module:
    """A recogniser in training, its parameters from one seed."""
    torch.manual_seed(0)
    sizes = {"feature_dim": options.features, "num_classes": 11}
    if kind == "softmax":
        return SoftmaxRegression(num_locations=options.locations, **sizes)
    sizes |= {"hidden_dim": options.hidden, "num_layers": options.layers, "dropout": dropout}
    if kind in ("avg", "max"):
        return PooledLSTM(kind, **sizes)
    return AttentionLSTM(attention=kind, num_locations=options.locations, **sizes)


def make_step(
    model: nn.Module, cubes: Tensor, targets: Tensor, *, way: str, dropout: float, update: bool = True
) -> Step:
    """A step of one of the ways `plain`, `fp32`, `bf16`; with Adam unless the gradient is what is wanted.

    The last two are recorded as CUDA graphs where `attnrec` would do so.
    """
    device = cubes.device
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5) if way == "plain" else build_optimizer(model, 1e-5, 0.0)
    generator = torch.Generator(device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if way == "plain":
            output = plain_port(model, cubes, dropout)
        else:
            with torch.autocast(device.type, torch.bfloat16, enabled=way == "bf16"):
                output = model(cubes, generator)
        recognition_loss(output, targets, attention_penalty=1.0).backward()
        if update:
            optimizer.step()

    if way == "plain":
        return step
    recorded = Captured(step, device, generator)
    with capturable(optimizer):
        recorded.prepare()
    return recorded


def gradient(kind: str, way: str, cubes: Tensor, targets: Tensor, options: argparse.Namespace) -> Tensor:
    """The whole gradient without dropout, as one vector."""
    model = build(kind, options, 0.0).to(cubes.device).train()
    make_step(model, cubes, targets, way=way, dropout=0.0, update=False)()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()


class DataPath:
    """Batches of blocks at random from a memory-mapped array of stored cubes, in the page cache."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        side = int(options.locations**0.5)
        shape = (options.frames, side, side, options.features)
        written = np.memmap(folder / "features", "<f2", "w+", shape=shape)
        rng = np.random.default_rng(0)
        some = rng.random((100, *shape[1:]), dtype=np.float32).astype(np.float16)
        for start in range(0, len(written), 100):
            written[start : start + 100] = some[: len(written) - start]
        written.flush()
        self.features = np.memmap(folder / "features", "<f2", "c", shape=shape)
        self.rng = rng
        self.device = options.device
        self.feed = CubeFeed([self.features], [0.5], self.device)

    def step(self) -> None:
        starts = self.rng.integers(0, len(self.features) - self.options.steps, self.options.batch)
        rows = starts[:, None] + np.arange(self.options.steps)
        next(self.feed.batches([rows]))


def products(kind: str, dtype: torch.dtype, options: argparse.Namespace) -> Step:
    """The matrix products of the layers and the content scorer alone, forward and backward, at their shapes."""
    B, T, H = options.batch, options.steps, options.hidden
    widths = [options.features + H] + [2 * H] * (options.layers - 1)
    new = {"device": options.device, "dtype": dtype}
    weights = [torch.randn(4 * H, width, **new) for width in widths]
    joined = [torch.randn(T, B, width, **new) for width in widths]
    gates = [torch.randn(T, B, 4 * H, **new) for _ in widths]
    forward = torch.empty(B, 4 * H, **new)
    backward = [torch.empty(B, width, **new) for width in widths]
    rows = torch.randn(B * T * options.locations, options.features, **new) if kind == "content" else None
    scorer = torch.randn(options.hidden, options.features, **new)

    def step() -> None:
        for t, n in itertools.product(range(T), range(len(widths))):
            torch.mm(joined[n][t], weights[n].t(), out=forward)
        for t, n in itertools.product(range(T), range(len(widths))):
            torch.mm(gates[n][t], weights[n], out=backward[n])
        for n in range(len(widths)):
            torch.mm(gates[n].flatten(0, 1).t(), joined[n].flatten(0, 1))
        if rows is not None:
            torch.mm(torch.mm(rows, scorer.t()).t(), rows)

    return step


class Steps(NamedTuple):
    """What was measured of one kind of recogniser in one way."""

    seconds: float
    peak_gb: float
    error: float | None  # relative difference of the whole gradient from the plain port's


Key = tuple[str, str]  # kind, way


def measured(options: argparse.Namespace, ways: Sequence[str]) -> tuple[dict[Key, Steps], dict[Key, float]]:
    """Steps of every kind in every way, and the seconds of the products and of the data path alone."""
    device, kinds = options.device, options.kinds.split(",")
    cubes = torch.rand(options.batch, options.steps, options.locations, options.features).to(device)
    targets = (torch.arange(options.batch) % 11).to(device)
    models = {kind: build(kind, options, 0.5).to(device).train() for kind in kinds}
    steps: dict[Key, Step] = {
        (kind, way): make_step(models[kind], cubes, targets, way=way, dropout=0.5)
        for kind in kinds
        for way in ways
        if (kind, way) != ("softmax", "plain")
    }
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    alone: dict[Key, Step] = {
        ("content" if content else "LSTM", way): products("content" if content else "", types[way], options)
        for way in ways[1:]
        for content in {kind == "content" for kind in kinds}
    }
    with tempfile.TemporaryDirectory() as name:
        alone["data", ""] = DataPath(Path(name), options).step
        times: dict[tuple[bool, Key], list[float]] = {}
        for k in range(options.rounds + 1):  # the first warms up
            for among, works in ((True, steps), (False, alone)):
                for key, work in works.items():
                    taken = seconds(work, device)
                    times.setdefault((among, key), []).extend([taken] if k else [])
    medians = {key: statistics.median(each) for key, each in times.items()}
    found = {}
    for (kind, way), step in steps.items():
        # Memory that an earlier row left with the allocator would hide what this one takes.
        _give_memory_back(models[kind])
        with Peak(device) as peak:
            step()
        error = None if way == "plain" or kind == "softmax" else gradient_error(kind, way, cubes, targets, options)
        found[kind, way] = Steps(medians[True, (kind, way)], peak.gb, error)
    return found, {key: medians[False, key] for key in alone}


def gradient_error(kind: str, way: str, cubes: Tensor, targets: Tensor, options: argparse.Namespace) -> float:
    reference = gradient(kind, "plain", cubes, targets, options)
    return float((gradient(kind, way, cubes, targets, options) - reference).norm() / reference.norm())


def steps_table(found: Mapping[Key, Steps], alone: Mapping[Key, float]) -> str:
    """Every row that was measured."""
    rows = []
    for (kind, way), step in found.items():
        plain = found.get((kind, "plain"))
        products_alone = alone.get(("content" if kind == "content" else "LSTM", way)) if kind != "softmax" else None
        rows.append(
            [
                NAMES[kind],
                way,
                f"{step.seconds * 1000:.1f}",
                "" if plain is None else f"{plain.seconds / step.seconds:.2f} x",
                "" if products_alone is None else f"{products_alone / step.seconds:.0%}",
                f"{step.peak_gb:.2f}",
                "" if step.error is None else f"{step.error:.1e}",
                "" if way == "plain" else f"{alone['data', ''] / step.seconds:.0%}",
            ]
        )
    header = ["model", "way", "ms a step", "against plain", "products' share", "peak GB above the cubes"]
    return markdown([*header, "gradient difference", "reading a batch, share"], rows)


def epochs_table(options: argparse.Namespace, precision: str) -> str:
    """Trainings on a made-up store; those of the paper's form, of its code's and of average pooling."""
    settings: dict[str, dict[str, Any]] = {
        "location": {"attention": "location", "attention_penalty": 1.0},
        "content": {"attention": "content", "attention_penalty": 1.0},
        "avg": {"model": "avg-pool"},
    }
    on_cuda = options.device.type == "cuda"
    num_videos = options.videos or (UCF11_VIDEOS if on_cuda else 8)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "features.h5"
        write_made_up_store(store, num_videos, int(options.locations**0.5), options.features)
        for kind in [kind for kind in options.kinds.split(",") if kind in settings]:
            config = TrainConfig(
                preset="paper", epochs=1, batch_size=options.batch, block_frames=options.steps, precision=precision,
                hidden_dim=options.hidden, num_layers=options.layers, device=str(options.device), jobs=options.jobs,
                save_every=3600.0, **settings[kind],
            )  # fmt: skip
            epoch = trained_epoch(store, Path(name) / "runs", config, options.batch)
            rows.append(_epoch_row(kind, precision, epoch, options))
    busy = "device busy" if on_cuda else "cores busy"
    header = ["training", "precision", "blocks timed", "blocks/s", busy, f"{UCF11_EPOCHS} epochs of UCF-11, min"]
    return f"Epoch of {num_videos} videos of {UCF11_FRAMES} frames:\n\n{markdown(header, rows)}"


def _epoch_row(kind: str, precision: str, epoch: Epoch, options: argparse.Namespace) -> list[str]:
    whole = UCF11_EPOCHS * UCF11_VIDEOS * (UCF11_FRAMES - options.steps + 1) / epoch.blocks_per_second / 60
    busy = "" if epoch.busy is None else f"{epoch.busy:.0%}"
    return [NAMES[kind], precision, str(epoch.num_blocks), f"{epoch.blocks_per_second:.0f}", busy, f"{whole:.1f}"]


def short_table(found: Mapping[Key, Steps], way: str) -> str:
    """The rows of the best way alone, for README."""
    rows = [
        [f"training step, {NAMES[kind]}, ms", f"{plain.seconds * 1000:.0f}", f"{found[kind, way].seconds * 1000:.0f}",
         f"{plain.seconds / found[kind, way].seconds:.2f} x"]
        for kind, plain in ((kind, step) for (kind, way), step in found.items() if way == "plain")
    ]  # fmt: skip
    return markdown(["what", "plain loop", f"`attnrec`, {way}", ""], rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=128, help="B")
    parser.add_argument("--steps", type=int, default=30, help="T")
    parser.add_argument("--locations", type=int, default=49, help="L, a square")
    parser.add_argument("--features", type=int, default=1024, help="D")
    parser.add_argument("--hidden", type=int, default=512, help="H")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8000, help="of the array that batches are read from")
    parser.add_argument("--videos", type=int, help=f"of the epoch's store; default: {UCF11_VIDEOS}, or 8 on the CPU")
    parser.add_argument("--kinds", default="location,content,saliency,avg,max,softmax")
    parser.add_argument("--bf16", action="store_true", help="also bf16, where the hardware multiplies it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=None, help="CPU threads")
    parser.add_argument("--write", action="store_true", help="put the tables into README and the guide on speed")
    options = parser.parse_args()
    prepare_cpu(options.jobs)
    options.device = resolve_device(options.device)
    return options


def main() -> None:
    options = parsed()
    has_bf16 = resolve_precision("auto", options.device) == "bf16"
    if options.bf16 and not has_bf16:
        print("bf16 left out: this hardware has no bf16 products", file=sys.stderr)
    best = "bf16" if options.bf16 and has_bf16 else "fp32"
    found, alone = measured(options, ["plain", "fp32"] + ([best] if best == "bf16" else []))
    where = hardware(options.device)
    sizes = f"B = {options.batch}, T = {options.steps}, {options.locations} x {options.features}"
    head = f"{where}; {sizes}, {options.layers} layers of {options.hidden}; medians of {options.rounds} rounds:"
    text = f"{head}\n\n{steps_table(found, alone)}\n\n{epochs_table(options, best)}"
    print(text)
    if options.write:
        write_between(SPEED, f"train-{options.device.type}", text)
        write_between(README, f"train-{options.device.type}", f"{where}:\n\n{short_table(found, best)}")


def _give_memory_back(model: nn.Module) -> None:
    import ctypes
    import gc

    for parameter in model.parameters():
        parameter.grad = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
