import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from attnrec.errors import ConfigError
from attnrec.runtime import (
    Progress,
    default_jobs,
    deferred_interruption,
    derived_seed,
    no_progress,
    prepare_cpu,
    resolve_device,
    versions,
)


def test_derived_seeds_are_stable():
    digest = hashlib.sha256(b"(0, 'step', 17)").digest()
    assert derived_seed(0, "step", 17) == int.from_bytes(digest[:8], "little") // 2
    assert derived_seed(0) == int.from_bytes(hashlib.sha256(b"(0,)").digest()[:8], "little") // 2


def test_derived_seeds_differ():
    parts = [(0,), (1,), (0, 0), (0, "step", 1), (0, "step", 11), (0, "step", "1"), (0, "steps", 1), (0, "step1")]
    seeds = {derived_seed(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))


# The machine


def test_the_cpu_is_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "--device gpu: unknown; use auto, cpu, cuda or cuda:N"),
        ("", "--device : unknown"),
        ("cuda:x", "--device cuda:x: unknown"),
        ("meta", "--device meta: not supported; use auto, cpu, cuda or cuda:N"),
        ("mps", "--device mps: not supported"),
        ("cuda:99", r"--device cuda:99: this machine has \d+ CUDA devices; try --device cpu"),
    ],
)
def test_devices_that_are_not_there(name, message):
    with pytest.raises(ConfigError, match=message):
        resolve_device(name)


def test_cuda_without_a_device():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="--device cuda: this machine has 0 CUDA devices"):
        resolve_device("cuda")


@pytest.mark.cuda
def test_cuda_devices():
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:0") == torch.device("cuda:0")


def test_threads():
    before = torch.get_num_threads()
    try:
        assert prepare_cpu(2) == torch.get_num_threads() == 2
        assert prepare_cpu(None) == 2
    finally:
        torch.set_num_threads(before)
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)


def test_versions_name_what_numbers_depend_on():
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert {"python", "attnrec", "torchvision", "numpy"} <= found.keys()


def test_progress_can_be_ignored():
    assert no_progress(Progress("train", 1, 2)) is None


def test_importing_the_runtime_does_not_import_torch():
    script = "import sys, attnrec.runtime, attnrec.files, attnrec.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path.cwd())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_until_it_is_looked_at(number):
    before = signal.getsignal(number)
    with deferred_interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait_unless_torchrun_sent_it():
    with deferred_interruption(patient=True) as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
    with deferred_interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_interruptions_are_left_alone_in_other_threads():
    def work() -> None:
        with deferred_interruption() as interruption:
            seen.append(interruption.requested)

    seen: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def loaded_with(code: str, **variables: str) -> list[str]:
    """What a fresh Python prints whose environment says nothing of OpenMP but this."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("OMP_WAIT", "KMP_", "GOMP_"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=kept | variables, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("KMP_BLOCKTIME"))
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize("use", ["import attnrec; attnrec.train", "import attnrec.models.losses"])
def test_threads_wait_passively_before_torch_is_loaded(use):
    assert loaded_with(WATCH + use) == ["PASSIVE", "0"]


def test_the_program_waits_passively(tmp_path):
    code = WATCH + "from attnrec.cli.app import app; app(['info', '--json'], standalone_mode=False)"
    assert loaded_with(code)[:2] == ["PASSIVE", "0"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("OMP_WAIT_POLICY", "ACTIVE", ["ACTIVE", "None"]),
        ("KMP_BLOCKTIME", "200", ["None", "200"]),
        ("GOMP_SPINCOUNT", "1000", ["None", "None"]),
    ],
)
def test_a_way_to_wait_that_the_user_has_set_is_kept(name, value, expected):
    assert loaded_with(WATCH + "import attnrec; attnrec.train", **{name: value}) == expected


def test_nothing_is_set_once_torch_is_loaded():
    code = "import os, torch, attnrec; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert loaded_with(code) == ["None"]
