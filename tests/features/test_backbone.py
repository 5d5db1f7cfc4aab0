import math
import os
import re
import resource
import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from frames import pictures
from numpy.typing import NDArray
from torch import Tensor, nn

from attnrec.errors import ConfigError, WeightsError
from attnrec.features.backbone import Trunk
from attnrec.features.extractor import IMAGE_SIZE, CubeExtractor
from attnrec.features.networks import MAP_IMAGE_SIZE, LastMap, backbone_names, backbone_of, last_map
from attnrec.features.state_dicts import weights_sha256
from attnrec.features.weights import build_trunk, imagenet_weights_at_hand

IMAGENET_MEAN, IMAGENET_STD = (
    torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


def as_images(frames: NDArray[np.uint8]) -> Tensor:
    """Torchvision's input, (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def output_of(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What `layer` gives in the network's own forward pass, before others change it in place."""
    seen = []
    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.inference_mode():
        network.eval()(images)
    handle.remove()
    return seen[0]


def hooked(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What `layer` gives in the network's own forward pass, channels last."""
    return output_of(network, layer, images).permute(0, 2, 3, 1)


def cubes_of(trunk: Trunk, frames: NDArray[np.uint8]) -> Tensor:
    """Cubes of the trunk's only layer."""
    with torch.inference_mode():
        (cubes,) = trunk(torch.from_numpy(frames)).values()
    return cubes


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def googlenet() -> Trunk:
    return build_trunk("googlenet", "random")[0]


@pytest.fixture(scope="module")
def googlenet_file(googlenet, tmp_path_factory) -> Path:
    """A whole GoogLeNet as torchvision publishes it, classifier and auxiliary heads included."""
    whole = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()
    assert sum(name.startswith("aux") for name in whole) == 20
    whole |= {name: torch.from_numpy(weight) for name, weight in googlenet.weights_state().items()}
    path = tmp_path_factory.mktemp("weights") / "googlenet.pth"
    torch.save(whole, path)
    return path


@pytest.fixture(scope="module")
def squeezenet() -> Trunk:
    return build_trunk("squeezenet1_0", "random", grid_size=0)[0]


# Against torchvision


@pytest.mark.parametrize("transform_input", [False, True])
def test_googlenet_equals_torchvisions_own_forward(googlenet_file, transform_input):
    network = torchvision.models.googlenet(
        weights=None, init_weights=False, aux_logits=True, transform_input=transform_input
    )
    network.load_state_dict(torch.load(googlenet_file, weights_only=True))
    images = as_images(pictures(2))
    images = (images - IMAGENET_MEAN) / IMAGENET_STD if transform_input else (images - 0.5) / 0.5
    expected = hooked(network, "inception5b", images)
    trunk, _ = build_trunk("googlenet", str(googlenet_file))
    actual = cubes_of(trunk, pictures(2))
    assert actual.shape == (2, 7, 7, 1024)
    assert relative_difference(actual, expected) < 1e-4


def test_squeezenet_with_real_weights_equals_torchvision(squeezenet_weights):
    network = torchvision.models.squeezenet1_0(weights=None)
    network.load_state_dict(torch.load(squeezenet_weights, weights_only=True))
    expected = hooked(network, "features", (as_images(pictures(2)) - IMAGENET_MEAN) / IMAGENET_STD)
    trunk, weights_id = build_trunk("squeezenet1_0", str(squeezenet_weights), grid_size=0)
    actual = cubes_of(trunk, pictures(2))
    assert actual.shape == (2, 13, 13, 512)
    assert relative_difference(actual, expected) < 1e-4
    assert weights_id == "squeezenet1_0-imagenet.pth"


@pytest.mark.parametrize(
    ("backbone", "layer"), [("resnet18", "layer4"), ("resnet50", "layer4"), ("mobilenet_v3_large", "features")]
)
def test_other_backbones_are_cut_after_their_last_map(tmp_path, backbone, layer):
    network = getattr(torchvision.models, backbone)()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    trunk, _ = build_trunk(backbone, str(tmp_path / "weights.pth"), grid_size=0)
    frames = pictures(1, 64)
    expected = hooked(network, layer, (as_images(frames) - IMAGENET_MEAN) / IMAGENET_STD)
    assert relative_difference(cubes_of(trunk, frames), expected) < 1e-4


@pytest.mark.parametrize("layer", ["inception4e", "inception3a", "maxpool2"])
def test_another_layer(googlenet_file, layer):
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True)
    network.load_state_dict(torch.load(googlenet_file, weights_only=True))
    trunk, _ = build_trunk("googlenet", str(googlenet_file), layers=[layer], grid_size=0)
    frames = pictures(1, 64)
    assert relative_difference(cubes_of(trunk, frames), hooked(network, layer, (as_images(frames) - 0.5) / 0.5)) < 1e-4
    assert trunk.layers == (layer,)


def test_what_lies_behind_the_cut_is_dropped(googlenet, googlenet_file):
    state = build_trunk("googlenet", str(googlenet_file))[0].weights_state()
    assert not [name for name in state if name.startswith(("aux", "fc"))]
    assert weights_sha256(state) == weights_sha256(googlenet.weights_state())


# Every family of torchvision's

FAMILIES = {  # the smallest network of each: default layer, K, D
    "alexnet": ("features", 6, 256),
    "convnext_tiny": ("features", 7, 768),
    "densenet121": ("features", 7, 1024),
    "efficientnet_b0": ("features", 7, 1280),
    "efficientnet_v2_s": ("features", 7, 1280),
    "googlenet": ("inception5b", 7, 1024),
    "inception_v3": ("Mixed_7c", 5, 2048),
    "maxvit_t": ("blocks.3", 7, 512),
    "mnasnet0_5": ("layers", 7, 1280),
    "mobilenet_v2": ("features", 7, 1280),
    "mobilenet_v3_small": ("features", 7, 576),
    "regnet_x_400mf": ("trunk_output", 7, 400),
    "regnet_y_400mf": ("trunk_output", 7, 440),
    "resnet18": ("layer4", 7, 512),
    "resnext50_32x4d": ("layer4", 7, 2048),
    "shufflenet_v2_x0_5": ("conv5", 7, 1024),
    "squeezenet1_1": ("features", 13, 512),
    "swin_t": ("norm", 7, 768),
    "swin_v2_t": ("norm", 7, 768),
    "vgg11": ("features", 7, 512),
    "vit_b_32": ("encoder", 7, 768),
    "wide_resnet50_2": ("layer4", 7, 2048),
}


NO_SLOW_START = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}


def as_cubes(output: Tensor, side: int, channels: int) -> Tensor:
    """Maps of either order of channels, or tokens after a class token, as cubes."""
    if output.ndim == 3:
        return output[:, 1:].reshape(-1, side, side, channels)
    return output if output.shape[3] == channels else output.permute(0, 2, 3, 1)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_network_of_every_family_equals_torchvisions_own_forward(backbone):
    trunk, _ = build_trunk(backbone, "random", grid_size=0)
    assert last_map(backbone) == LastMap(*FAMILIES[backbone])
    cubes = cubes_of(trunk, pictures(2, seed=5))
    layer, side, channels = FAMILIES[backbone]
    assert (trunk.layers, cubes.shape) == ((layer,), (2, side, side, channels))
    assert torch.isfinite(cubes).all()
    assert cubes.std() > 0.1
    assert (cubes[0] - cubes[1]).std() > 0.05
    network = getattr(torchvision.models, backbone)(**NO_SLOW_START.get(backbone, {})).requires_grad_(False)
    state = trunk.weights_state(layer)
    for name, weight in network.state_dict().items():
        if name in state:
            weight.copy_(torch.from_numpy(state.pop(name)))
    assert not state
    images = (torch.from_numpy(pictures(2, seed=5)).permute(0, 3, 1, 2) - trunk.mean) / trunk.std
    expected = as_cubes(output_of(network, layer, images), side, channels)
    assert relative_difference(cubes, expected) < 1e-4


def test_every_family_is_tested():
    """A network is of the family of one that is tested if it is of the same module of torchvision's."""
    models = torchvision.models
    module_of = {name: models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert set(module_of.values()) == {module_of[name] for name in FAMILIES}


@pytest.mark.slow
def test_every_networks_last_map_is_found():
    assert MAP_IMAGE_SIZE == IMAGE_SIZE
    found = {name: last_map(name) for name in backbone_names()}
    assert len(found) >= 81
    assert {name: where.side for name, where in found.items() if where.side != 7} == {
        "alexnet": 6, "inception_v3": 5, "squeezenet1_0": 13, "squeezenet1_1": 13,
        "vit_b_16": 14, "vit_h_14": 16, "vit_l_16": 14,
    }  # fmt: skip
    assert (found["regnet_y_128gf"], found["vit_h_14"]) == (
        LastMap("trunk_output", 7, 7392),
        LastMap("encoder", 16, 1280),
    )


@pytest.mark.parametrize(
    ("backbone", "weights", "layer", "sha256"),
    [
        ("bvlc_googlenet", "bvlc_googlenet.caffemodel", "inception5b", "a3a7005cee38"),
        ("googlenet", "GoogLeNet_Weights.IMAGENET1K_V1", "inception5b", "1dada7e7e9bd"),
        ("resnet18", "ResNet18_Weights.IMAGENET1K_V1", "layer4", "6618e2ad25a5"),
        ("resnet50", "ResNet50_Weights.IMAGENET1K_V2", "layer4", "f14ce7df6324"),
        ("squeezenet1_0", "SqueezeNet1_0_Weights.IMAGENET1K_V1", "features", "44ab5a94e313"),
        ("mobilenet_v3_large", "MobileNet_V3_Large_Weights.IMAGENET1K_V2", "features", "ff6c41589af4"),
    ],
)
def test_features_of_earlier_stores_stay_theirs(backbone, weights, layer, sha256):
    trunk, _ = build_trunk(backbone, "random")
    assert (str(backbone_of(backbone).weights), trunk.layers) == (weights, (layer,))
    assert weights_sha256(trunk.weights_state()).startswith(sha256)


@pytest.mark.parametrize(
    ("backbone", "weights", "mean"),
    [
        ("vit_h_14", "ViT_H_14_Weights.IMAGENET1K_SWAG_LINEAR_V1", IMAGENET_MEAN),  # the default is for 518 px
        ("swin_v2_t", "Swin_V2_T_Weights.IMAGENET1K_V1", IMAGENET_MEAN),  # there are no others
        ("efficientnet_v2_l", "EfficientNet_V2_L_Weights.IMAGENET1K_V1", torch.full((3, 1, 1), 0.5)),
        ("inception_v3", "Inception_V3_Weights.IMAGENET1K_V1", torch.full((3, 1, 1), 0.5)),
    ],
)
def test_weights_come_with_their_normalisation(backbone, weights, mean):
    entry = backbone_of(backbone)
    assert str(entry.weights) == weights
    assert entry.mean == pytest.approx(mean.flatten().tolist())


@pytest.mark.parametrize(
    ("backbone", "layer", "pattern", "earlier"),
    [
        ("densenet121", "features.denseblock1", r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2"),
        ("vit_b_32", "encoder.layers.encoder_layer_0", r"mlp\.0", "mlp.linear_1"),
        ("vit_b_32", "encoder.layers.encoder_layer_0", r"mlp\.3", "mlp.linear_2"),
    ],
)
def test_files_with_torchvisions_earlier_names_are_read(backbone, layer, pattern, earlier):
    trunk = Trunk(backbone, layers=[layer])
    state = {name: weight.copy() for name, weight in trunk.weights_state().items()}
    renamed = {re.sub(pattern, earlier, name): weight + 1 for name, weight in state.items()}
    assert renamed.keys() != state.keys()
    trunk.load_weights_state(renamed, "here")
    for name, weight in trunk.weights_state().items():
        np.testing.assert_array_equal(weight, state[name] + 1)


@pytest.mark.parametrize(
    ("backbone", "precision", "most"),
    [
        ("vit_b_32", "bf16", 0.05),
        ("swin_t", "bf16", 0.05),
        ("densenet121", "bf16", 0.25),  # a random network multiplies what bfloat16 rounds
        ("regnet_x_400mf", "fp32", 1e-3),
    ],
)
def test_other_families_as_prepared_for_extraction(backbone, precision, most):
    trunk, _ = build_trunk(backbone, "random")
    frames = pictures(1, seed=5)
    ((_, cubes),) = CubeExtractor(trunk, device=torch.device("cpu"), precision=precision)(frames).items()
    assert relative_difference(torch.from_numpy(cubes).float(), cubes_of(trunk, frames)) < most


def test_random_weights_of_transformers_do_not_depend_on_torchs_generator():
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(build_trunk("swin_v2_t", "random")[0].weights_state())
    assert weights_sha256(states[0]) == weights_sha256(states[1])


# Random weights


@pytest.mark.parametrize("backbone", ["googlenet", "squeezenet1_0"])
def test_random_weights_are_the_same_each_time(backbone, googlenet, squeezenet):
    first = googlenet if backbone == "googlenet" else squeezenet
    torch.manual_seed(12345)
    again, weights_id = build_trunk(backbone, "random")
    assert weights_id == "random-0"
    assert weights_sha256(first.weights_state()) == weights_sha256(again.weights_state())


@pytest.mark.parametrize("name", ["googlenet", "squeezenet"])
def test_random_features_neither_vanish_nor_explode(name, request):
    trunk = request.getfixturevalue(name)
    cubes = cubes_of(trunk, pictures(2, seed=5))
    assert cubes.dtype == torch.float32
    assert 0.1 < cubes.std() < 20
    assert (cubes[0] - cubes[1]).std() > 0.1
    assert cubes.std(dim=(1, 2)).mean() > 0.01
    assert torch.isfinite(cubes).all()


def test_the_trunk_is_ready_for_use(googlenet):
    assert not googlenet.training
    assert not any(module.training for module in googlenet.modules())
    assert not any(parameter.requires_grad for parameter in googlenet.parameters())
    assert {parameter.dtype for parameter in googlenet.parameters()} == {torch.float32}


def test_weights_hash_tells_names_shapes_and_values_apart():
    state = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    variants = [
        state,
        {"a": np.zeros((3, 2), np.float32), "b": state["b"]},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"], "b": np.array([1, 2], np.float32)},
        {"a": state["a"].astype(np.float16), "b": state["b"]},
    ]
    assert len({weights_sha256(variant) for variant in variants}) == 5
    assert weights_sha256(dict(reversed(state.items()))) == weights_sha256(state)


# What is refused


def test_unknown_names():
    near = r"--backbone resnet81: unknown; did you mean resnet18, .*\? `attnrec info --backbones` lists all"
    with pytest.raises(ConfigError, match=near):
        build_trunk("resnet81", "random")
    for name in ("", "quantized_?", "fcn_resnet50_of_videos", "Conv2d"):
        with pytest.raises(ConfigError, match=r"unknown; .*`attnrec info --backbones` lists all"):
            build_trunk(name, "random")
    for layer in ("features.13", "network", "classifier.1.nothing"):
        with pytest.raises(ConfigError, match=f"--layer {layer}: squeezenet1_0 has no such layer; it has"):
            build_trunk("squeezenet1_0", "random", layers=[layer])


def test_timms_networks_need_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"needs timm; pip install 'attnrec\[timm\]'"):
        build_trunk("timm/a_network", "random")


def test_a_layer_without_a_map():
    with pytest.raises(ConfigError, match=r"--layer fc: gives shape \(1000,\), not a square spatial map"):
        Trunk("googlenet", layers=["fc"]).cube_shapes(64)
    attention = "encoder.layers.encoder_layer_0.self_attention"
    with pytest.raises(ConfigError, match=rf"--layer {attention}: gives several tensors, not a square spatial map"):
        Trunk("vit_b_32", layers=[attention]).cube_shapes(224)


def test_weights_that_are_no_weights(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match=r"--weights .*weights\.pth: no such file; give imagenet, random or"):
        build_trunk("squeezenet1_0", str(path))
    for content in (b"", b"<html>404</html>", b"{}", bytes(100), bytes(range(256)) * 10):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a file of weights that torch can load"):
            build_trunk("squeezenet1_0", str(path))
    for value in ([1, 2], {"state_dict": {"a": torch.zeros(1)}}, torch.zeros(2)):
        torch.save(value, path)
        with pytest.raises(WeightsError, match="not a state dict; save one with"):
            build_trunk("squeezenet1_0", str(path))


def test_weights_that_take_gigabytes_are_not_unpacked(tmp_path):
    """A file of a few MB: an archive of zeros, compressed, as torch itself would read it."""
    torch.save({"a": torch.zeros(4)}, tmp_path / "small.pth")
    with (
        zipfile.ZipFile(tmp_path / "small.pth") as small,
        zipfile.ZipFile(tmp_path / "large.pth", "w", zipfile.ZIP_DEFLATED) as large,
    ):
        for name in small.namelist():
            with large.open(name, "w", force_zip64=True) as file:
                if name.endswith("/data/0"):
                    for _ in range(2**11):
                        file.write(bytes(2**20))
                else:
                    file.write(small.read(name))
    assert (tmp_path / "large.pth").stat().st_size < 5e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"takes 2147 MB in memory, where \d\d are enough"):
        build_trunk("squeezenet1_0", str(tmp_path / "large.pth"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_weights_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.pth")
    for path in (tmp_path / "fifo.pth", tmp_path, Path("/dev/zero")):
        with pytest.raises(WeightsError, match=r"not a file of weights .*: (not a regular file|Is a directory)"):
            build_trunk("squeezenet1_0", str(path))


def test_weights_that_are_no_numbers(tmp_path, squeezenet):
    state = {name: torch.from_numpy(weight) for name, weight in squeezenet.weights_state().items()}
    state["features.0.bias"] = torch.full((96,), math.nan)
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"nan\.pth: features\.0\.bias holds NaN or infinity"):
        build_trunk("squeezenet1_0", str(tmp_path / "nan.pth"))


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("trapped"),)


def test_a_pickle_that_runs_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Trap()}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="not a file of weights that torch can load"):
        build_trunk("squeezenet1_0", "weights.pth")
    assert not (tmp_path / "trapped").exists()


def test_weights_of_another_network(tmp_path, squeezenet, googlenet_file):
    with pytest.raises(WeightsError, match=r"not weights of squeezenet1_0: .* is missing"):
        build_trunk("squeezenet1_0", str(googlenet_file))
    state = {name: torch.from_numpy(weight) for name, weight in squeezenet.weights_state().items()}
    state["features.0.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"features\.0\.weight has shape \(64, 3, 3, 3\)"):
        build_trunk("squeezenet1_0", str(tmp_path / "other.pth"))


@pytest.fixture
def offline(tmp_path, monkeypatch) -> None:
    """An empty cache, and a proxy that refuses at once."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request._opener", None)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", ["googlenet", "squeezenet1_0"])
def test_offline_says_what_to_do(backbone):
    name = backbone_of(backbone).weights.url.rsplit("/", 1)[-1]
    with pytest.raises(
        WeightsError, match=rf"{backbone} cannot be downloaded .*{name} .*--weights PATH.*--weights random"
    ):
        build_trunk(backbone, "imagenet")
    assert not imagenet_weights_at_hand(backbone)


@pytest.mark.usefixtures("offline")
def test_cached_weights_are_at_hand(tmp_path):
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "googlenet-1378be20.pth").touch()
    assert imagenet_weights_at_hand("googlenet")


# Cubes


def test_larger_maps_are_pooled_to_the_grid(squeezenet):
    frames = pictures(2)
    whole = cubes_of(squeezenet, frames)
    assert whole.shape == (2, 13, 13, 512)
    pooled = Trunk("squeezenet1_0", grid_size=7)
    pooled.load_weights_state(squeezenet.weights_state(), "here")
    cubes = cubes_of(pooled, frames)
    assert cubes.shape == (2, 7, 7, 512)
    # Cell i of 7 averages rows floor(13 i / 7) to ceil(13 (i + 1) / 7).
    torch.testing.assert_close(cubes[:, 0, 0], whole[:, :2, :2].mean(dim=(1, 2)))
    torch.testing.assert_close(cubes[:, 6, 3], whole[:, 11:, 5:8].mean(dim=(1, 2)))


def test_smaller_maps_are_kept(squeezenet):
    kept = Trunk("squeezenet1_0", grid_size=20)
    kept.load_weights_state(squeezenet.weights_state(), "here")
    torch.testing.assert_close(cubes_of(kept, pictures(1)), cubes_of(squeezenet, pictures(1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("size", "grid_size", "expected"), [(224, 7, (7, 512)), (224, 0, (13, 512)), (96, 0, (5, 512))]
)
def test_cube_shapes(size, grid_size, expected):
    assert Trunk("squeezenet1_0", grid_size=grid_size).cube_shapes(size) == {"features": expected}


@pytest.mark.parametrize("name", ["googlenet", "squeezenet"])
@pytest.mark.parametrize(("bottom", "right"), [(False, False), (False, True), (True, False), (True, True)])
def test_rows_and_columns_are_those_of_the_frame(name, bottom, right, request):
    trunk = request.getfixturevalue(name)
    dark = np.full((1, 224, 224, 3), 90, np.uint8)
    lit = dark.copy()
    rows, columns = (slice(150, 220) if side else slice(4, 74) for side in (bottom, right))
    lit[:, rows, columns] = pictures(1, 224)[:, rows, columns]
    changed = (cubes_of(trunk, lit) - cubes_of(trunk, dark)).norm(dim=-1)[0]  # (K, K)
    half = len(changed) // 2
    quarters = [[changed[:half, :half], changed[:half, -half:]], [changed[-half:, :half], changed[-half:, -half:]]]
    sums = torch.tensor([[float(quarter.sum()) for quarter in row] for row in quarters])
    assert sums.argmax() == 2 * bottom + right
    assert changed.argmax() // len(changed) > half if bottom else changed.argmax() // len(changed) < half
    assert changed.argmax() % len(changed) > half if right else changed.argmax() % len(changed) < half


def test_channels_are_rgb(squeezenet_weights):
    trunk, _ = build_trunk("squeezenet1_0", str(squeezenet_weights), grid_size=0)
    frames = pictures(1)
    frames[..., 0] //= 4
    network = torchvision.models.squeezenet1_0(weights=None)
    network.load_state_dict(torch.load(squeezenet_weights, weights_only=True))
    expected = hooked(network, "features", (as_images(frames) - IMAGENET_MEAN) / IMAGENET_STD)
    assert relative_difference(cubes_of(trunk, frames), expected) < 1e-4
    assert relative_difference(cubes_of(trunk, np.ascontiguousarray(frames[..., ::-1])), expected) > 0.05


def test_weights_state_round_trip(squeezenet):
    other = Trunk("squeezenet1_0", grid_size=0)
    frames = pictures(1, 64)
    assert not torch.equal(cubes_of(other, frames), cubes_of(squeezenet, frames))
    other.load_weights_state(squeezenet.weights_state(), "here")
    torch.testing.assert_close(cubes_of(other, frames), cubes_of(squeezenet, frames), rtol=0, atol=0)
    assert weights_sha256(other.weights_state()) == weights_sha256(squeezenet.weights_state())


def test_weights_state_of_another_network(squeezenet, googlenet):
    with pytest.raises(WeightsError, match=r"here: not weights of squeezenet1_0: .* is missing"):
        Trunk("squeezenet1_0").load_weights_state(googlenet.weights_state(), "here")
    state = squeezenet.weights_state()
    del state["features.0.bias"]
    with pytest.raises(WeightsError, match=r"here: not weights of squeezenet1_0: features\.0\.bias is missing"):
        Trunk("squeezenet1_0").load_weights_state(state, "here")


# Several layers in one pass


def test_several_layers_are_those_of_single_passes(googlenet_file):
    layers = ("inception5b", "inception4e", "inception3a")
    both, _ = build_trunk("googlenet", str(googlenet_file), layers=layers, grid_size=0)
    frames = torch.from_numpy(pictures(2, 64))
    with torch.inference_mode():
        cubes = both(frames)
    assert list(cubes) == list(layers)
    for layer in layers:
        alone, _ = build_trunk("googlenet", str(googlenet_file), layers=[layer], grid_size=0)
        torch.testing.assert_close(cubes[layer], cubes_of(alone, frames.numpy()), rtol=0, atol=0)
        assert alone.cube_shapes(64)[layer] == both.cube_shapes(64)[layer]


def test_a_layers_weights_are_those_that_it_rests_on(googlenet_file):
    layers = ("inception4e", "inception5b")
    both, _ = build_trunk("googlenet", str(googlenet_file), layers=layers)
    for layer in layers:
        alone, _ = build_trunk("googlenet", str(googlenet_file), layers=[layer])
        assert weights_sha256(both.weights_state(layer)) == weights_sha256(alone.weights_state())
        alone.load_weights_state(both.weights_state(), "here")
    assert both.weights_state().keys() == both.weights_state("inception5b").keys()
    assert both.weights_state("inception4e").keys() < both.weights_state("inception5b").keys()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mobilenet_v2-b0353104.pth", "try --backbone mobilenet_v2$"), ("mine.pth", r"are they of another --backbone\?$")],
)
def test_weights_of_another_network_are_guessed_by_their_name(tmp_path, name, hint):
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / name)
    with pytest.raises(WeightsError, match=f"not weights of squeezenet1_0: .* is missing; {hint}"):
        build_trunk("squeezenet1_0", str(tmp_path / name))
