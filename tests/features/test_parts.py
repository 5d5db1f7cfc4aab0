"""Parts of a store: whole or not there, one writer at a time."""

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from attnrec.errors import AttnrecError, FeatureStoreError
from attnrec.features.parts import (
    LOCK,
    PartFile,
    PartsWriter,
    part_fingerprint,
    part_path,
    parts_dir,
    read_part,
    sole_writer,
    video_id,
)
from attnrec.specs import FeatureSpec
from attnrec.video.decode import DecodeSummary

SPEC = FeatureSpec("googlenet", "inception5b", "random-0", "ab" * 32, 3, 4, 224, "crop", 29.97, "fp32")
SUMMARY = DecodeSummary("truncated", 600, 10.0, 60.0, 60.0, True)
FINGERPRINT = part_fingerprint("0", [SPEC])


def cubes(num_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    shape = (num_frames, *SPEC.cube_shape)
    return {SPEC.layer: np.random.default_rng(seed).normal(size=shape).astype(np.float16)}


def write(path: Path, num_frames: int = 20, fingerprint: str = FINGERPRINT) -> Path:
    part = PartFile(path, [SPEC])
    part.append(cubes(num_frames), list(range(num_frames)))
    part.commit(fingerprint, SUMMARY)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_part_says_where_its_features_are(tmp_path):
    assert read_part(write(tmp_path / "0.h5"), FINGERPRINT) == (tmp_path / "0.h5", 0, 20, SUMMARY)
    assert names(tmp_path) == {"0.h5"}


def test_nothing_is_seen_of_a_part_before_it_is_whole(tmp_path):
    part = PartFile(tmp_path / "0.h5", [SPEC])
    part.append(cubes(5), list(range(5)))
    assert not (tmp_path / "0.h5").exists()
    part.abort()
    assert not names(tmp_path)


def test_only_the_part_with_the_fingerprint_counts(tmp_path):
    path = write(tmp_path / "0.h5")
    assert read_part(path, part_fingerprint("1", [SPEC])) is None
    assert read_part(tmp_path / "other.h5", FINGERPRINT) is None


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet50"},
        {"layer": "inception5a"},
        {"weights_sha256": "cd" * 32},
        {"grid_size": 7},
        {"image_size": 256},
        {"resize": "stretch"},
        {"sample_fps": 30.0},
        {"sample_fps": None},
        {"precision": "bf16"},
        {"scaler": "bilinear"},
    ],
)
def test_every_setting_is_in_the_fingerprint(change):
    changed = dataclasses.replace(SPEC, **change)
    prints = [part_fingerprint("0", specs) for specs in ([SPEC], [changed], [SPEC, changed], [changed, SPEC])]
    assert len({*prints, part_fingerprint("1", [SPEC])}) == 5


def test_the_name_of_the_weights_is_not():
    assert part_fingerprint("0", [dataclasses.replace(SPEC, weights_id="other")]) == FINGERPRINT


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_part_does_not_count(tmp_path, share):
    path = write(tmp_path / "0.h5", 300)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert read_part(path, FINGERPRINT) is None


def test_a_part_that_points_at_another_file_does_not_count(tmp_path):
    path, other = write(tmp_path / "0.h5"), write(tmp_path / "1.h5")
    with h5py.File(path, "a") as file:
        del file["frames/pts"]
        file["frames/pts"] = h5py.ExternalLink(str(other), "frames/pts")
    assert read_part(path, FINGERPRINT) is None


def test_text_in_the_place_of_a_part(tmp_path):
    (tmp_path / "0.h5").write_text("not HDF5\n")
    assert read_part(tmp_path / "0.h5", "0") is None
    assert read_part(tmp_path, "0") is None


def test_video_id_depends_on_the_path_alone():
    paths = ["run/plain.mp4", "run/two\nlines.avi", os.fsdecode(b"jump/caf\xe9.mkv"), "動画.mp4"]
    assert video_id(Path("a/b.mp4")) == video_id(Path("a") / "b.mp4")
    assert len({video_id(Path(path)) for path in paths}) == 4
    assert all(len(video_id(Path(path))) == 16 for path in paths)


# Writing several at once


def test_the_writer_keeps_videos_apart(tmp_path):
    one, two, three = (tmp_path / f"{video}.h5" for video in range(3))
    with PartsWriter([SPEC]) as writer:
        for k in range(3):
            writer.append(one, cubes(4, k), [4.0 * k + i for i in range(4)])
            writer.append(two, cubes(2, 10 + k), [k, k + 0.5])
        writer.append(three, cubes(1), [0.0])
        writer.commit(one, FINGERPRINT, SUMMARY)
        writer.discard(three)
        writer.discard(tmp_path / "never-begun.h5")
        writer.commit(two, FINGERPRINT, SUMMARY)
    assert names(tmp_path) == {"0.h5", "1.h5"}
    assert [read_part(path, FINGERPRINT).num_frames for path in (one, two)] == [12, 6]


def test_leaving_the_writer_removes_what_is_not_finished(tmp_path):
    with PartsWriter([SPEC]) as writer:
        writer.append(tmp_path / "0.h5", cubes(3), [0, 1, 2])
    assert not names(tmp_path)


def test_an_error_in_the_writer_comes_out(tmp_path):
    def fill() -> None:
        with PartsWriter([SPEC]) as writer:
            for k in range(1000):
                writer.append(tmp_path / "absent" / "0.h5", cubes(3), [k, k + 0.1, k + 0.2])

    with pytest.raises(AttnrecError, match=r"0\.h5: cannot be written"):
        fill()


def test_an_error_of_the_caller_comes_out_and_nothing_stays(tmp_path):
    def fail() -> None:
        with PartsWriter([SPEC]) as writer:
            writer.append(tmp_path / "0.h5", cubes(3), [0, 1, 2])
            raise RuntimeError("of the decoder")

    with pytest.raises(RuntimeError, match="of the decoder"):
        fail()
    assert not names(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "write-parts"]


FULL_DISK = """
import sys
from pathlib import Path
from attnrec.features.parts import PartsWriter
from attnrec.errors import AttnrecError
from test_parts import SPEC, SUMMARY, cubes
path = Path(sys.argv[1], "0.h5")
try:
    with PartsWriter([SPEC]) as writer:
        for k in range(int(sys.argv[2])):
            writer.append(path, cubes(32), [k + i / 32 for i in range(32)])
        writer.commit(path, "0", SUMMARY)
except AttnrecError as error:
    print(error)
"""


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system that holds 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("num_batches", [160, 1000])
def test_a_full_disk_is_one_error_and_leaves_nothing(small_disk, num_batches):
    """Whether it shows while features are written or when the file is closed; h5py must not crash at the end."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, small_disk, str(num_batches)],
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0.h5: cannot be written: the disk is full\n")
    assert not names(small_disk)


# One writer


def test_a_second_writer_is_refused(tmp_path):
    out = tmp_path / "out.h5"
    with sole_writer(out):
        with (
            pytest.raises(FeatureStoreError, match=r"out\.h5: another `attnrec extract` is writing it"),
            sole_writer(out),
        ):
            pass
        with sole_writer(tmp_path / "other.h5"):
            pass
        assert names(tmp_path) == {"out.h5.parts"}
    assert not names(tmp_path)


def test_the_folder_stays_while_parts_are_in_it(tmp_path):
    out = tmp_path / "out.h5"
    with sole_writer(out):
        write(part_path(out, Path("a.mp4")))
    with sole_writer(out):
        assert part_path(out, Path("a.mp4")).exists()


def test_unfinished_parts_of_an_earlier_process_are_removed(tmp_path):
    out = tmp_path / "out.h5"
    parts_dir(out).mkdir()
    PartFile(part_path(out, Path("a.mp4")), [SPEC])
    with sole_writer(out):
        assert names(parts_dir(out)) == {LOCK}


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    out = tmp_path / "out.h5"
    script = (
        "import sys, time; from pathlib import Path; from attnrec.features.parts import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(FeatureStoreError, match="another `attnrec extract`"), sole_writer(out):
            pass
        process.kill()
    with sole_writer(out):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnrecError, match=r"out\.h5: cannot be written"), sole_writer(tmp_path / "file" / "out.h5"):
        pass
