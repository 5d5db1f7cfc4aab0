"""Extraction against a plainly written loop, stage by stage, on real clips.

    python tests/bench/bench_extract.py [--device cuda] [--backbone googlenet] [--repeat N] [--write]

Prints a Markdown table; `--write` puts it into the guide on speed, and the main row into README. The plain loop takes
one clip after another: ffmpeg with its fps and scale filters, torchvision's network in fp32 and its default memory
format at batch 32, nothing overlapping. The weights are the same. The decoders' limit is ffmpeg alone, a process for
each core, whose frames are scaled as ours and thrown away.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attnrec  # noqa: F401  before torch: it says how torch's threads wait

# isort: split
import h5py
import numpy as np
import torch
import torchvision
from written import README, SPEED, hardware, markdown, write_between

from attnrec.features.extract import extract
from attnrec.features.extractor import CubeExtractor, frame_reader, prepare_trunk
from attnrec.features.parts import PartsWriter, part_path, parts_dir
from attnrec.features.weights import build_trunk
from attnrec.runtime import default_jobs, prepare_cpu, resolve_device, resolve_precision
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec
from attnrec.video.decode import _SCALER, DecodeSummary
from attnrec.video.ffmpeg import ffmpeg_path
from attnrec.video.prefetch import DecodeAhead

DATA = Path(os.environ.get("ATTNREC_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FPS = 30
_KEPT = 4  # batches of frames, and of cubes, that the stages alone use again and again
_STAGES = {"limit": "ffmpeg alone", "decode": "decoding alone", "network": "network alone", "write": "writing alone"}


def gather_clips(folder: Path, repeat: int) -> int:
    """Link real clips of many sizes into a folder; the number of clips."""
    sources = sorted((DATA / "fights").rglob("*.mp4"))[::8] + sorted((DATA / "weizmann4").rglob("*.mp4"))[::12]
    for k in range(repeat):
        for i, source in enumerate(sources):
            (folder / f"{k}-{i}{source.suffix}").symlink_to(source)
    return len(sources) * repeat


def plain_loop(folder: Path, out: Path, backbone: str, device: torch.device) -> int:
    """The loop that one would write first; the number of frames."""
    trunk, _ = build_trunk(backbone, "random", grid_size=0)
    build = torchvision.models.get_model_builder(backbone)
    network = build(weights=None, init_weights=False, aux_logits=False) if backbone == "googlenet" else build()
    network.load_state_dict(
        {name: torch.from_numpy(weight) for name, weight in trunk.weights_state().items()}, strict=False
    )
    network.eval().to(device)
    maps: list[torch.Tensor] = []
    network.get_submodule(trunk.layers[0]).register_forward_hook(lambda _, __, output: maps.append(output))
    total = 0
    with h5py.File(out, "w") as file, torch.inference_mode():
        for path in sorted(folder.iterdir()):
            command = [ffmpeg_path(), "-loglevel", "error", "-i", str(path), "-vf", f"fps={FPS},scale=224:224"]
            command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
            frames = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
            frames = frames.reshape(-1, 224, 224, 3)
            for start in range(0, len(frames), 32):
                batch = torch.from_numpy(frames[start : start + 32].copy()).permute(0, 3, 1, 2).contiguous().float()
                network(((batch / 255 - 0.5) / 0.5).to(device))
            cubes = torch.cat(maps).permute(0, 2, 3, 1).half().cpu().numpy()
            maps.clear()
            file[path.name] = cubes
            total += len(cubes)
    return total


def ffmpeg_only(folder: Path) -> None:
    """Decode and scale every frame in as many processes as there are cores, and throw it away."""
    ways = [
        "-an",
        "-vf",
        f"scale=224:224:{_SCALER}",
        "-fps_mode",
        "passthrough",
        "-pix_fmt",
        "rgb24",
        "-f",
        "null",
        "-",
    ]

    def decode(path: Path) -> None:
        subprocess.run(
            [ffmpeg_path(), "-loglevel", "error", "-threads", "1", "-i", path, *ways, "-f", "null", "-"], check=True
        )

    with ThreadPoolExecutor(default_jobs()) as pool:
        list(pool.map(decode, sorted(folder.iterdir())))


def decode_only(folder: Path, config: ExtractConfig, extractor: CubeExtractor, spec: FeatureSpec) -> list[np.ndarray]:
    """Decode all frames as the network would get them; the first batches, which take its memory along."""
    readers = [frame_reader(path, spec) for path in sorted(folder.iterdir())]
    memory, kept = extractor.batches(_KEPT + 4), []
    with DecodeAhead(readers, memory, jobs=config.jobs or default_jobs()) as batches:
        for batch in batches:
            if len(kept) < _KEPT and batch.num_frames == len(batch.frames):
                kept.append(batch.frames)
            else:
                batches.release(batch)
    return kept


def network_only(extractor: CubeExtractor, batches: list[np.ndarray], num_frames: int) -> list[dict[str, np.ndarray]]:
    """Compute so many frames of ready batches, one batch ahead; the cubes of the last batches."""
    cubes: deque[dict[str, np.ndarray]] = deque(maxlen=_KEPT)
    waiting = None
    for start in range(0, num_frames, extractor.batch_frames):
        batch = batches[start // len(batches[0]) % len(batches)]
        wait, waiting = waiting, extractor.submit(batch, min(num_frames - start, len(batch)))
        if wait is not None:
            cubes.append(wait())
    assert waiting is not None
    return [*cubes, waiting()]


def write_only(out: Path, specs: list, cubes: dict[str, np.ndarray], num_frames: int, num_clips: int) -> None:
    """Write ready cubes into a part for each clip, to the disk."""
    parts_dir(out).mkdir()
    rows = len(next(iter(cubes.values())))
    with PartsWriter(specs) as writer:
        for clip in range(num_clips):
            path, left = part_path(out, Path(f"{clip}.mp4")), num_frames // num_clips
            while left:
                count = min(left, rows)
                writer.append(path, {layer: cube[:count] for layer, cube in cubes.items()}, [0.0] * count)
                left -= count
            writer.commit(path, "0", DecodeSummary("ok", 1, 1.0, 30.0, 30.0, False))


@contextlib.contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Highest resident memory of this process within the block, in GB; Linux."""
    Path("/proc/self/clear_refs").write_text("5")

    def read() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e6

    yield read


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Seconds that it took, and what it gave."""
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def difference(backbone: str, device: torch.device, precision: str, batches: list[np.ndarray]) -> tuple[float, float]:
    """Relative L2 and least cosine of a frame, against the plain trunk in fp32 on the same pixels."""
    trunk, _ = build_trunk(backbone, "random")
    extractor = CubeExtractor(trunk, device=device, precision=precision)
    squares, total, cosines = 0.0, 0.0, []
    for frames in batches:
        actual = torch.from_numpy(next(iter(extractor(frames).values()))).double().flatten(1)
        with torch.inference_mode():
            expected = next(iter(trunk(torch.from_numpy(frames)).values())).double().flatten(1)
        squares += float((actual - expected).square().sum())
        total += float(expected.square().sum())
        cosines.append(float(torch.nn.functional.cosine_similarity(actual, expected).min()))
    return (squares / total) ** 0.5, min(cosines)


Round = dict[str, float]


def one_round(work: Path, k: int, config: ExtractConfig, extractor: CubeExtractor, specs: list) -> tuple[Round, list]:
    """Seconds for each stored frame of every way and stage, with some batches of frames."""
    device, videos = extractor.device, work / "videos"
    plain, num_plain = timed(lambda: plain_loop(videos, work / "plain.h5", config.backbone, device), device)
    with peak_memory() as read_peak:
        ours, report = timed(lambda: extract(videos, work / f"{k}.h5", config), device)
        peak = read_peak()
    count, num_clips = report.num_frames, report.data.num_videos
    limit, _ = timed(lambda: ffmpeg_only(videos), device)
    decode, batches = timed(lambda: decode_only(videos, config, extractor, specs[0]), device)
    network, cubes = timed(lambda: network_only(extractor, batches, count), device)
    write, _ = timed(lambda: write_only(work / f"alone{k}.h5", specs, cubes[0], count, num_clips), device)
    stages = {"ours": ours, "limit": limit, "decode": decode, "network": network, "write": write}
    each = {name: seconds / count for name, seconds in stages.items()}
    return {"plain": plain / num_plain, "peak": peak, "frames": count} | each, batches


def table(each: Round) -> str:
    """The Markdown table."""
    rows = [
        [title, f"{1 / each[name]:.1f}", f"{each['plain'] / each[name]:.2f} x"]
        for title, name in (("plain loop", "plain"), ("`attnrec extract`", "ours"))
    ]
    rows += [[title, f"{1 / each[name]:.1f}", ""] for name, title in _STAGES.items()]
    bound = each["decode"] + each["network"] + each["write"]
    rows.append(
        ["the stages one after another", f"{1 / bound:.1f}", f"the whole reaches {bound / each['ours']:.2f} of it"]
    )
    slowest = max(("limit", "network", "write"), key=each.__getitem__)
    share = f"the whole reaches {each[slowest] / each['ours']:.2f} of it"
    rows.append([f"the slowest: {_STAGES[slowest]}", f"{1 / each[slowest]:.1f}", share])
    return markdown(["what", "frames/s", "against the plain loop"], rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backbone", default="googlenet")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeat", type=int, default=1, help="times that every clip is used")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds, of which the medians are printed")
    parser.add_argument("--write", action="store_true", help="put the table into README and the guide on speed")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    prepare_cpu(None)
    config = ExtractConfig(
        backbone=options.backbone, weights="random", fps=FPS, precision=options.precision, device=options.device
    )
    trunk, specs = prepare_trunk(config, precision)
    extractor = CubeExtractor(trunk, device=device, precision=precision)
    extractor(np.zeros((1, 224, 224, 3), np.uint8))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "videos").mkdir()
        num_clips = gather_clips(Path(name) / "videos", options.repeat)
        rounds = [one_round(Path(name), k, config, extractor, specs) for k in range(options.rounds)]
    each = {key: statistics.median(figures[key] for figures, _ in rounds) for key in rounds[0][0]}
    relative, cosine = difference(options.backbone, device, precision, rounds[0][1])
    where = f"{hardware(device)}; {options.backbone}, {precision}"
    text = f"""{where}, {num_clips} clips, {each["frames"]} frames stored; medians of {options.rounds} rounds:

{table(each)}

Against fp32 on the same pixels: relative L2 {relative:.1e}, least cosine of a frame {cosine:.6f}. Peak memory of the
process {each["peak"]:.2f} GB."""
    print(text)
    if options.write:
        plain, ours = 1 / each["plain"], 1 / each["ours"]
        row = [f"extraction with {options.backbone}, frames/s", f"{plain:.1f}", f"{ours:.1f}", f"{ours / plain:.2f} x"]
        short = markdown(["what", "plain loop", f"`attnrec`, {precision}", ""], [row])
        write_between(SPEED, f"extract-{device.type}", text)
        write_between(README, f"extract-{device.type}", f"{hardware(device)}:\n\n{short}")


if __name__ == "__main__":
    main()
