"""timm's networks at random weights against timm's own forward pass."""

import numpy as np
import pytest
import torch
from frames import pictures

from attnrec.errors import ConfigError, WeightsError
from attnrec.features.backbone import Trunk, network_bytes
from attnrec.features.extractor import CubeExtractor
from attnrec.features.state_dicts import weights_sha256
from attnrec.features.weights import build_trunk

timm = pytest.importorskip("timm", reason="needs timm: pip install 'attnrec[timm]'")

FORMS = {  # how features lie: channels first, channels last, tokens after a class token, four registers more, no others
    "resnet18": ((7, 512), lambda output: output.permute(0, 2, 3, 1)),
    "swin_tiny_patch4_window7_224": ((7, 768), lambda output: output),
    "vit_tiny_patch16_224": ((14, 192), lambda output: output[:, 1:].reshape(-1, 14, 14, 192)),
    "vit_small_patch14_reg4_dinov2": ((16, 384), lambda output: output[:, 5:].reshape(-1, 16, 16, 384)),
    "mixer_s32_224": ((7, 512), lambda output: output.reshape(-1, 7, 7, 512)),
}


@pytest.mark.parametrize("name", FORMS)
def test_features_are_timms(name):
    (side, channels), as_cubes = FORMS[name]
    trunk, weights_id = build_trunk(f"timm/{name}", "random", grid_size=0)
    frames = pictures(2, seed=5)
    with torch.inference_mode():
        cubes = trunk(torch.from_numpy(frames))["features"]
    assert (weights_id, trunk.layers) == ("random-0", ("features",))
    assert cubes.shape == (2, side, side, channels)
    assert torch.isfinite(cubes).all()
    assert cubes.std() > 0.1
    assert (cubes[0] - cubes[1]).std() > 0.05
    sized = {"img_size": 224} if "dinov2" in name else {}
    network = timm.create_model(name, num_classes=0, **sized).eval()
    network.load_state_dict(
        {name: torch.from_numpy(weight) for name, weight in trunk.weights_state("features").items()}
    )
    config = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    with torch.inference_mode():
        output = network.forward_features((torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std)
    torch.testing.assert_close(cubes, as_cubes(output), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_they_are_prepared_for_extraction(precision):
    trunk, _ = build_trunk("timm/vit_tiny_patch16_224", "random")
    frames = pictures(1, seed=5)
    ((_, cubes),) = CubeExtractor(trunk, device=torch.device("cpu"), precision=precision)(frames).items()
    with torch.inference_mode():
        expected = trunk(torch.from_numpy(frames))["features"].numpy()
    assert cubes.shape == (1, 7, 7, 192)
    assert np.linalg.norm(cubes - expected) / np.linalg.norm(expected) < (1e-3 if precision == "fp32" else 0.05)


def test_weights_come_from_a_file_as_well(tmp_path):
    network = timm.create_model("resnet18")
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    trunk, _ = build_trunk("timm/resnet18", str(tmp_path / "resnet18.pth"))
    assert torch.equal(trunk.network.conv1.weight, network.conv1.weight)
    assert network_bytes("timm/resnet18") == sum(weight.nbytes for weight in trunk.weights_state().values())
    other, _ = build_trunk("timm/resnet18", "random")
    other.load_weights_state(trunk.weights_state(), "here")
    assert weights_sha256(other.weights_state()) == weights_sha256(trunk.weights_state())


def test_published_weights_are_named_and_missed_offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"timm/resnet18 cannot be downloaded .*model\.safetensors .*--weights PATH"):
        build_trunk("timm/resnet18", "imagenet")
    with pytest.raises(WeightsError, match=r"mixer_s32_224 cannot be downloaded \(timm has none\)"):
        build_trunk("timm/mixer_s32_224", "imagenet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet81", "unknown; did you mean resnet18"),
        ("timm/resnet18.nothing", "unknown; did you mean resnet18"),
        ("timm/hf-hub:timm/resnet18", r"unknown; .*timm.list_models\(\) lists all"),
        ("timm/local-dir:.", r"unknown; .*timm.list_models\(\) lists all"),
    ],
)
def test_only_registered_networks_are_built(name, message):
    with pytest.raises(ConfigError, match=f"--backbone {name}: {message}"):
        Trunk(name)


def test_there_is_one_layer():
    with pytest.raises(ConfigError, match="--layer layer3: timm/resnet18 has features alone"):
        Trunk("timm/resnet18", layers=["layer3"])
