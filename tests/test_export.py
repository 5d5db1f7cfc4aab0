import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_store import quick, write_store
from typer.testing import CliRunner

import attnrec
from attnrec.cli.app import app
from attnrec.errors import AttnrecError
from attnrec.evaluation.predict import Recognizer
from attnrec.export import export
from attnrec.features.blocks import blocks_of
from attnrec.features.extractor import frame_reader
from attnrec.features.feed import CubeFeed
from attnrec.metrics import reduce_blocks
from attnrec.training.run import Run
from attnrec.training.score import score_blocks
from attnrec.training.train import train

LAYERS = "finer+features"
# The exporter takes seconds for each.
MODELS = [
    {"attention": "content", "add_mean": True},
    {"attention": "location", "glimpse": "hard", "reduction": "vote", "last_steps": 2},
    {"model": "avg-pool"},
    *(
        pytest.param(changes, marks=pytest.mark.slow)
        for changes in (
            {"attention": "location", "num_layers": 3},
            {"attention": "saliency"},
            {"attention": "saliency", "glimpse": "hard"},
            {"model": "max-pool"},
            {"model": "avg-max-pool", "num_layers": 2},
            {"model": "softmax"},
        )
    ),
]


def outputs_of(path: Path, *blocks: np.ndarray) -> dict[str, np.ndarray]:
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {taken.name: each for taken, each in zip(session.get_inputs(), blocks, strict=True)}
    return dict(zip(names, session.run(None, given), strict=True))


def metadata_of(path: Path) -> dict[str, str]:
    return onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map


def assert_same(path: Path, run: Run, num_blocks: int) -> None:
    """Compare a file of cubes with the run on random blocks, by the path that all other commands take."""
    manifest = run.manifest
    T, rng = manifest.training.block_frames, np.random.default_rng(0)
    shapes = [(num_blocks * T, K, K, D) for _, K, D in manifest.features.grids]
    layers = [rng.standard_normal(shape).astype(np.float16) for shape in shapes]
    frames = np.arange(num_blocks * T).reshape(num_blocks, T)
    feed = CubeFeed(layers, manifest.feature_scales, torch.device("cpu"))
    model = run.load_model(torch.device("cpu"))
    scores = score_blocks(model, feed, frames, multilabel=manifest.model.multilabel, keep_attention=True)
    found = outputs_of(path, *(layer[frames].astype(np.float32) for layer in layers))
    np.testing.assert_allclose(found["frame_probs"], scores.frame_probs, atol=1e-5)
    reduced = reduce_blocks(
        scores.frame_probs, np.arange(num_blocks), manifest.training.reduction, manifest.training.last_steps
    )
    np.testing.assert_allclose(found["probs"], reduced, atol=1e-5)
    if scores.attention is None:
        assert "attention" not in found
    else:
        np.testing.assert_allclose(found["attention"].reshape(scores.attention.shape), scores.attention, atol=1e-5)


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_a_file_computes_what_the_run_does_for_any_number_of_blocks(tiny_store, tmp_path, changes):
    run = Run(train(tiny_store, quick(epochs=1, **changes), runs_dir=tmp_path / "runs").run)
    report = export(run, tmp_path / "run.onnx")
    assert report.largest_difference is not None
    assert report.largest_difference < 1e-5
    assert report.inputs == {"cubes": ["batch", 4, 2, 2, 6]}
    for num_blocks in (1, 3, 16):
        assert_same(tmp_path / "run.onnx", run, num_blocks)


def test_several_layers_are_inputs_of_their_own(layered_store, tmp_path):
    run = Run(train(layered_store, quick(epochs=1, layer=LAYERS), runs_dir=tmp_path / "runs").run)
    report = export(run, tmp_path / "run.onnx")
    assert list(report.inputs) == [f"cubes_{name}" for name in LAYERS.split("+")]
    assert_same(tmp_path / "run.onnx", run, 3)


def test_classes_that_do_not_exclude_one_another_are_exported(tmp_path):
    store = write_store(tmp_path / "features.h5", multilabel=True)
    run = Run(train(store, quick(epochs=1), runs_dir=tmp_path / "runs").run)
    export(run, tmp_path / "run.onnx")
    assert_same(tmp_path / "run.onnx", run, 3)
    assert metadata_of(tmp_path / "run.onnx")["multilabel"] == "true"


def test_a_file_says_what_it_needs_and_what_it_is(trained, tmp_path):
    run = Run(trained)
    export(run, tmp_path / "run.onnx")
    said = metadata_of(tmp_path / "run.onnx")
    spec, training = run.manifest.features, run.manifest.training
    assert json.loads(said["classes"]) == run.manifest.classes
    assert json.loads(said["preprocessing"])["image_size"] == spec.image_size
    assert "in the graph" in json.loads(said["preprocessing"])["normalisation"]
    assert json.loads(said["sample_fps"]) == training.fps
    assert json.loads(said["block_frames"]) == training.block_frames
    assert said["run"] == run.name
    assert (said["backbone"], said["layer"], said["reduction"]) == (spec.backbone, spec.layer, training.reduction)
    assert said["weights_sha256"] == spec.weights_sha256


def clip_probs(path: Path, recognizer: Recognizer, clip: Path) -> np.ndarray:
    """Class probabilities of a clip by a file of frames, as a user of it computes them."""
    manifest = recognizer.run.manifest
    training = manifest.training
    decoded = list(frame_reader(clip, manifest.features))
    pts = np.array([time for _, time in decoded])
    blocks = blocks_of(pts, training.fps, training.block_frames, training.block_stride, training.block_starts)
    frames = np.stack([frame for frame, _ in decoded])
    return np.concatenate([outputs_of(path, frames[block][None])["probs"] for block in blocks[:2]]).mean(axis=0)


@pytest.mark.slow
def test_a_file_of_frames_predicts_what_predict_does(looking_run, real_data, tmp_path):
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    report = export(recognizer.run, tmp_path / "run.onnx", source="frames")
    assert report.inputs == {"frames": ["batch", 5, 224, 224, 3]}
    clip = sorted((real_data / "weizmann4").glob("*/*.*"))[0]
    features = recognizer.features(clip)
    training = recognizer.run.manifest.training
    blocks = blocks_of(features.pts, training.fps, training.block_frames, training.block_stride, training.block_starts)
    feed = CubeFeed(features.layers, recognizer.run.manifest.feature_scales, torch.device("cpu"))
    scores = score_blocks(recognizer.run.load_model(torch.device("cpu")), feed, blocks[:2])
    expected = scores.frame_probs.mean(axis=(0, 1))
    np.testing.assert_allclose(clip_probs(tmp_path / "run.onnx", recognizer, clip), expected, atol=1e-3)


def test_the_command_exports_and_refuses_what_it_must_not_replace(trained, tmp_path):
    out = tmp_path / "run.onnx"
    result = CliRunner().invoke(app, ["export", str(trained), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["num_bytes"] == out.stat().st_size
    assert "largest difference" in result.stderr
    assert "Warning" not in result.stderr
    again = CliRunner().invoke(app, ["export", str(trained), "--out", str(out)])
    assert again.exit_code == 1
    assert "use --force" in again.stderr
    assert CliRunner().invoke(app, ["export", str(trained), "--out", str(tmp_path / "run.h5")]).exit_code == 2
    with pytest.raises(AttnrecError, match="exists; use --force"):
        export(Run(trained), out)


def test_without_onnx_the_command_says_what_to_install(trained, tmp_path):
    out = tmp_path / "run.onnx"
    code = "import sys; sys.modules['onnx'] = None; from attnrec.cli.app import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "export", str(trained), "--out", str(out)], capture_output=True, text=True
    )
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]  # a slow machine says before it that torch is being loaded
    assert last == "attnrec: export needs onnx, which is not installed; install attnrec[onnx]"
    assert not out.exists()


def test_the_code_in_the_guide_runs(trained, tmp_path):
    export(Run(trained), tmp_path / "run.onnx")
    guide = Path(attnrec.__file__).parent / "guide" / "formats.md"
    code = guide.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ended.stdout.strip() in Run(trained).manifest.classes, ended.stderr
