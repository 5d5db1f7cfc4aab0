"""Shared fixtures: quiet threads, random state put back, real data where it lies, small stores and runs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import attnrec  # noqa: F401  before torch: it says how torch's threads wait

# isort: split
import numpy as np
import pytest
import torch
from small_store import FINER, quick, write_store, write_trunk_store

from attnrec.training.train import train

# The tensors of these tests are tiny, and other tests run beside them: more threads would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the programs that tests start
# A shell has what it starts in the background ignore Ctrl-C, and programs hand that on to those that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes the real data, directly or by another fixture."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)


@pytest.fixture(autouse=True)
def _cuda_gate(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("cuda") and not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA"):
            pytest.fail("no CUDA device, and FAIL_WITHOUT_CUDA is set")
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real clips, splits and weights; tests that take it are `real`, and skipped where it is not."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("ATTNREC_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip("no real data: set ATTNREC_TEST_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def squeezenet_weights(real_data: Path) -> Path:
    """Real ImageNet weights of SqueezeNet."""
    return real_data / "weights" / "squeezenet1_0-imagenet.pth"


# A small store and small runs that tests share; nothing may write to them.


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> Path:
    """Three classes in eight groups, easily told apart."""
    return write_store(tmp_path_factory.mktemp("store") / "features.h5")


@pytest.fixture(scope="session")
def layered_store(tmp_path_factory) -> Path:
    """The same of two layers, 2 x 2 x 6 and 3 x 3 x 4, whose features differ in scale."""
    return write_store(tmp_path_factory.mktemp("layered") / "features.h5", others=[FINER])


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
