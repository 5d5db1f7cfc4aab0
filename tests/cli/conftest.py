"""Clips and settings that the chain from videos to figures is run with."""

from pathlib import Path

import pytest
import torch
import torchvision
from clips import write_actions


@pytest.fixture(scope="session")
def sample_clips(tmp_path_factory) -> Path:
    """The demo's clips, small, of six groups: to be copied from."""
    folder = tmp_path_factory.mktemp("sample")
    write_actions(folder, num_groups=6, num_frames=20, fps=8, width=80, height=60)
    return folder


@pytest.fixture(scope="session")
def options(tmp_path_factory) -> list[object]:
    """Settings of every extraction here: the first map of a small network, whose weights lie in a file."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v3_large().state_dict(), path)
    return ["--backbone", "mobilenet_v3_large", "--layer", "features.1", "--weights", path, "--fps", "5", "--jobs", "1"]
