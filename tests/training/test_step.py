"""Steps that several processes take together, and the optimiser."""

import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from safetensors.numpy import load_file
from small_store import quick, write_store

from attnrec.capture import SWITCH
from attnrec.distributed import World
from attnrec.models.losses import recognition_loss
from attnrec.runtime import derived_seed
from attnrec.training.plan import prepare
from attnrec.training.run import Run
from attnrec.training.step import Batch, Stepper, build_optimizer
from attnrec.training.train import resume, train


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


def assert_follows(run: Path, single: Path) -> None:
    """The same curve and weights but for rounding, every line once."""
    lines, expected = log(run), log(single)
    assert [(line["kind"], line["step"]) for line in lines] == [(line["kind"], line["step"]) for line in expected]
    for line, other in zip(lines, expected, strict=True):
        for name in {"loss", "penalty", "attention_entropy", "gradient_norm", "validation_loss"} & other.keys():
            assert line[name] == pytest.approx(other[name], rel=2e-4, abs=1e-6), (name, other["step"])
    weights = load_file(run / "model.safetensors")
    for name, value in load_file(single / "model.safetensors").items():
        np.testing.assert_allclose(weights[name], value, atol=2e-4)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (2, {"attention_penalty": 1.0, "dropout": 0.5, "epochs": 3, "num_layers": 2}),
        (2, {"glimpse": "hard", "dropout": 0.5, "epochs": 3}),
        (3, {"batch_size": 2, "max_steps": 12}),  # a process of each three has no row
    ],
)
def test_processes_follow_the_single_one(tiny_store, tmp_path, size, changes):
    config = quick(precision="fp32", **changes)  # in bfloat16 other shares of a batch are rounded otherwise
    single = Path(train(tiny_store, config, runs_dir=tmp_path / "one").run)
    assert run_ranks(size, train, tiny_store, config, runs_dir=tmp_path / "ranks") == [0] * size
    run = only_run(tmp_path / "ranks")
    assert Run(run).manifest.machine["processes"] == size
    assert {path.name for path in run.iterdir()} == {path.name for path in single.iterdir()}
    assert_follows(run, single)


def test_processes_follow_the_single_one_in_retraining_and_in_going_on(tiny_store, tmp_path):
    config = quick(epochs=2, retrain=True, save_every=0.0, model="avg-pool", precision="fp32")
    single = Path(train(tiny_store, config, runs_dir=tmp_path / "one").run)

    def end(event) -> None:
        if event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_store, config, runs_dir=tmp_path / "ranks", on_progress=end)
    run = only_run(tmp_path / "ranks")
    assert run_ranks(2, resume, run) == [0, 0]
    assert_follows(run, single)


def test_a_process_that_fails_ends_the_others(tiny_store, tmp_path):
    """The first cannot write its run; the second must not wait for ever."""
    (tmp_path / "runs").write_text("a file")
    assert 0 not in run_ranks(2, train, tiny_store, quick(epochs=1), runs_dir=tmp_path / "runs")


@pytest.mark.slow
def test_torchrun_follows_the_single_process(tiny_store, tmp_path):
    options = "--fps 10 --block-frames 4 --block-stride 4 --hidden 16 --jobs 1 --epochs 2 --batch-size 8 --device cpu"
    options += " --precision fp32"  # as above
    command = ["-m", "attnrec", "train", str(tiny_store), *options.split(), "--json", "--runs"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    one = subprocess.run([sys.executable, *command, tmp_path / "one"], capture_output=True, text=True)
    two = subprocess.run([*torchrun, *command, tmp_path / "two"], capture_output=True, text=True, env=os.environ)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert json.loads(two.stdout)["plan"]["processes"] == 2
    assert_follows(only_run(tmp_path / "two"), only_run(tmp_path / "one"))


def test_decay_per_batch_is_less_by_the_batch_size():
    model = torch.nn.Linear(2, 2)
    block = build_optimizer(model, 0.1, 0.5, batch_size=128)
    batch = build_optimizer(model, 0.1, 0.5, kind="sgd", decay_per="batch", batch_size=128)
    assert isinstance(block, torch.optim.Adam)
    assert isinstance(batch, torch.optim.SGD)
    assert block.defaults["weight_decay"] == 1.0
    assert batch.defaults["weight_decay"] == 1 / 128
    assert batch.defaults["momentum"] == 0


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_step_that_is_held_changes_nothing(tiny_store, kind):
    """As a step is computed before it is recorded as a CUDA graph."""
    stepper, (batch, *_) = stepper_of(tiny_store, optimizer=kind)
    before = {name: value.clone() for name, value in stepper.model.state_dict().items()}
    stepper._held.fill_(1.0)
    stepper._compute(batch)
    assert all(torch.equal(value, before[name]) for name, value in stepper.model.state_dict().items())
    assert all(bool((value == 0).all()) for state in stepper.optimizer.state.values() for value in state.values())
    stepper._held.zero_()
    stepper._compute(batch)
    assert not all(torch.equal(value, before[name]) for name, value in stepper.model.state_dict().items())


def test_a_step_without_a_number_changes_nothing(tiny_store):
    stepper, (batch, *_) = stepper_of(tiny_store)
    before = {name: value.clone() for name, value in stepper.model.state_dict().items()}
    batch.cubes[0, 0, 0, 0] = math.inf
    assert not stepper.take(batch, 0).finite
    assert all(torch.equal(value, before[name]) for name, value in stepper.model.state_dict().items())


def stepper_of(store, **changes) -> tuple[Stepper, Iterator[Batch]]:
    session = prepare(store, quick(dropout=0.5, batch_size=4, **changes))
    stepper = Stepper(session, World())
    stepper.model.train()
    return stepper, stepper.batches(session.train, [np.arange(4), np.arange(4, 8), np.arange(3)])


def test_every_batch_of_full_size_is_one_step_on_the_same_memory(tiny_store):
    """Figures and weights are those of plain torch: each batch computed for itself, Adam's update after it."""
    stepper, batches = stepper_of(tiny_store, precision="fp32", clip=0.5)
    other, _ = stepper_of(tiny_store, precision="fp32", clip=0.5)
    recipe = other.session.recipe
    adam = torch.optim.Adam(other.model.parameters(), lr=recipe.learning_rate, weight_decay=2 * recipe.weight_decay)
    steps = set()
    for k, batch in enumerate(batches):
        figures = stepper.take(batch, k)
        generator = torch.Generator().manual_seed(derived_seed(other.session.recipe.seed, "step", k))
        loss = recognition_loss(
            other.model(batch.cubes.clone(), generator),
            batch.targets,
            attention_penalty=other.session.recipe.attention_penalty,
        )
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(other.model.parameters(), 0.5)
        adam.step()
        assert figures.means.loss == pytest.approx(loss.item(), rel=1e-6)
        assert figures.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
        steps.add(id(stepper._whole[1]))
    assert len(steps) == 1
    for name, value in other.model.state_dict().items():
        torch.testing.assert_close(stepper.model.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_hard_attentions_baseline_is_a_moving_average_that_begins_at_even_losses(tiny_store):
    stepper, batches = stepper_of(tiny_store, precision="fp32", glimpse="hard")
    usual = torch.arange(4, 0, -1) * math.log(3)  # four steps, three classes
    torch.testing.assert_close(stepper.usual_losses, usual)
    for k, batch in enumerate(batches):
        generator = torch.Generator().manual_seed(derived_seed(stepper.session.recipe.seed, "step", k))
        with torch.no_grad():
            logits = stepper.model(batch.cubes, generator).frame_logits
        targets = batch.targets[:, None].expand(-1, 4)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        to_come = torch.stack([losses[:, t:].sum(dim=1).mean() for t in range(4)])
        figures = stepper.take(batch, k)
        assert figures.means.loss == pytest.approx(to_come[0].item(), rel=1e-5)  # Eq. 7, without what the choices add
        usual = 0.9 * usual + 0.1 * to_come
        torch.testing.assert_close(stepper.usual_losses, usual)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_hard_attention_learns_several_labels(tmp_path, precision):
    store = write_store(tmp_path / "features.h5", multilabel=True)
    config = quick(glimpse="hard", epochs=3, precision=precision)
    lines = log(Path(train(store, config, runs_dir=tmp_path / "runs").run))
    losses = [line["loss"] for line in lines if line["kind"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", [{"model": "attention"}, {"model": "avg-pool"}, {"glimpse": "hard"}])
def test_a_recorded_step_is_the_step(tiny_store, tmp_path, monkeypatch, precision, changes):
    """The curve and the weights are those without a CUDA graph, the last, smaller batch of an epoch among them."""
    config = quick(precision=precision, **changes, dropout=0.5, epochs=3, batch_size=5, clip=0.5, device="cuda")
    monkeypatch.delenv(SWITCH, raising=False)
    plain = Path(train(tiny_store, config, runs_dir=tmp_path / "plain").run)
    monkeypatch.setenv(SWITCH, "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "no CUDA graph" among them
        recorded = Path(train(tiny_store, config, runs_dir=tmp_path / "recorded").run)
    if precision == "fp32":
        assert_follows(recorded, plain)
    assert log(recorded)[-1]["loss"] == pytest.approx(log(plain)[-1]["loss"], rel=2e-2)
