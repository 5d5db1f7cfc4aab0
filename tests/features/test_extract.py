"""Extraction from clips to store: against an independent path, across interruptions and processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torchvision
from clips import write_actions
from PIL import Image

from attnrec.errors import ConfigError, FeatureStoreError, VideoError
from attnrec.features.extract import extract
from attnrec.features.extractor import BATCHES_KEPT
from attnrec.features.parts import JOBS_AHEAD
from attnrec.features.pipeline import BATCHES_AHEAD
from attnrec.features.plan import plan_extraction
from attnrec.features.store import FeatureStore
from attnrec.settings import ExtractConfig
from attnrec.video.encode import write_video
from attnrec.video.ffmpeg import ffmpeg_path


def config(weights: Path | str = "random", **changes) -> ExtractConfig:
    settings = {"fps": 5.0, "precision": "fp32", "device": "cpu", "jobs": 1} | changes
    return ExtractConfig(backbone="squeezenet1_0", weights=str(weights), **settings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Six clips of two classes and three groups."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    write_actions(folder, num_groups=3, num_frames=40, fps=20)
    for action in ("pushup", "walk"):
        shutil.rmtree(folder / action)
    return folder


@pytest.fixture(scope="module")
def store(videos, tmp_path_factory) -> Path:
    """Their features, with random weights."""
    out = tmp_path_factory.mktemp("store") / "out.h5"
    extract(videos, out, config())
    return out


def content(path: Path) -> dict:
    """All that a store holds, by name, with the attributes."""
    found = {}
    with h5py.File(path) as file:
        found["/"] = {name: str(value) for name, value in file.attrs.items()}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = (item[()].tobytes(), {key: str(value) for key, value in item.attrs.items()})

        file.visititems(visit)
    return found


def command(videos: Path, out: Path, *more: object) -> list[str]:
    network = ["--backbone", "squeezenet1_0", "--weights", "random", "--precision", "fp32", "--device", "cpu"]
    return ["-m", "attnrec", "extract", str(videos), str(out), *network, "--fps", "5", "--json", *map(str, more)]


# What the numbers are


@pytest.mark.parametrize("name", ["weizmann4/wave1/v_wave1_g01_c01.mp4", "clips/v_Basketball_g01_c01.avi"])
def test_features_equal_an_independent_path(real_data, squeezenet_weights, tmp_path, name):
    """ffmpeg to PNG pictures, Pillow's bicubic, torchvision's own forward in fp32."""
    clip = real_data / name
    extract(clip, tmp_path / "out.h5", config(squeezenet_weights, fps=None, grid_size=0))
    exact = ("-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic")
    subprocess.run([ffmpeg_path(), "-loglevel", "error", "-i", clip, *exact, tmp_path / "%03d.png"], check=True)
    network = torchvision.models.squeezenet1_0()
    network.load_state_dict(torch.load(squeezenet_weights, weights_only=True))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    features = torch.from_numpy(FeatureStore(tmp_path / "out.h5").features()).float()  # (N, 13, 13, 512)
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == len(features)
    for k in range(0, len(features), 7):
        picture = Image.open(pictures[k]).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            expected = network.eval().features(((image - mean) / std)[None])[0].permute(1, 2, 0)
        assert torch.nn.functional.cosine_similarity(features[k].flatten(), expected.flatten(), dim=0) > 0.995


def test_clips_that_share_batches_have_the_features_of_single_ones(videos, store, tmp_path):
    whole = FeatureStore(store)
    for video in (0, 3, 5):
        path = whole.path_of(video)
        extract(videos / path, tmp_path / f"{video}.h5", config())
        alone, first = FeatureStore(tmp_path / f"{video}.h5"), whole.videos.first_frame[video]
        np.testing.assert_array_equal(alone.features(), whole.features()[first : first + len(alone.features())])
        np.testing.assert_array_equal(alone.pts, whole.pts_of(video))


@pytest.mark.parametrize("jobs", [2, 5])
def test_the_number_of_jobs_does_not_matter(videos, store, tmp_path, jobs):
    threads = torch.get_num_threads()
    try:
        extract(videos, tmp_path / "out.h5", config(jobs=jobs))
    finally:
        torch.set_num_threads(threads)
    assert content(tmp_path / "out.h5") == content(store)


def test_two_ranks_of_torchrun_give_the_store_of_one_process(videos, store, tmp_path):
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run([*run, *command(videos, tmp_path / "out.h5")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out.h5") == content(store)
    report = json.loads(done.stdout)  # the first rank alone speaks
    assert (report["num_videos"], report["num_extracted"]) == (6, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_several_layers_in_one_pass(videos, store, tmp_path):
    layers = ("features", "features.7")
    report = extract(videos, tmp_path / "out.h5", config(layers=layers, grid_size=5))
    assert report.cubes == {"features": (5, 5, 512), "features.7": (5, 5, 256)}
    extract(videos, tmp_path / "alone.h5", config(layers=("features.7",), grid_size=5))
    both, alone = FeatureStore(tmp_path / "out.h5", "features.7"), FeatureStore(tmp_path / "alone.h5")
    np.testing.assert_array_equal(both.features(), alone.features())
    assert both.spec == alone.spec
    with pytest.raises(FeatureStoreError, match=r"other settings \(layers features, features\.7 -> features\)"):
        extract(videos, tmp_path / "out.h5", config(grid_size=5))


# What is there already


def test_precision_is_a_setting_of_the_features(videos, store):
    with pytest.raises(FeatureStoreError, match="precision fp32 -> bf16"):
        extract(videos, store, config(precision="bf16"))


def test_frames_that_were_resampled_otherwise_are_other_features(videos, store, tmp_path):
    out = Path(shutil.copy(store, tmp_path / "out.h5"))
    with h5py.File(out, "a") as file:
        file["features/features"].attrs["scaler"] = "bilinear"
    assert FeatureStore(out).spec != FeatureStore(store).spec
    with pytest.raises(FeatureStoreError, match=r"other settings \(scaler bilinear -> bicubic a=-0\.5, full chroma\)"):
        extract(videos, out, config())
    assert extract(videos, out, config(overwrite=True)).num_extracted == 6


def test_a_changed_video_is_extracted_again(videos, store, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out.h5"
    shutil.copytree(videos, folder)
    shutil.copy(store, out)
    shutil.copy(folder / "wave" / "v_wave_g01_c01.mp4", folder / "jump" / "v_jump_g02_c01.mp4")
    report = extract(folder, out, config())
    # Its content is known from another video, so that nothing has to be computed.
    assert (report.data.num_videos, report.num_extracted) == (6, 0)
    (folder / "jump" / "v_jump_g02_c01.mp4").write_bytes((folder / "wave" / "v_wave_g01_c01.mp4").read_bytes() + b"\0")
    assert extract(folder, out, config()).num_extracted == 1


def test_a_renamed_video_is_not_extracted_again(videos, store, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out.h5"
    shutil.copytree(videos, folder)
    shutil.copy(store, out)
    (folder / "jump" / "v_jump_g02_c01.mp4").rename(folder / "jump" / "v_jump_g09_c01.mp4")
    report = extract(folder, out, config())
    assert (report.data.num_videos, report.num_extracted) == (6, 0)
    assert "jump/v_jump_g09_c01.mp4" in [FeatureStore(out).path_of(i) for i in range(6)]


def killed_after(arguments: list[str], seconds: float) -> bool:
    """Whether the program was still running when it was killed."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_do_no_harm(videos, store, tmp_path, seed):
    out, parts = tmp_path / "out.h5", tmp_path / "out.h5.parts"
    arguments = command(videos, out, "--jobs", 1)
    rng = random.Random(seed)
    kills = 0
    while not out.exists() and kills < 20:
        before = set(parts.glob("[!.]*.part"))
        kills += killed_after(arguments, rng.uniform(2, 8))
        # No finished part is lost. Only the one video in flight, the one that waits for its batch, and those on their
        # way to the disk are redone.
        assert before <= set(parts.glob("[!.]*.part")) or out.exists()
        assert len(list(parts.glob(".*"))) <= 2 + 4
    extract(videos, out, config())
    assert content(out) == content(store)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


# Damage


@pytest.fixture
def spoilt(videos, tmp_path) -> Path:
    """The clips, one of them cut off, one with random bytes inside, one of them a text."""
    folder = tmp_path / "spoilt"
    shutil.copytree(videos, folder)
    subprocess.run(
        [ffmpeg_path(), "-loglevel", "error", "-i", videos / "jump" / "v_jump_g01_c01.mp4", "-c", "copy",
         folder / "jump" / "cut.mkv"], check=True,
    )  # fmt: skip
    data = (folder / "jump" / "cut.mkv").read_bytes()
    (folder / "jump" / "cut.mkv").write_bytes(data[: len(data) // 2])
    data = bytearray((folder / "wave" / "v_wave_g01_c01.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = random.Random(0).randbytes(2000)
    (folder / "wave" / "noisy.mp4").write_bytes(data)
    (folder / "wave" / "notes.mp4").write_text("no video\n" * 100)
    return folder


def test_damage_is_kept_and_told(spoilt, tmp_path):
    messages = []
    report = extract(spoilt, tmp_path / "out.h5", config(), on_progress=messages.append)
    assert report.data.num_videos == 8
    assert dict(report.damaged) == {"jump/cut.mkv": "truncated", "wave/noisy.mp4": "damaged"}
    assert report.skipped == [("wave/notes.mp4", "not-a-video")]
    assert any("notes.mp4: not-a-video" in (event.message or "") for event in messages)
    store = FeatureStore(tmp_path / "out.h5")
    status = {store.path_of(i): store.videos.status[i].decode() for i in range(8)}
    assert status.pop("jump/cut.mkv") == "truncated"
    assert status.pop("wave/noisy.mp4") == "damaged"
    assert set(status.values()) == {"ok"}
    assert store.skipped == [("wave/notes.mp4", "not-a-video")]


def test_strict_leaves_damage_out(spoilt, tmp_path):
    out = tmp_path / "out.h5"
    expected = [("jump/cut.mkv", "truncated"), ("wave/noisy.mp4", "damaged"), ("wave/notes.mp4", "not-a-video")]
    report = extract(spoilt, out, config(strict=True))
    assert (report.data.num_videos, report.skipped, report.damaged) == (6, expected, [])
    # Damage that an earlier store holds is left out as well, and comes back.
    assert extract(spoilt, out, config()).data.num_videos == 8
    report = extract(spoilt, out, config(strict=True, overwrite=True))
    assert (report.data.num_videos, report.num_extracted, report.skipped) == (6, 0, expected)


@pytest.mark.parametrize("name", ["jump/cut.mkv", "wave/noisy.mp4"])
def test_strict_can_fail(spoilt, tmp_path, name):
    folder = tmp_path / "one"
    (folder / "jump").mkdir(parents=True)
    shutil.copy(spoilt / name, folder / "jump")
    with pytest.raises(VideoError, match=r"(truncated|damaged): \d+ frames could be decoded"):
        extract(folder, tmp_path / "out.h5", config(strict=True, on_error="fail"))
    assert not (tmp_path / "out.h5").exists()


def test_a_variable_rate_is_told(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "even.mp4", iter(np.zeros((12, 32, 32, 3), np.uint8)), 6.0)
    timing = ("-vf", "setpts='if(lt(N,6),N,N*4)/(10*TB)'", "-fps_mode", "passthrough", "-enc_time_base", "1/100")
    subprocess.run(
        [ffmpeg_path(), "-loglevel", "error", "-i", tmp_path / "videos" / "even.mp4", *timing,
         tmp_path / "videos" / "uneven.mkv"], check=True,
    )  # fmt: skip
    report = extract(tmp_path / "videos", tmp_path / "out.h5", config(fps=1.0))
    store = FeatureStore(tmp_path / "out.h5")
    assert report.num_variable_rate == 1
    assert store.videos.is_variable_rate.tolist() == [0, 1]


# Plans and limits


def test_the_plan_comes_near_the_store(videos, store):
    plan = plan_extraction(videos, Path("new.h5"), config())
    stored = FeatureStore(store).num_frames
    assert stored * 0.8 < plan.estimated_frames < stored * 1.3
    assert plan.data.num_videos == len(FeatureStore(store).videos)
    assert plan.needed_bytes == 2 * plan.estimated_bytes
    assert plan.estimated_seconds > 0


def test_cubes_are_kept_until_they_are_written():
    assert BATCHES_KEPT >= JOBS_AHEAD + BATCHES_AHEAD + 2  # more calls of the writer than it may leave to be done


def test_layers_must_differ():
    with pytest.raises(ConfigError, match="layers must differ, got features, features"):
        config(layers=("features", "features"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """Ten minutes beside two seconds: 18 000 frames are decoded, and every frame is sent through the network."""
    peaks = []
    for seconds in (20, 600):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        source = f"testsrc=size=96x96:rate=5:duration={seconds}"
        subprocess.run([ffmpeg_path(), "-loglevel", "error", "-f", "lavfi", "-i", source, folder / "a.mp4"], check=True)
        process = subprocess.Popen(
            [sys.executable, *command(folder, tmp_path / f"{seconds}.h5")], stdout=subprocess.DEVNULL
        )
        _, process.returncode, usage = os.wait4(process.pid, 0)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss)
        time.sleep(0.1)
    assert peaks[1] < peaks[0] * 1.15
