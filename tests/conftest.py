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

# The tensors of these tests are tiny, and other tests run beside them: more threads would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the programs that tests start
# A shell has what it starts in the background ignore Ctrl-C, and programs hand that on to those that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """Folder of real clips, splits and weights; tests that take it are skipped where it is not."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("ATTNREC_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip("no real data: set ATTNREC_TEST_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def squeezenet_weights(real_data: Path) -> Path:
    """Real ImageNet weights of SqueezeNet."""
    return real_data / "weights" / "squeezenet1_0-imagenet.pth"
