"""A small store and small runs that the tests of the workflows share; nothing may write to them."""

from pathlib import Path

import pytest
from small_store import quick, write_store, write_trunk_store

from attnrec.workflows.train import train


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> Path:
    """Three classes in eight groups, easily told apart."""
    return write_store(tmp_path_factory.mktemp("store") / "features.h5")


@pytest.fixture(scope="session")
def trained(tiny_store, tmp_path_factory) -> Path:
    """A run that has learnt `tiny_store`."""
    return Path(train(tiny_store, quick(epochs=12), runs_dir=tmp_path_factory.mktemp("runs")).run)


@pytest.fixture
def tiny_run(tiny_store, tmp_path) -> Path:
    """A run of a test's own, hardly trained."""
    return Path(train(tiny_store, quick(epochs=1), runs_dir=tmp_path / "runs").run)


@pytest.fixture(scope="session")
def looking_run(tmp_path_factory) -> Path:
    """A run with a random SqueezeNet, which can look at videos and knows nothing."""
    folder = tmp_path_factory.mktemp("looking")
    store = write_trunk_store(folder / "features.h5", "random")
    return Path(train(store, quick(fps=6.0, block_frames=5, epochs=1), runs_dir=folder / "runs").run)
