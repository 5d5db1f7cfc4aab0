"""Hard attention after training: its most probable locations, or several passes that draw."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from small_store import quick, write_trunk_store

from attnrec.comparison.grid import is_evaluated
from attnrec.demo.sample import generate_clips
from attnrec.errors import ConfigError
from attnrec.evaluation.evaluate import evaluate
from attnrec.evaluation.perturb import Probe, replaced_scores
from attnrec.evaluation.predict import Recognizer
from attnrec.evaluation.predictions import read_predictions
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.metrics import block_means
from attnrec.pictures.look import look_at
from attnrec.settings import PictureConfig
from attnrec.training.origin import store_of_run
from attnrec.training.plan import run_blocks
from attnrec.training.run import Run
from attnrec.training.score import RunBlocks, passes_of, score_blocks
from attnrec.training.train import train
from attnrec.video.encode import write_video


@pytest.fixture(scope="module")
def hard_run(tiny_store, tmp_path_factory) -> Path:
    config = quick(epochs=3, glimpse="hard", attention="content", seed=3)
    return Path(train(tiny_store, config, runs_dir=tmp_path_factory.mktemp("hard")).run)


def blocks_of_part(path: Path, part: str = "test") -> RunBlocks:
    run = Run(path)
    store = store_of_run(run, None)
    return RunBlocks(run, store, run_blocks(store, run.manifest.training, part))


def scores(blocks: RunBlocks, rows: slice = slice(None), samples: int = 0, **options):
    model = blocks.run.load_model("cpu")
    passes = passes_of(blocks.run, samples, blocks.table.video[rows])
    frames = blocks.table.frames[rows]
    return score_blocks(model, blocks.feed(model), frames, passes=passes, keep_attention=True, **options)


def test_one_pass_looks_at_the_peak_of_the_attention(hard_run):
    found = scores(blocks_of_part(hard_run))
    assert found.looked_at.shape == found.attention.shape
    np.testing.assert_array_equal(found.looked_at.sum(axis=-1), 1)
    np.testing.assert_array_equal(found.looked_at.argmax(axis=-1), found.attention.argmax(axis=-1))


def test_samples_are_the_mean_of_passes(hard_run):
    blocks = blocks_of_part(hard_run)
    found, passes = scores(blocks, samples=3), passes_of(blocks.run, 3, blocks.table.video)
    model, features = blocks.run.load_model("cpu"), blocks.store.features()[blocks.table.frames].astype(np.float32)
    cubes = torch.from_numpy(features).flatten(2, 3) * blocks.run.manifest.feature_scale
    noise = [torch.from_numpy(passes.noise(k, slice(None), 4, 4)) for k in range(3)]
    with torch.inference_mode():
        outputs = [model(cubes, noise=each) for each in noise]
    probs = torch.stack([output.frame_logits.softmax(dim=-1) for output in outputs])
    np.testing.assert_allclose(found.frame_probs, probs.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(found.attention, torch.stack([o.attention for o in outputs]).mean(dim=0), atol=1e-5)
    looks = torch.stack([torch.nn.functional.one_hot(output.looked_at, 4) for output in outputs]).float().mean(dim=0)
    np.testing.assert_allclose(found.looked_at, looks, atol=1e-6)
    assert not torch.equal(outputs[0].looked_at, outputs[1].looked_at)


def test_what_is_drawn_does_not_depend_on_what_else_is_scored(hard_run):
    blocks = blocks_of_part(hard_run, "train")
    whole = scores(blocks, samples=2)
    last = blocks.table.video == blocks.table.video[-1]
    alone = scores(blocks, slice(int(np.flatnonzero(last)[0]), None), samples=2)
    np.testing.assert_allclose(alone.frame_probs, whole.frame_probs[last], atol=1e-6)
    np.testing.assert_array_equal(alone.looked_at, whole.looked_at[last])


def test_many_samples_look_as_often_as_the_attention_says(hard_run):
    found = scores(blocks_of_part(hard_run), samples=300)
    # The first step's attention is the same in all passes.
    np.testing.assert_allclose(found.looked_at[:, 0].mean(), found.attention[:, 0].mean(), atol=1e-6)
    assert np.abs(found.looked_at[:, 0] - found.attention[:, 0]).max() < 5 * np.sqrt(0.25 / 300)


def test_figures_of_samples_repeat_and_leave_those_of_the_most_probable(hard_run):
    evaluate(hard_run)
    record = (hard_run / "evaluation-test.json").read_text()
    one, two = (asdict(evaluate(hard_run, samples=4)) | {"seconds": 0} for _ in range(2))
    assert one == two
    assert one["samples"] == 4
    assert (hard_run / "evaluation-test.json").read_text() == record
    assert json.loads(record)["samples"] == 0
    assert json.loads((hard_run / "evaluation-test-samples4.json").read_text())["samples"] == 4
    assert is_evaluated(Run(hard_run), "test")
    probs = read_predictions(Run(hard_run), "test").probs
    with np.load(hard_run / "predictions-test-samples4.npz") as drawn:
        assert not np.allclose(drawn["video_probs"], probs)


def test_evaluate_averages_the_passes(hard_run):
    blocks = blocks_of_part(hard_run)
    evaluate(hard_run, samples=4)
    with np.load(hard_run / "predictions-test-samples4.npz") as written:
        expected = block_means(scores(blocks, samples=4).frame_probs, 4)
        np.testing.assert_allclose(written["block_probs"], expected, atol=1e-6)


def test_soft_attention_draws_nothing(trained, hard_run):
    with pytest.raises(ConfigError, match=r"--samples 4: .* draws no locations; that takes a run with --glimpse hard"):
        evaluate(trained, samples=4)
    with pytest.raises(ConfigError, match=r"--samples 2: .* draws no locations"):
        Recognizer(trained, samples=2)
    with pytest.raises(ConfigError, match="--samples 4: --faithfulness tests the most probable locations"):
        evaluate(hard_run, samples=4, faithfulness=True)


def test_replaced_attention_is_looked_at_where_it_is_largest(hard_run):
    blocks = blocks_of_part(hard_run)
    model = blocks.run.load_model("cpu")
    probe = Probe(model, blocks.feed(model), False, 4, 0)
    (replaced,) = replaced_scores(probe, blocks.table, None)
    own = scores(blocks)
    np.testing.assert_allclose(replaced.block_probs["learned"][0], block_means(own.frame_probs, 4), atol=1e-6)
    uniform = scores(blocks, given=np.full_like(own.attention, 1 / 4))
    np.testing.assert_allclose(replaced.block_probs["uniform"][0], block_means(uniform.frame_probs, 4), atol=1e-6)
    assert not np.allclose(uniform.frame_probs, own.frame_probs, atol=1e-3)
    np.testing.assert_array_equal(replaced.attention, own.attention)


@pytest.fixture(scope="module")
def looking_hard(tmp_path_factory) -> Path:
    """A run with hard attention and a random SqueezeNet, which can look at videos."""
    folder = tmp_path_factory.mktemp("looking")
    store = write_trunk_store(folder / "features.h5", "random")
    config = quick(fps=6.0, block_frames=5, epochs=1, glimpse="hard")
    return Path(train(store, config, runs_dir=folder / "runs").run)


@pytest.mark.parametrize("samples", [0, 3])
def test_a_clip_is_attended_as_it_is_predicted(looking_hard, tmp_path, monkeypatch, samples):
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 10)
    clip = next(iter(generate_clips(num_groups=1, num_frames=20, width=64, height=48)))
    write_video(tmp_path / "jump.mp4", iter(clip.frames), clip.fps)
    one, two = (Recognizer(looking_hard, device="cpu", jobs=1, samples=samples) for _ in range(2))
    attended = one.attend(tmp_path / "jump.mp4")
    assert attended.prediction == two.predict(tmp_path / "jump.mp4")
    assert attended.looked_at.shape == attended.attention.shape
    look = look_at(one, tmp_path / "jump.mp4", PictureConfig())
    np.testing.assert_array_equal(look.looked_at, attended.looked_at > 0)
    assert look.note.startswith("looks at one cell of 7 x 7 at a time (")
    if samples:
        assert attended.prediction != Recognizer(looking_hard, device="cpu", jobs=1).predict(tmp_path / "jump.mp4")
        assert "drawn 3 times" in look.note
    else:
        peaks = attended.attention.reshape(-1, 49).argmax(axis=1)
        np.testing.assert_array_equal(attended.looked_at.reshape(-1, 49).argmax(axis=1), peaks)
