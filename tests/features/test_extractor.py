"""The prepared trunk against the plain one, and against itself in other batches."""

import numpy as np
import pytest
import torch
from frames import pictures
from torch.nn import BatchNorm2d, MaxPool2d

from attnrec.features.backbone import Trunk
from attnrec.features.extractor import BATCH_FRAMES, BATCHES_KEPT, BitwiseMaxPool, CubeExtractor
from attnrec.features.weights import build_trunk

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def squeezenet() -> Trunk:
    return build_trunk("squeezenet1_0", "random", grid_size=0)[0]


def plain(trunk: Trunk, frames: np.ndarray) -> dict[str, torch.Tensor]:
    """The trunk's own forward pass in double precision."""
    with torch.inference_mode():
        return {layer: cube.double() for layer, cube in trunk(torch.from_numpy(frames)).items()}


def errors(actual: np.ndarray, expected: torch.Tensor) -> tuple[float, float]:
    """Relative L2 difference of all, and the least cosine of a frame."""
    found = torch.from_numpy(actual).double()
    cosines = torch.nn.functional.cosine_similarity(found.flatten(1), expected.flatten(1))
    return float((found - expected).norm() / expected.norm()), float(cosines.min())


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("googlenet", ("inception4e", "inception5b")),
        ("squeezenet1_0", ()),
        ("resnet18", ()),
        ("mobilenet_v3_large", ()),
        ("mobilenet_v3_large", ("features.0", "features.6")),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cubes_are_those_of_the_plain_trunk(backbone, layers, precision):
    trunk, _ = build_trunk(backbone, "random", layers=layers, grid_size=0)
    before = {name: weight.copy() for name, weight in trunk.weights_state().items()}
    frames = pictures(3, 96)
    cubes = CubeExtractor(trunk, device=CPU, precision=precision)(frames)
    expected = plain(trunk, frames)
    assert cubes.keys() == expected.keys()
    for layer, cube in cubes.items():
        assert (cube.dtype, cube.shape) == (np.float16, tuple(expected[layer].shape))
        difference, cosine = errors(cube, expected[layer])
        # float16 rounds by up to 5e-4; a random network multiplies what bfloat16 rounds.
        assert difference < (5e-4 if precision == "fp32" else 0.25)
        assert cosine > (0.99999 if precision == "fp32" else 0.97)
    for name, weight in trunk.weights_state().items():
        np.testing.assert_array_equal(weight, before[name])


def test_bf16_of_real_weights_is_close(squeezenet_weights, real_data):
    trunk, _ = build_trunk("squeezenet1_0", str(squeezenet_weights))
    frames = pictures(4)
    ((layer, cubes),) = CubeExtractor(trunk, device=CPU, precision="bf16")(frames).items()
    difference, cosine = errors(cubes, plain(trunk, frames)[layer])
    assert difference < 4e-2
    assert cosine > 0.999


@pytest.mark.parametrize("settings", [{"stride": 1, "padding": 1}, {"stride": 2, "ceil_mode": True}, {"stride": 2}])
def test_pooling_by_bits_is_max_pooling(settings):
    pool = MaxPool2d(3, **settings)
    maps = torch.randn(3, 16, 13, 13, generator=torch.Generator().manual_seed(0)).relu().bfloat16()
    maps[0, :, 4:8, 4:8] = torch.tensor([0.0, -0.0, torch.inf, 3e38])
    maps = maps.contiguous(memory_format=torch.channels_last)
    assert torch.equal(BitwiseMaxPool(pool)(maps), pool(maps))


@pytest.mark.parametrize(("backbone", "count"), [("googlenet", 13), ("squeezenet1_0", 3), ("resnet18", 1)])
def test_every_pool_after_a_relu_goes_by_bits(backbone, count):
    trunk, _ = build_trunk(backbone, "random")
    extractor = CubeExtractor(trunk, device=CPU, precision="bf16")
    kinds = [type(module) for module in extractor._trunk.modules()]
    assert (kinds.count(BitwiseMaxPool), kinds.count(MaxPool2d)) == (count, count)  # each holds the pool it stands for


@pytest.mark.parametrize("backbone", ["googlenet", "resnet18", "mobilenet_v3_large"])
def test_no_batch_norm_is_left(backbone):
    extractor = CubeExtractor(Trunk(backbone), device=CPU)
    assert not any(isinstance(module, BatchNorm2d) for module in extractor._trunk.modules())


@pytest.mark.parametrize("backbone", ["googlenet", "squeezenet1_0", "resnet18", "mobilenet_v3_large"])
def test_a_cube_depends_on_its_frame_alone(backbone):
    """Not on its place in the batch, on the other frames, nor on how many they are: batches span videos."""
    trunk, _ = build_trunk(backbone, "random")
    extractor = CubeExtractor(trunk, device=CPU)
    frames = pictures(extractor.batch_frames, 96)
    ((_, whole),) = extractor(frames).items()
    order = np.random.default_rng(0).permutation(extractor.batch_frames)
    (batch,) = extractor.batches(1, 96)
    for rows in (order, [0], [31], [5, 4, 3], order[:20]):
        batch[: len(rows)] = frames[rows]  # behind them lie those of the time before
        ((_, part),) = extractor.submit(batch, len(rows))().items()
        np.testing.assert_array_equal(part, whole[rows])


def test_the_number_of_threads_does_not_matter(squeezenet):
    extractor = CubeExtractor(squeezenet, device=CPU)
    frames, threads = pictures(extractor.batch_frames, 96), torch.get_num_threads()
    one = extractor(frames)["features"]
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(extractor(frames)["features"], one)
    finally:
        torch.set_num_threads(threads)


def test_values_beyond_float16_become_its_largest(squeezenet):
    loud = Trunk("squeezenet1_0", grid_size=0)
    loud.load_weights_state({name: weight * 10 for name, weight in squeezenet.weights_state().items()}, "here")
    cubes = CubeExtractor(loud, device=CPU)(pictures(1, 64))["features"]
    assert np.isfinite(cubes).all()
    assert cubes.max() == np.finfo(np.float16).max


@pytest.mark.cuda
@pytest.mark.parametrize(("precision", "most", "least"), [("fp32", 1e-3, 0.99999), ("bf16", 0.15, 0.985)])
def test_cuda_equals_the_cpu(precision, most, least):
    trunk, _ = build_trunk("googlenet", "random")
    extractor = CubeExtractor(trunk, device=torch.device("cuda"), precision=precision)
    frames = pictures(BATCH_FRAMES["cuda"])
    whole_batch, part_batch = extractor.batches(2)
    whole_batch[:], part_batch[:13] = frames, frames[7:20]
    ahead = [extractor.submit(whole_batch, len(frames)), extractor.submit(part_batch, 13)]
    whole, part = (wait()["inception5b"] for wait in ahead)
    difference, cosine = errors(whole, plain(trunk, frames)["inception5b"])
    assert difference < most
    assert cosine > least
    np.testing.assert_array_equal(part, whole[7:20])


@pytest.mark.cuda
@pytest.mark.parametrize("graphs", ["0", "1"])
def test_cuda_keeps_the_cubes_of_some_batches(squeezenet, monkeypatch, graphs):
    monkeypatch.setenv("ATTNREC_CUDA_GRAPHS", graphs)
    extractor = CubeExtractor(squeezenet, device=torch.device("cuda"))
    frames = pictures(BATCHES_KEPT + 1, 96)
    alone = np.stack([extractor(frame[None])["features"][0] for frame in frames])
    batches = extractor.batches(len(frames), 96)
    for batch, frame in zip(batches, frames, strict=True):
        batch[0] = frame
    first, *kept = (wait()["features"] for wait in [extractor.submit(batch, 1) for batch in batches[:-1]])
    np.testing.assert_array_equal(np.concatenate([first, *kept]), alone[:-1])
    last = extractor.submit(batches[-1], 1)()["features"]
    np.testing.assert_array_equal(np.concatenate([*kept, last]), alone[1:])
    assert np.shares_memory(first, last)
