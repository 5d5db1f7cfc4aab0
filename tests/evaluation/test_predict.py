from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from small_store import quick

from attnrec.demo.sample import generate_clips
from attnrec.errors import ConfigError, DataError, RunError, VideoError
from attnrec.evaluation.predict import Recognizer, load_run, predict
from attnrec.features.extractor import BATCH_FRAMES
from attnrec.training.run import Run, create_run
from attnrec.training.train import train
from attnrec.video.encode import write_video


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch) -> None:
    """Batches are filled up to one size, which for clips as short as these would be most of the work."""
    monkeypatch.setitem(BATCH_FRAMES, "cpu", 10)


@pytest.fixture(scope="module")
def recognizer(looking_run) -> Recognizer:
    return Recognizer(looking_run, device="cpu", jobs=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder of two clips of two seconds and a text."""
    folder = tmp_path_factory.mktemp("clips")
    for clip in list(generate_clips(num_groups=1, num_frames=20, width=64, height=48))[:2]:
        write_video(folder / f"{clip.name}.mp4", iter(clip.frames), clip.fps)
    (folder / "notes.avi").write_text("not a video\n" * 100)
    return folder


def test_a_prediction_is_a_distribution_over_the_runs_classes(recognizer, clips):
    prediction = recognizer.predict(clips / "v_jump_g01_c01.mp4")
    assert list(prediction.probs) == recognizer.classes == ["left", "right"]
    assert sum(prediction.probs.values()) == pytest.approx(1, abs=1e-6)
    assert prediction.probability == max(prediction.probs.values()) == prediction.probs[prediction.predicted]
    assert prediction.status == "ok"
    # 20 frames in 2 s; five samples at 6 a second span 0.67 s of 1.95 s: they start at 0.0, 0.1, ... 1.2 s.
    assert prediction.num_blocks == len([0.0, 0.4, 0.8, 1.2])


def test_predicting_again_gives_the_same(recognizer, clips, looking_run):
    clip = clips / "v_jump_g01_c01.mp4"
    assert recognizer.predict(clip) == recognizer.predict(clip) == load_run(looking_run, device="cpu").predict(clip)


def test_folders_are_predicted_in_order_and_what_is_no_video_is_listed(recognizer, clips):
    seen = []
    single = clips / "v_pushup_g01_c01.mp4"
    report = predict(recognizer, [single, clips], on_progress=seen.append)
    names = [Path(prediction.path).name for prediction in report.predictions]
    assert names == ["v_pushup_g01_c01.mp4", "v_jump_g01_c01.mp4", "v_pushup_g01_c01.mp4"]
    assert report.skipped == [(str(clips / "notes.avi"), "not-a-video")]
    assert asdict(report.predictions[0]) == asdict(report.predictions[2])
    assert (seen[-1].done, seen[-1].total) == (4, 4)
    assert any(event.message and "notes.avi" in event.message for event in seen)


def test_what_cannot_be_predicted_is_refused(recognizer, tmp_path, clips):
    with pytest.raises(DataError, match="no videos in it"):
        predict(recognizer, [tmp_path])
    with pytest.raises(VideoError, match="not-a-video"):
        recognizer.predict(clips / "notes.avi")
    assert predict(recognizer, [tmp_path / "absent.mp4"]).skipped == [(str(tmp_path / "absent.mp4"), "unreadable")]


def test_features_are_those_that_extract_stores(recognizer, clips):
    features = recognizer.features(clips / "v_jump_g01_c01.mp4")
    assert features.layers[0].shape == (20, 7, 7, 512)
    assert features.layers[0].dtype == np.float16
    np.testing.assert_allclose(features.pts, np.arange(20) / 10, atol=1e-6)


def test_attention_is_a_distribution_over_locations_for_rising_times(recognizer, clips):
    attended = recognizer.attend(clips / "v_jump_g01_c01.mp4")
    S = len(attended.frames)
    assert attended.attention.shape == (S, 7, 7)
    assert attended.frame_probs.shape == (S, 2)
    np.testing.assert_allclose(attended.attention.sum(axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(attended.frame_probs.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(attended.frames) > 0).all()
    np.testing.assert_allclose(attended.times, attended.frames / 10, atol=1e-6)
    # Twelve samples at 6 a second: the last one at 11 / 6 s is nearest to frame 18.
    assert S == 12
    assert attended.frames[-1] == 18
    assert attended.prediction == recognizer.predict(clips / "v_jump_g01_c01.mp4")


def test_attention_stands_where_the_model_put_it(looking_run, clips):
    """Location i of the model is row i // K, column i % K of the picture."""
    import torch

    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    with torch.no_grad():
        recognizer._model.location_scorer.weight.zero_()
        uniform = recognizer.attend(clips / "v_jump_g01_c01.mp4").attention
        np.testing.assert_allclose(uniform, 1 / 49, atol=1e-6)
        recognizer._model.location_scorer.register_forward_hook(
            lambda module, inputs, output: output + 50 * torch.eye(49)[7 * 1 + 5]
        )
        forced = recognizer.attend(clips / "v_jump_g01_c01.mp4").attention
    assert (forced[:, 1, 5] > 0.99).all()


def test_a_baseline_predicts_but_has_no_attention(looking_run, clips, tmp_path):
    store = Run(looking_run).manifest.store["path"]
    run = train(store, quick(model="avg-pool", fps=6.0, block_frames=5, epochs=1), runs_dir=tmp_path).run
    recognizer = Recognizer(run, device="cpu", jobs=1)
    assert sum(recognizer.predict(clips / "v_jump_g01_c01.mp4").probs.values()) == pytest.approx(1, abs=1e-6)
    with pytest.raises(RunError, match="avg-pool has no attention; name another run by --run"):
        recognizer.attend(clips / "v_jump_g01_c01.mp4")


def test_what_is_no_run_or_no_device_is_refused(tmp_path, looking_run):
    with pytest.raises(RunError, match="not a run"):
        load_run(tmp_path)
    with pytest.raises(ConfigError, match="--device tpu: unknown"):
        load_run(looking_run, device="tpu")
    half = create_run(tmp_path, Run(looking_run).manifest, {})
    with pytest.raises(RunError, match="was the run's training ended early"):
        load_run(half.path, device="cpu")
