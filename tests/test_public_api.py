import subprocess
import sys

import pytest
import torch
from small_store import write_store
from torch.utils.data import DataLoader

import attnrec


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running code."""
    script = f"{code}\nimport sys\nprint(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"torch", "torchvision", "numpy", "h5py", "sklearn", "typer", "rich", "PIL", "safetensors"}
    assert not loaded_after("import attnrec; dir(attnrec); attnrec.TrainConfig; attnrec.AttnrecError") & heavy


@pytest.mark.parametrize("name", attnrec.__all__)
def test_every_public_name_is_there(name):
    value = getattr(attnrec, name)
    assert callable(value)
    assert value.__module__ == attnrec._HOMES[name].partition(":")[0]
    assert value.__doc__


def test_the_public_names_are_listed():
    assert dir(attnrec) == sorted(attnrec.__all__) == sorted(attnrec._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'attnrec' has no attribute 'trian'"):
        attnrec.trian  # noqa: B018
    with pytest.raises(ImportError):
        from attnrec import trian  # noqa: F401


def test_functions_do_not_hide_their_modules():
    from attnrec.training.train import train

    assert attnrec.train is train


def test_blocks_of_a_store_go_into_each_recogniser(tmp_path):
    blocks = attnrec.BlockDataset(write_store(tmp_path / "s.h5"), "train", fps=10, block_frames=4)
    sizes = {"feature_dim": 6, "num_classes": len(blocks.classes)}
    models = [
        attnrec.AttentionLSTM(**sizes, num_locations=4, hidden_dim=8, num_layers=1),
        attnrec.PooledLSTM("avg", **sizes, hidden_dim=8, num_layers=1),
        attnrec.SoftmaxRegression(**sizes, num_locations=4),
    ]
    cubes, labels = next(iter(DataLoader(blocks, batch_size=5)))
    assert (cubes.shape, labels.shape) == ((5, 4, 2, 2, 6), (5,))
    for model in models:
        output = model(cubes.float().flatten(2, 3))
        assert output.frame_logits.shape == (5, 4, 3)
        torch.nn.functional.cross_entropy(output.frame_logits.mean(1), labels).backward()
        assert all(weight.grad.isfinite().all() for weight in model.parameters())
    assert models[0](cubes.float().flatten(2, 3)).attention.shape == (5, 4, 4)
