"""Batches of cubes from a mapped array, by each way there is."""

import ctypes
import mmap
import os
import threading

import numpy as np
import pytest
import torch

from attnrec.features.feed import CubeFeed

WAYS = ["mapped", "resident", "staged"]
CPU = torch.device("cpu")


@pytest.fixture
def features(rng):
    return rng.random((50, 2, 2, 8)).astype(np.float16)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mapped(path, features, offset=4096):
    """The same array in a file, as a store has it."""
    path.write_bytes(bytes(offset) + features.tobytes())
    return np.memmap(path, dtype="<f2", mode="c", offset=offset, shape=features.shape)


def expected(features, rows, scale):
    """Element by element."""
    picked = [[features[row].reshape(-1, features.shape[-1]) for row in block] for block in rows]
    return np.array(picked).astype(np.float32) * np.float32(scale)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("num_batches", [0, 1, 2, 5])
def test_every_way_gives_the_stored_cubes(features, rng, tmp_path, way, scale, num_batches):
    batches = [rng.integers(0, 50, (size, 6)) for size in (4, 4, 7, 2, 1)[:num_batches]]
    batches = [np.concatenate([rows, np.arange(3, 9)[None], np.arange(0, 30, 5)[None]]) for rows in batches]
    feed = CubeFeed([mapped(tmp_path / "store", features)], [scale], CPU, way=way)
    given = [cubes.clone() for cubes in feed.batches(iter(batches))]
    assert len(given) == num_batches
    for rows, cubes in zip(batches, given, strict=True):
        assert cubes.dtype == torch.float32
        np.testing.assert_array_equal(cubes.numpy(), expected(features, rows, scale))


@pytest.mark.parametrize("way", WAYS)
def test_arrays_in_memory_serve_as_well(features, rng, way):
    rows = rng.integers(0, 50, (3, 4))
    (cubes,) = CubeFeed([features], [2.0], CPU, way=way).batches([rows])
    np.testing.assert_array_equal(cubes.numpy(), expected(features, rows, 2.0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_several_layers_stand_side_by_side(rng, tmp_path, way, dtype):
    shapes, scales = [(50, 3, 3, 5), (50, 2, 2, 8), (50, 1, 1, 3)], [0.5, 3.0, 1.0]
    layers = [(rng.random(shape) - 0.5).astype(np.float16) for shape in shapes]
    stored = [mapped(tmp_path / str(m), layer) for m, layer in enumerate(layers)]
    batches = [np.concatenate([rng.integers(0, 50, (B, 6)), np.arange(7, 13)[None]]) for B in (3, 6, 2, 3)]
    feed = CubeFeed(stored, scales, CPU, way=way)
    given = [cubes.clone() for cubes in feed.batches(batches, dtype)]
    for rows, cubes in zip(batches, given, strict=True):
        whole = np.zeros((*rows.shape, 9 + 4 + 1, 8), np.float32)  # zeros where a layer has fewer channels
        whole[:, :, :9, :5] = expected(layers[0], rows, scales[0])
        whole[:, :, 9:13] = expected(layers[1], rows, scales[1])
        whole[:, :, 13:, :3] = expected(layers[2], rows, scales[2])
        assert cubes.dtype == dtype
        rounding = 0 if dtype == torch.float32 else 1e-3
        np.testing.assert_allclose(cubes.float().numpy(), whole, rtol=rounding, atol=rounding / 1000)


@pytest.mark.parametrize("way", WAYS)
def test_several_layers_use_their_memory_again(rng, way):
    layers = [rng.random((50, 2, 2, 4)).astype(np.float16), rng.random((50, 1, 1, 8)).astype(np.float16)]
    batches = [rng.integers(0, 50, (size, 4)) for size in (5, 3, 5)]
    seen = [(cubes.data_ptr(), cubes.clone()) for cubes in CubeFeed(layers, [2.0, 1.0], CPU, way=way).batches(batches)]
    assert len({place for place, _ in seen}) == 1
    for _, cubes in seen:
        assert cubes[:, :, :4, :4].all()
        assert not cubes[:, :, :4, 4:].any()


def test_the_cpu_reads_from_the_map_and_uses_its_memory_again(features, rng):
    feed = CubeFeed([features], [1.0], CPU)
    assert feed.way == "mapped"
    batches = [rng.integers(0, 50, (size, 4)) for size in (5, 3, 5)]
    assert len({cubes.data_ptr() for cubes in feed.batches(batches)}) == 1


def test_what_scoring_used_can_be_trained_on(features, rng):
    feed = CubeFeed([features], [1.0], CPU)
    rows = rng.integers(0, 50, (3, 4))
    with torch.inference_mode():
        next(feed.batches([rows]))
    weight = torch.ones(8, requires_grad=True)
    (next(feed.batches([rows])) @ weight).sum().backward()
    np.testing.assert_allclose(weight.grad, expected(features, rows, 1).sum(axis=(0, 1, 2)), rtol=1e-5)


def test_staging_ends_its_thread_when_it_is_left(features, rng):
    batches = CubeFeed([features], [1.0], CPU, way="staged").batches(rng.integers(0, 50, (9, 3, 4)))
    next(batches)
    assert any(thread.name.startswith("gather") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("gather") for thread in threading.enumerate())


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_is_not_there_is_an_error(features, way):
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        list(CubeFeed([features], [1.0], CPU, way=way).batches([np.array([[0, 50]])]))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice on files")
def test_the_next_batch_is_read_while_this_one_is_used(tmp_path, rng):
    frames = rng.random((64, 7, 7, 64)).astype(np.float16)  # 6272 bytes each
    path = tmp_path / "store"
    array = mapped(path, frames)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_pages(path).all():
        pytest.skip("this file system keeps its pages in memory")
    batches = CubeFeed([array], [1.0], CPU).batches([np.arange(4)[None], np.arange(56, 60)[None]])
    next(batches)
    pages = [(4096 + byte) // mmap.PAGESIZE for byte in range(56 * 6272, 60 * 6272, mmap.PAGESIZE)]
    deadline = threading.Event()
    for _ in range(100):
        if resident_pages(path)[pages].all():
            break
        deadline.wait(0.05)
    assert resident_pages(path)[pages].all()


def resident_pages(path):
    """Which pages of a file are in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    length = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY) as view:
        flags = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
        exported = ctypes.c_char.from_buffer(view)
        try:
            if libc.mincore(ctypes.byref(exported), ctypes.c_size_t(length), flags):
                raise OSError(ctypes.get_errno(), "mincore")
        finally:
            del exported
        return np.frombuffer(flags, np.uint8) & 1 == 1


@pytest.mark.cuda
@pytest.mark.parametrize("way", ["resident", "staged", None])
def test_cuda_gets_the_stored_cubes(features, rng, tmp_path, way):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batches = [rng.integers(0, 50, (size, 6)) for size in (4, 4, 7, 2, 4, 4)]
    feed = CubeFeed([mapped(tmp_path / "store", features)], [0.5], torch.device("cuda"), way=way)
    assert feed.way == (way or "resident")
    for rows, cubes in zip(batches, feed.batches(batches), strict=True):
        np.testing.assert_array_equal(cubes.cpu().numpy(), expected(features, rows, 0.5))
