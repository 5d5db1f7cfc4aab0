import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from frames import pictures
from PIL import Image
from torch import Tensor, nn

from attnrec.errors import WeightsError
from attnrec.features.caffe_googlenet import CaffeGoogLeNet, LocalResponseNorm
from attnrec.features.extractor import CubeExtractor
from attnrec.features.networks import backbone_of
from attnrec.features.state_dicts import weights_sha256
from attnrec.features.weights import build_trunk

MEAN = torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)


@pytest.fixture(scope="module")
def weights(real_data) -> Path:
    return real_data / "weights" / "bvlc_googlenet.pth"


@pytest.fixture(scope="module")
def state(weights) -> dict[str, Tensor]:
    return torch.load(weights, weights_only=True)


def forward_literally(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Caffe's deploy.prototxt, layer by layer, up to inception_5b/output."""

    def conv(name: str, maps: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        return F.conv2d(maps, weight, state[f"{name}.conv.bias"], stride, weight.shape[2] // 2).relu()

    def inception(name: str, maps: Tensor) -> Tensor:
        pooled = F.max_pool2d(maps, 3, 1, 1)
        return torch.cat(
            [
                conv(f"{name}.branch1", maps),
                conv(f"{name}.branch2.1", conv(f"{name}.branch2.0", maps)),
                conv(f"{name}.branch3.1", conv(f"{name}.branch3.0", maps)),
                conv(f"{name}.branch4.1", pooled),
            ],
            1,
        )

    def halve(maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 3, 2, ceil_mode=True)

    def norm(maps: Tensor) -> Tensor:
        return F.local_response_norm(maps, 5, alpha=1e-4, beta=0.75, k=1.0)

    maps = norm(halve(conv("conv1", images, 2)))
    maps = halve(norm(conv("conv3", conv("conv2", maps))))
    for block in ("3a", "3b", "halve", "4a", "4b", "4c", "4d", "4e", "halve", "5a", "5b"):
        maps = halve(maps) if block == "halve" else inception(f"inception{block}", maps)
    return maps


def test_cubes_equal_a_literal_forward(weights, state):
    frames = pictures(2)
    with torch.inference_mode():
        expected = forward_literally(state, torch.from_numpy(frames).permute(0, 3, 1, 2).float() - MEAN)
        (cubes,) = build_trunk("bvlc_googlenet", str(weights))[0](torch.from_numpy(frames)).values()
    assert cubes.shape == (2, 7, 7, 1024)
    assert (cubes.permute(0, 3, 1, 2) - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_extractor_gives_the_same_cubes(weights, state, precision):
    frames = pictures(2)
    extractor = CubeExtractor(build_trunk("bvlc_googlenet", str(weights))[0], device=torch.device("cpu"),
                              precision=precision)  # fmt: skip
    cubes = extractor(frames)["inception5b"].astype(np.float32)
    with torch.inference_mode():
        expected = forward_literally(state, torch.from_numpy(frames).permute(0, 3, 1, 2).float() - MEAN)
    difference = cubes - expected.permute(0, 2, 3, 1).numpy()
    assert np.linalg.norm(difference) / np.linalg.norm(expected) < {"fp32": 1e-3, "bf16": 2e-2}[precision]


def test_it_knows_the_sample_images(real_data, state):
    network = CaffeGoogLeNet().eval()
    network.load_state_dict(state)
    paths = sorted(path for path in (real_data / "imagenet40").iterdir() if path.suffix == ".jpg")
    images = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        images.append(np.asarray(picture.crop((left, top, left + 224, top + 224))))
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - MEAN)
    labels = 25 * torch.arange(40)  # every 25th class in the order of the names
    assert (logits.argmax(1) == labels).sum() == 33
    assert (logits.topk(5).indices == labels[:, None]).any(1).sum() == 37


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 64, 7, 7), (1, 2, 3, 3)])
@pytest.mark.parametrize("scale", [1, 300])
def test_local_response_norm_equals_torchs(shape, scale):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale
    expected = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)(maps)
    torch.testing.assert_close(LocalResponseNorm()(maps), expected, rtol=1e-5, atol=1e-6)
    half = LocalResponseNorm()(maps.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=2e-2, atol=1e-2)


# .caffemodel


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffe_names(state: dict[str, Tensor]) -> dict[str, str]:
    """Caffe's name of each module with weights."""
    names = {"conv1.conv": "conv1/7x7_s2", "conv2.conv": "conv2/3x3_reduce", "conv3.conv": "conv2/3x3",
             "fc": "loss3/classifier"}  # fmt: skip
    branches = {"1.": "1x1", "2.0.": "3x3_reduce", "2.1.": "3x3", "3.0.": "5x5_reduce", "3.1.": "5x5",
                "4.1.": "pool_proj"}  # fmt: skip
    for name in state:
        if name.startswith("inception") and name.endswith("weight"):
            block, branch = name.split(".branch")
            branch = branch.removesuffix("conv.weight")
            names[name.removesuffix(".weight")] = f"inception_{block[9:]}/{branches[branch]}"
    return names


def caffemodel(state: dict[str, Tensor], *, old: bool) -> bytes:
    """A .caffemodel of the present or the older format, with a layer without weights and an auxiliary classifier."""
    name_field, blobs_field, layer_field = (4, 6, 2) if old else (1, 7, 100)
    layers = [field(1, b"GoogleNet"), field(layer_field, field(name_field, b"data"))]
    auxiliary = field(5, np.zeros(7, "<f4").tobytes())
    layers.append(field(layer_field, field(name_field, b"loss1/fc") + field(blobs_field, auxiliary)))
    for module, name in caffe_names(state).items():
        content = field(name_field, name.encode())
        for kind in ("weight", "bias"):
            tensor = state[f"{module}.{kind}"]
            values = (tensor.flip(1) if f"{module}.{kind}" == "conv1.conv.weight" else tensor).numpy().astype("<f4")
            shape = field(7, field(1, b"".join(varint(size) for size in tensor.shape)))
            data = field(5, values.tobytes())
            content += field(blobs_field, shape + data + varint(1 << 3) + varint(1))
        layers.append(field(layer_field, content))
    return b"".join(layers)


@pytest.mark.parametrize("old", [False, True])
def test_a_caffemodel_gives_the_same_weights(tmp_path, weights, state, old):
    path = tmp_path / "bvlc_googlenet.caffemodel"
    path.write_bytes(caffemodel(state, old=old))
    trunk, weights_id = build_trunk("bvlc_googlenet", str(path))
    expected, _ = build_trunk("bvlc_googlenet", str(weights))
    assert weights_sha256(trunk.weights_state()) == weights_sha256(expected.weights_state())
    assert weights_id == "bvlc_googlenet.caffemodel"


def test_safetensors_give_the_same_weights(tmp_path, weights, state):
    from safetensors.torch import save_file

    save_file(state, tmp_path / "weights.safetensors")
    trunk, _ = build_trunk("bvlc_googlenet", str(tmp_path / "weights.safetensors"))
    expected, _ = build_trunk("bvlc_googlenet", str(weights))
    assert weights_sha256(trunk.weights_state()) == weights_sha256(expected.weights_state())
    (tmp_path / "weights.safetensors").write_bytes(bytes(100))
    with pytest.raises(WeightsError, match="not a safetensors file"):
        build_trunk("bvlc_googlenet", str(tmp_path / "weights.safetensors"))


@pytest.fixture(scope="module")
def small_state() -> dict[str, Tensor]:
    """Weights that are all one number; the file is as large as the real one."""
    return {name: torch.full_like(weight, 0.5) for name, weight in CaffeGoogLeNet().state_dict().items()}


def test_numbers_that_are_not_packed_are_read_as_well(tmp_path, small_state):
    blobs = b""
    for kind in ("weight", "bias"):
        number = varint(5 << 3 | 5) + struct.pack("<f", 0.25)
        blobs += field(7, number * small_state[f"conv1.conv.{kind}"].numel())
    path = tmp_path / "a.caffemodel"
    path.write_bytes(caffemodel(small_state, old=False) + field(100, field(1, b"conv1/7x7_s2") + blobs))
    assert build_trunk("bvlc_googlenet", str(path))[0].network.conv1.conv.weight.unique().tolist() == [0.25]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "not a .caffemodel of GoogLeNet"),
        (lambda data: data[:40], "is missing|not a .caffemodel"),
        (lambda data: b"", "is missing"),
        (lambda data: b"\xff" * 1000, "not a .caffemodel of GoogLeNet"),
        (lambda data: b"<html>404</html>", "not a .caffemodel of GoogLeNet"),
        (lambda data: data + field(100, field(1, b"fc") + field(7, b"")), ""),
        (
            lambda data: data + field(100, field(1, b"conv2/3x3") + field(7, field(5, bytes(400)))),
            r"conv3\.conv\.weight has 100 values, not 110592",
        ),
    ],
)
def test_a_damaged_caffemodel_is_refused(tmp_path, small_state, damage, message):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(damage(caffemodel(small_state, old=False)))
    if not message:
        build_trunk("bvlc_googlenet", str(path))
        return
    with pytest.raises(WeightsError, match=message):
        build_trunk("bvlc_googlenet", str(path))


def test_a_huge_caffemodel_is_refused_unread(tmp_path):
    path = tmp_path / "a.caffemodel"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match=r"larger than 1\d\d MB"):
        build_trunk("bvlc_googlenet", str(path))


def test_weights_from_the_zoo_are_checked(tmp_path, monkeypatch, small_state):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "bvlc_googlenet.caffemodel"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(caffemodel(small_state, old=False))
    with pytest.raises(WeightsError, match=r"bvlc_googlenet cannot be downloaded .*SHA-1 .* not 405fc5ac"):
        build_trunk("bvlc_googlenet", "imagenet")
    assert str(backbone_of("bvlc_googlenet").weights) == "bvlc_googlenet.caffemodel"


def test_random_weights_neither_vanish_nor_explode():
    trunk, _ = build_trunk("bvlc_googlenet", "random")
    with torch.inference_mode():
        (cubes,) = trunk(torch.from_numpy(pictures(2, seed=5))).values()
    assert 0.05 < cubes.std() < 100
    assert (cubes[0] - cubes[1]).std() > 0.05
