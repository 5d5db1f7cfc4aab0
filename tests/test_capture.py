"""Work that is recorded as a CUDA graph, and done plainly elsewhere."""

import warnings

import pytest
import torch

from attnrec.capture import SWITCH, Captured, captures

CPU = torch.device("cpu")


def test_elsewhere_than_on_cuda_each_call_does_the_work(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    held = torch.ones(3)
    work = Captured(lambda: held * 2, CPU)
    assert work().tolist() == [2, 2, 2]
    held.fill_(5)
    work.prepare()
    assert work().tolist() == [10, 10, 10]


@pytest.mark.parametrize(("switch", "device", "expected"), [(None, "cuda", False), ("0", "cuda", False),
                                                            ("1", "cuda", True), ("1", "cpu", False)])  # fmt: skip
def test_only_cuda_records_and_only_when_told(monkeypatch, switch, device, expected):
    monkeypatch.delenv(SWITCH, raising=False)
    if switch is not None:
        monkeypatch.setenv(SWITCH, switch)
    assert captures(torch.device(device)) is expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="recording works here")
def test_where_recording_fails_the_work_is_done_and_it_is_said_once(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    calls = []
    work = Captured(lambda: calls.append(1) or len(calls), torch.device("cuda"), plain_calls=1)
    assert work() == 1
    with pytest.warns(UserWarning, match="^(unfused|no) CUDA graph, so slower: "):
        assert work() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert work() == 3


@pytest.mark.cuda
def test_a_recording_reads_what_its_tensors_hold_and_draws_by_the_seed(monkeypatch):
    monkeypatch.setenv(SWITCH, "1")
    device = torch.device("cuda")
    held, generator = torch.ones(1000, device=device), torch.Generator(device)

    def draw() -> torch.Tensor:
        return held * torch.empty_like(held).uniform_(generator=generator)

    work = Captured(draw, device, generator)
    for seed, factor in ((1, 1.0), (2, 3.0), (1, 2.0)):
        held.fill_(factor)
        generator.manual_seed(seed)
        recorded = work().clone()
        generator.manual_seed(seed)
        torch.testing.assert_close(recorded, draw(), rtol=0, atol=0)
    assert work._graph is not None
