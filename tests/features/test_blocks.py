import itertools
import math
import multiprocessing
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_store import write_store
from torch.utils.data import DataLoader

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.errors import FeatureStoreError
from attnrec.features.block_dataset import BlockDataset
from attnrec.features.blocks import (
    authors_blocks,
    block_table,
    covering_blocks,
    nearest_frames,
    padded_block,
    sliding_blocks,
    stored_rate,
)
from attnrec.features.pack import pack_store
from attnrec.features.parts import PartFile, part_fingerprint, part_path, parts_dir, read_part
from attnrec.features.store import FeatureStore
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary

Times = list[Fraction]


def nearest_literally(pts: Times, time: Fraction) -> int:
    return min(range(len(pts)), key=lambda i: (abs(pts[i] - time), i))


def interval_literally(pts: Times) -> Fraction:
    """The mean of the intervals that are within half of the median, the lower one of two."""
    intervals = sorted(later - earlier for earlier, later in itertools.pairwise(pts))
    median = intervals[(len(intervals) - 1) // 2]
    near = [interval for interval in intervals if abs(interval - median) <= median / 2]
    return sum(near) / len(near)


def samples_literally(pts: Times, fps: Fraction, last_seconds: Fraction | None = None) -> list[int]:
    """Frames nearest to pts[0] + k / fps, up to half a frame interval before the end of the last frame."""
    if len(pts) == 1:
        return [0]
    interval = interval_literally(pts)
    end = pts[-1] + (interval if last_seconds is None else last_seconds)
    fps = min(fps, 1 / interval)
    samples, k = [], 0
    while pts[0] + k / fps <= end - interval / 2:
        samples.append(nearest_literally(pts, pts[0] + k / fps))
        k += 1
    return samples


def blocks_literally(pts: Times, fps: Fraction, T: int, stride: int) -> list[list[int]]:
    """The paragraph on blocks of the design, word by word, in exact arithmetic."""
    N = len(pts)
    interval = interval_literally(pts) if N > 1 else Fraction(0)
    sample_fps = min(fps, 1 / interval) if N > 1 else fps
    blocks = []
    for s in range(0, N, stride):
        times = [pts[s] + k / sample_fps for k in range(T)]
        if times[-1] <= pts[-1] + interval / 2:
            blocks.append([nearest_literally(pts, time) for time in times])
    if not blocks:
        samples = samples_literally(pts, fps)[:T]
        blocks.append(samples + [samples[-1]] * (T - len(samples)))
    return blocks


def as_floats(pts: Times) -> NDArray[np.float64]:
    return np.array([float(time) for time in pts])


def random_case(seed: int) -> tuple[Times, Fraction, int, int]:
    rng = np.random.default_rng(seed)
    N = int(rng.choice([1, 2, 3, 5, 17, 30, 31, 60, 90]))
    rate = Fraction(int(rng.choice([30000, 60000, 25000, 24000, 10010, 6006])), 1001)
    if seed % 3 == 0:  # an even rate
        pts = [k / rate for k in range(N)]
    elif seed % 3 == 1:  # jitter
        pts = [k / rate + Fraction(int(rng.integers(-300, 301)), 1000) / rate for k in range(N)]
        pts = [time - pts[0] for time in pts]
    else:  # pauses
        pts = [Fraction(0)]
        for _ in range(N - 1):
            pts.append(pts[-1] + Fraction(int(rng.choice([1, 1, 2, 3, 40])), 37))
    fps = Fraction(str(rng.choice([1, 2.5, 6, 7, 10, 12.5, 15, 29.97, 30, 60])))
    return pts, fps, int(rng.choice([1, 2, 5, 16, 30])), int(rng.choice([1, 2, 3, 7, 100]))


@pytest.mark.parametrize("first_seed", range(0, 120, 30))
def test_sliding_blocks_equal_the_literal_loop(first_seed):
    for seed in range(first_seed, first_seed + 30):
        pts, fps, T, stride = random_case(seed)
        actual = sliding_blocks(as_floats(pts), float(fps), T, stride)
        assert actual.tolist() == blocks_literally(pts, fps, T, stride), (seed, len(pts), fps, T, stride)
        assert actual.dtype == np.int64


def authors_blocks_literally(N: int, fps: Fraction, T: int, stride: int) -> list[list[int]]:
    """The released code's rule for a single video, frame by frame."""
    skip = 1
    while (skip + 1) * fps <= 30:
        skip += 1
    starts = [s for s in range(0, N, stride) if s + T * skip <= N]
    if not starts:
        samples = [frame for frame in range(N) if frame % skip == 0]
        return [[samples[min(k, len(samples) - 1)] for k in range(T)]]
    return [[s + k * skip for k in range(T)] for s in starts]


@pytest.mark.parametrize("first_seed", range(0, 300, 100))
def test_authors_blocks_equal_the_literal_loop(first_seed):
    for seed in range(first_seed, first_seed + 100):
        pts, fps, T, stride = random_case(seed)
        actual = authors_blocks(len(pts), float(fps), T, stride)
        assert actual.tolist() == authors_blocks_literally(len(pts), fps, T, stride), (seed, len(pts), fps, T, stride)
        assert actual.dtype == np.int64
        assert actual.shape[1] == T
        assert actual.max() < len(pts)


def test_authors_blocks_by_hand():
    assert authors_blocks(5, 30, 3, 1).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert authors_blocks(7, 15, 3, 1).tolist() == [[0, 2, 4], [1, 3, 5]]
    assert authors_blocks(5, 15, 3, 1).tolist() == [[0, 2, 4]]  # three samples, though 2 * 3 frames do not fit
    assert authors_blocks(4, 15, 3, 1).tolist() == [[0, 2, 2]]
    assert authors_blocks(1, 6, 3, 5).tolist() == [[0, 0, 0]]
    np.testing.assert_array_equal(authors_blocks(90, 20, 30, 1), authors_blocks(90, 30, 30, 1))
    np.testing.assert_array_equal(authors_blocks(90, 12, 30, 1), authors_blocks(90, 15, 30, 1))
    np.testing.assert_array_equal(authors_blocks(90, 60, 30, 1), authors_blocks(90, 30, 30, 1))


@pytest.mark.parametrize("first_seed", range(0, 120, 30))
def test_covering_blocks_draw_every_sample_once(first_seed):
    for seed in range(first_seed, first_seed + 30):
        pts, fps, T, stride = random_case(seed)
        last_seconds = Fraction(stride, 5)
        samples = samples_literally(pts, fps, last_seconds)
        frames, drawn = covering_blocks(as_floats(pts), float(pts[-1] + last_seconds), float(fps), T)
        what = (seed, len(pts), fps, T)
        assert frames[drawn].tolist() == sorted(set(samples)), what
        expected = [samples[i * T : (i + 1) * T] for i in range(len(samples) // T)]
        if len(samples) % T:
            expected.append(samples[-T:] + [samples[-1]] * (T - len(samples)))
        new = [set(block) - {frame for other in expected[:i] for frame in other} for i, block in enumerate(expected)]
        assert frames.tolist() == [block for block, frames_of in zip(expected, new, strict=True) if frames_of], what


def test_frames_of_one_time_make_one_block():
    pts = np.zeros(5)
    assert stored_rate(pts) == math.inf
    assert sliding_blocks(pts, 10.0, 3, 1).shape[1] == 3


def test_a_long_pause_costs_no_blocks():
    pts = np.concatenate([np.arange(25) / 25, 3600 + np.arange(25) / 25])
    frames, drawn = covering_blocks(pts, pts[-1] + 0.04, 30, 10)
    assert sorted(set(frames[drawn])) == list(range(50))
    assert len(frames) <= 8


def test_every_frame_before_and_after_a_pause_is_sampled():
    pts = np.concatenate([np.arange(25), 25 * 9 + np.arange(25)]) / 25
    assert set(sliding_blocks(pts, 30, 10, 1).ravel()) == set(range(50))


def test_a_last_frame_that_stays_is_drawn():
    times = np.array([0, 0.1, 0.2, 0.7, 0.72])
    assert set(covering_blocks(times, 1.72, 30, 3)[0].ravel()) == set(range(5))


def test_a_worked_example():
    # Ten frames at 10 fps, sampled at 5 fps: every other frame; the start at 5 ends at 0.9 s, the one at 6 too late.
    pts = np.arange(10) / 10
    assert sliding_blocks(pts, 5, 3, 1).tolist() == [[s, s + 2, s + 4] for s in range(6)]
    assert sliding_blocks(pts, 5, 3, 4).tolist() == [[0, 2, 4], [4, 6, 8]]
    frames, drawn = covering_blocks(pts, 1.0, 5, 3)
    assert frames.tolist() == [[0, 2, 4], [4, 6, 8]]
    assert drawn.tolist() == [[True, True, True], [False, True, True]]


@pytest.mark.parametrize(("last_sample", "starts"), [(0.94, [0]), (0.96, [0])])
def test_the_last_sample_may_be_late_by_half_a_frame(last_sample, starts):
    # Two samples; the last frame is at 0.9 s and lasts until 1 s: up to 0.95 s it stands for a sample.
    blocks = sliding_blocks(np.arange(10) / 10, 1 / last_sample, 2, 1)
    assert blocks[:, 0].tolist() == starts
    assert blocks[0].tolist() == ([0, 9] if last_sample < 0.95 else [0, 0])


def test_a_short_video_gives_one_padded_block():
    assert sliding_blocks(np.arange(3) / 10, 10, 5, 1).tolist() == [[0, 1, 2, 2, 2]]
    frames, drawn = covering_blocks(np.arange(3) / 10, 0.3, 10, 5)
    assert frames.tolist() == [[0, 1, 2, 2, 2]]
    assert drawn.tolist() == [[True, True, True, False, False]]


@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("fps", [0.5, 30.0, 1000.0])
def test_a_single_frame_gives_one_block_of_it(T, fps):
    assert sliding_blocks(np.zeros(1), fps, T, 1).tolist() == [[0] * T]
    frames, drawn = covering_blocks(np.zeros(1), 0.1, fps, T)
    assert frames.tolist() == [[0] * T]
    assert drawn.tolist() == [[True] + [False] * (T - 1)]


@pytest.mark.parametrize("fps", [10.0, 10.5, 30.0, 1e6])
def test_a_rate_above_the_stored_one_takes_every_frame(fps):
    pts = np.arange(8) / 10
    assert sliding_blocks(pts, fps, 3, 1).tolist() == [[s, s + 1, s + 2] for s in range(6)]
    frames, drawn = covering_blocks(pts, 0.8, fps, 4)
    assert frames.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert drawn.all()


def test_no_frame_is_drawn_twice_where_several_samples_share_it():
    # A pause of a second: the samples within it fall on the frames around it.
    pts = np.array([0, 0.1, 0.2, 1.2, 1.3])
    frames, drawn = covering_blocks(pts, 1.4, 3, 3)
    assert len(set(frames[drawn].tolist())) == drawn.sum()
    assert set(frames[drawn].tolist()) == set(frames.ravel().tolist())


def test_times_need_not_start_at_zero():
    pts = np.arange(12) / 10
    np.testing.assert_array_equal(sliding_blocks(pts + 1234.5, 4, 3, 2), sliding_blocks(pts, 4, 3, 2))
    np.testing.assert_array_equal(covering_blocks(pts + 1234.5, 1235.7, 4, 3)[0], covering_blocks(pts, 1.2, 4, 3)[0])


def test_stored_rate():
    assert stored_rate(np.arange(31) / 30) == pytest.approx(30)
    assert stored_rate(np.array([0, 0.1, 1.0])) == pytest.approx(10)
    assert stored_rate(np.array([0, 33, 67, 100, 5100, 5133]) / 1000) == pytest.approx(4 / 0.133)
    assert stored_rate(np.zeros(1)) == float("inf")


def test_nearest_frames():
    pts = np.array([0, 1, 2, 4.0])
    times = np.array([[-5, 0.4, 0.5], [0.6, 3.0, 99]])
    assert nearest_frames(pts, times).tolist() == [[0, 0, 0], [1, 2, 3]]
    assert nearest_frames(np.array([3.0]), times).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_padded_block():
    assert padded_block(np.array([3, 5, 8]), 5).tolist() == [[3, 5, 8, 8, 8]]
    assert padded_block(np.array([3, 5, 8]), 2).tolist() == [[3, 5]]


# Blocks of a store

SPEC = FeatureSpec("squeezenet1_0", "features", "random-0", "0" * 64, 2, 5, 224, "stretch", 30.0, "fp32")
LENGTHS, LABELS, CODES = (12, 3, 9, 8, 7), (1, 0, 0, -1, 1), (TRAIN, TRAIN, VALIDATION, TRAIN, UNUSED)


def frames_of(video: int) -> NDArray[np.float16]:
    """Cubes that say which video and frame they are."""
    cubes = np.arange(LENGTHS[video] * 20).reshape(-1, 2, 2, 5) / 1000 + video
    return cubes.astype(np.float16)


@pytest.fixture(scope="module")
def store_path(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("store") / "out.h5"
    parts_dir(out).mkdir()
    names = [Path(f"{video}.mp4") for video in range(len(LENGTHS))]
    content = {name: f"{video:064x}" for video, name in enumerate(names)}
    sources = []
    for video, name in enumerate(names):
        length, fingerprint = LENGTHS[video], part_fingerprint(content[name], [SPEC])
        part = PartFile(part_path(out, name), [SPEC])
        part.append({SPEC.layer: frames_of(video)}, [k / 10 for k in range(length)])
        part.commit(fingerprint, DecodeSummary("ok", length, length / 10, 10.0, 10.0, False))
        sources.append(read_part(part.path, fingerprint, [SPEC]))
    classes = ("jump", "run")
    entries = [
        VideoEntry(name, classes[label : label + 1] if label >= 0 else (), f"g{video}")
        for video, (name, label) in enumerate(zip(names, LABELS, strict=True))
    ]
    splits = {"default": np.array(CODES, np.uint8), "other": np.full(5, TEST, np.uint8)}
    data = Dataset("numbers", "made", Path("/nowhere"), tuple(entries), classes, False, splits, ())
    pack_store(out, [SPEC], data, content, sources, skipped=[], backbone_state={}, program_version="0")
    return out


def test_block_table_points_at_the_rows_of_the_store(store_path):
    store = FeatureStore(store_path)
    table = block_table(store, np.array([2, 0]), fps=5, block_frames=3, block_stride=2)
    second, first = sliding_blocks(np.arange(9) / 10, 5, 3, 2), sliding_blocks(np.arange(12) / 10, 5, 3, 2)
    np.testing.assert_array_equal(table.frames, np.concatenate([second + 15, first]))
    assert table.video.tolist() == [2] * len(second) + [0] * len(first)
    assert len(table) == len(first) + len(second)


def test_block_table_by_frames(store_path):
    table = block_table(
        FeatureStore(store_path), np.array([2, 1, 0]), fps=15, block_frames=3, block_stride=2, starts="by-frame"
    )
    assert (table.frames[table.video == 2] - 15).tolist() == [[0, 2, 4], [2, 4, 6]]
    assert (table.frames[table.video == 1] - 12).tolist() == [[0, 2, 2]]
    assert table.frames[table.video == 0].tolist() == [[s, s + 2, s + 4] for s in (0, 2, 4, 6)]
    with pytest.raises(ValueError, match="starts must be 'by-time' or 'by-frame', got 'by-hand'"):
        block_table(FeatureStore(store_path), np.array([0]), fps=15, block_frames=3, block_stride=2, starts="by-hand")


def test_block_table_of_no_videos(store_path):
    table = block_table(FeatureStore(store_path), np.empty(0, np.int64), fps=5, block_frames=3, block_stride=1)
    assert len(table) == 0
    assert table.frames.shape == (0, 3)


def test_dataset_items_are_the_cubes_of_labelled_videos(store_path):
    dataset = BlockDataset(store_path, "train", fps=5, block_frames=3, block_stride=2)
    expected = [
        (frames_of(video)[block], LABELS[video])
        for video in (0, 1)  # video 3 has no label
        for block in blocks_literally([Fraction(k, 10) for k in range(LENGTHS[video])], Fraction(5), 3, 2)
    ]
    assert len(dataset) == len(expected)
    assert dataset.classes == ["jump", "run"]
    for (cubes, label), (expected_cubes, expected_label) in zip(
        (dataset[i] for i in range(len(dataset))), expected, strict=True
    ):
        assert cubes.dtype == torch.float16
        assert isinstance(label, int)
        np.testing.assert_array_equal(cubes.numpy(), expected_cubes)
        assert label == expected_label


def test_dataset_parts_and_splits(store_path):
    options = {"fps": 10, "block_frames": 3}
    assert len(BlockDataset(store_path, "validation", **options)) == 7
    assert len(BlockDataset(str(store_path), "test", **options)) == 0
    assert len(BlockDataset(store_path, "test", split="other", **options)) == 10 + 1 + 7 + 5
    with pytest.raises(ValueError, match=r"part must be one of .* got 'unused'"):
        BlockDataset(store_path, "unused")
    with pytest.raises(FeatureStoreError, match="no split 'mine'; it has default, other"):
        BlockDataset(store_path, "train", split="mine")


def test_writing_to_an_item_does_not_reach_the_store(store_path):
    dataset = BlockDataset(store_path, "train", fps=10, block_frames=3)
    before = store_path.read_bytes()
    dataset[0][0].fill_(-1)
    np.testing.assert_array_equal(dataset[0][0].numpy(), frames_of(0)[:3])
    assert store_path.read_bytes() == before


def test_dataset_travels_without_its_map(store_path):
    dataset = BlockDataset(store_path, "train", fps=10, block_frames=3)
    fresh = len(pickle.dumps(dataset))
    first = dataset[0][0]
    assert len(pickle.dumps(dataset)) == fresh
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[0][0], first, rtol=0, atol=0)
    torch.testing.assert_close(dataset[0][0], first, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_workers_load_the_same_blocks(store_path, method):
    dataset = BlockDataset(store_path, "train", fps=10, block_frames=3)
    dataset[0]
    alone = list(DataLoader(dataset, batch_size=4))
    workers = list(DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=method))
    assert len(workers) == len(alone) == 3
    for (cubes, labels), (expected_cubes, expected_labels) in zip(workers, alone, strict=True):
        assert cubes.shape[1:] == (3, 2, 2, 5)
        torch.testing.assert_close(cubes, expected_cubes, rtol=0, atol=0)
        torch.testing.assert_close(labels, expected_labels)


def test_the_dataset_gives_a_row_of_labels_where_videos_may_have_several(tmp_path):
    path = write_store(tmp_path / "several.h5", multilabel=True)
    store, dataset = FeatureStore(path), BlockDataset(path, "train", fps=10.0, block_frames=4)
    for index in (0, len(dataset) - 1):
        _, target = dataset[index]
        assert target.dtype == torch.float32
        np.testing.assert_array_equal(target.numpy(), store.label_matrix[dataset.table.video[index]])


def test_a_dataset_of_blocks_is_of_one_layer(layered_store):
    assert BlockDataset(layered_store, "train", layer="finer", block_frames=4)[0][0].shape == (4, 3, 3, 4)
    with pytest.raises(ValueError, match="single one"):
        BlockDataset(layered_store, "train", layer="finer+features")
