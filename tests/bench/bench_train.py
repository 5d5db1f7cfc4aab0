"""A training step against a plainly written one, in one run.

    python tests/bench/bench_train.py [--device cuda] [--batch 128] [--bf16] [--rounds 3] [--jobs N]

Prints a Markdown table. The plain port is what one would write first in fp32: an LSTMCell for each layer and step, the
glimpse by broadcasting and summing, the head at every step, F.dropout at every step. Its parameters are the same ones.
Times are medians over rounds that alternate between all rows; each has a warm-up step that does not count.
"""

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attnrec  # noqa: F401  before torch: it says how torch's threads wait

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnrec.capture import Captured
from attnrec.features.feed import CubeFeed
from attnrec.models.attention import AttentionLSTM
from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
from attnrec.models.head import RecognizerOutput
from attnrec.models.losses import recognition_loss
from attnrec.runtime import prepare_cpu, processor, resolve_device, resolve_precision
from attnrec.training.step import build_optimizer, capturable

Step = Callable[[], None]


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
        self.feed = CubeFeed(self.features, 0.5, self.device)

    def step(self) -> None:
        starts = self.rng.integers(0, len(self.features) - self.options.steps, self.options.batch)
        rows = starts[:, None] + np.arange(self.options.steps)
        next(self.feed.batches([rows]))


def products(kind: str, options: argparse.Namespace) -> Step:
    """The matrix products of the layers and the content scorer alone, forward and backward, at their shapes."""
    B, T, H = options.batch, options.steps, options.hidden
    widths = [options.features + H] + [2 * H] * (options.layers - 1)
    new = {"device": options.device}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=128, help="B")
    parser.add_argument("--steps", type=int, default=30, help="T")
    parser.add_argument("--locations", type=int, default=49, help="L, a square")
    parser.add_argument("--features", type=int, default=1024, help="D")
    parser.add_argument("--hidden", type=int, default=512, help="H")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8000, help="of the synthetic store")
    parser.add_argument("--kinds", default="location,content,saliency,avg,max,softmax")
    parser.add_argument("--bf16", action="store_true", help="also bf16, where the hardware multiplies it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=None, help="CPU threads")
    options = parser.parse_args()
    threads = prepare_cpu(options.jobs)
    device = options.device = resolve_device(options.device)
    has_bf16 = resolve_precision("auto", device) == "bf16"
    kinds = options.kinds.split(",")
    ways = ["plain", "fp32"] + (["bf16"] if options.bf16 and has_bf16 else [])
    cubes = torch.rand(options.batch, options.steps, options.locations, options.features).to(device)
    targets = (torch.arange(options.batch) % 11).to(device)

    models = {kind: build(kind, options, 0.5).to(device).train() for kind in kinds}
    steps: dict[tuple[str, str], Step] = {
        (kind, way): make_step(models[kind], cubes, targets, way=way, dropout=0.5)
        for kind in kinds
        for way in ways
        if (kind, way) != ("softmax", "plain")
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps} | {("data", ""): []}
    times |= {("products", kind): [] for kind in kinds if kind in ("location", "content")}
    alone = {key: products(key[1], options) for key in times if key[0] == "products"}
    with tempfile.TemporaryDirectory() as name:
        alone["data", ""] = DataPath(Path(name), options).step
        for k in range(options.rounds + 1):  # the first warms up
            for key, work in (steps | alone).items():
                taken = seconds(work, device)
                if k:
                    times[key].append(taken)
    medians = {key: statistics.median(each) for key, each in times.items()}
    peaks = {}
    for key, step in steps.items():
        # Memory that an earlier row left with the allocator would hide what this one takes.
        _give_memory_back(models[key[0]])
        with Peak(device) as peak:
            step()
        peaks[key] = peak.gb
    errors = {}
    for kind in kinds:
        if kind == "softmax":
            continue
        reference = gradient(kind, "plain", cubes, targets, options)
        for way in ways[1:]:
            difference = gradient(kind, way, cubes, targets, options) - reference
            errors[kind, way] = float(difference.norm() / reference.norm())

    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()[0]}, {threads} threads"
    print(
        f"B = {options.batch}, T = {options.steps}, {options.locations} x {options.features}, {options.layers} layers"
    )
    print(f"of {options.hidden}; {hardware}, torch {torch.__version__}; medians of {options.rounds} rounds\n")
    print("| model | way | s / step | against plain | peak GB above the cubes | gradient difference | data / step |")
    print("|---|---|---|---|---|---|---|")
    for kind, way in steps:
        taken = medians[kind, way]
        ratio = f"{medians[kind, 'plain'] / taken:.2f} x" if (kind, "plain") in medians else ""
        error = f"{errors[kind, way]:.1e}" if (kind, way) in errors else ""
        share = f"{medians['data', ''] / taken:.0%}" if way != "plain" else ""
        print(f"| {kind} | {way} | {taken:.3f} | {ratio} | {peaks[kind, way]:.2f} | {error} | {share} |")
    print(f"\ndata path alone: {medians['data', '']:.3f} s a batch, page cache warm")
    for name, kind in alone:
        if name == "products":
            share = medians[name, kind] / medians[kind, "fp32"]
            print(f"fp32 products of {kind} alone: {medians[name, kind]:.3f} s, {share:.0%} of the fp32 step")
    if options.bf16 and not has_bf16:
        print("bf16 left out: this hardware has no bf16 products")


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
