"""Parts of a store: whole or not there, one writer at a time."""

import dataclasses
import json
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attnrec.errors import AttnrecError, FeatureStoreError
from attnrec.features.parts import (
    LOCK,
    FeatureSource,
    PartFile,
    PartsWriter,
    part_fingerprint,
    part_path,
    part_rows,
    part_times,
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


def rows(source: FeatureSource) -> np.ndarray:
    return np.concatenate([some.copy() for some in part_rows(source)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_part_says_where_its_features_are(tmp_path):
    source = read_part(write(tmp_path / "0.part"), FINGERPRINT, [SPEC])
    assert source[:4] == (tmp_path / "0.part", 0, 20, SUMMARY)
    np.testing.assert_array_equal(rows(source), cubes(20)[SPEC.layer].reshape(20, -1))
    np.testing.assert_array_equal(part_times(source), range(20))
    assert names(tmp_path) == {"0.part"}


def test_nothing_is_seen_of_a_part_before_it_is_whole(tmp_path):
    part = PartFile(tmp_path / "0.part", [SPEC])
    part.append(cubes(5), list(range(5)))
    assert not (tmp_path / "0.part").exists()
    part.abort()
    assert not names(tmp_path)


def test_only_the_part_with_the_fingerprint_counts(tmp_path):
    path = write(tmp_path / "0.part")
    assert read_part(path, part_fingerprint("1", [SPEC]), [SPEC]) is None
    assert read_part(tmp_path / "other.part", FINGERPRINT, [SPEC]) is None


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
    path = write(tmp_path / "0.part", 300)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert read_part(path, FINGERPRINT, [SPEC]) is None


def test_a_part_of_another_shape_does_not_count(tmp_path):
    path = write(tmp_path / "0.part")
    for other in ({"grid_size": 2}, {"feature_dim": 3}, {"feature_dim": 8}):
        assert read_part(path, FINGERPRINT, [dataclasses.replace(SPEC, **other)]) is None
    assert read_part(path, FINGERPRINT, [SPEC, SPEC]) is None


def rewrite(path: Path, record: bytes) -> None:
    """Put another record, with its length and checksum, in the place of a part's."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, len(data) - 16)
    path.write_bytes(data[: -16 - length] + record + struct.pack("<II8s", len(record), zlib.crc32(record), data[-8:]))


@pytest.mark.parametrize(
    "change",
    [
        {"num_frames": 19},
        {"num_frames": -20},
        {"num_frames": 10**4000},
        {"num_frames": "a" * 50_000},
        {"num_frames": None},
        {"num_frames": 20.5},
        {"summary": None},
        {"summary": {"status": "ok"}},
        {"summary": dataclasses.asdict(SUMMARY) | {"status": 5}},
        {"summary": dataclasses.asdict(SUMMARY) | {"more": 1}},
        {"summary": dataclasses.asdict(SUMMARY) | {"duration_seconds": [1.0]}},
        {"fingerprint": [FINGERPRINT]},
    ],
)
def test_a_record_with_a_wrong_value_makes_no_part(tmp_path, change):
    path = write(tmp_path / "0.part")
    plain = {"fingerprint": FINGERPRINT, "num_frames": 20, "crc": 0, "summary": dataclasses.asdict(SUMMARY)}
    rewrite(path, json.dumps(plain).encode())
    assert read_part(path, FINGERPRINT, [SPEC]).summary == SUMMARY
    rewrite(path, (text := json.dumps(plain | change)).encode())
    assert read_part(path, FINGERPRINT, [SPEC]) is None
    assert len(text) < 65536


@pytest.mark.parametrize(
    "record", [b"", b"[" * 60_000, b"\xff", b"7" * 5000, b"[]", b"{}", b"null", b'{"a": 1}' * 50_000]
)
def test_a_record_of_another_kind_makes_no_part(tmp_path, record):
    path = write(tmp_path / "0.part")
    rewrite(path, record)
    assert read_part(path, FINGERPRINT, [SPEC]) is None


def test_no_flipped_bit_passes(tmp_path):
    """Each is found, at the latest when the part is read, which removes it."""
    path = write(tmp_path / "0.part", 3)
    whole = path.read_bytes()
    for k in range(len(whole)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1 << k % 8]) + whole[k + 1 :])
        source = read_part(path, FINGERPRINT, [SPEC])
        if source is not None:
            with pytest.raises(FeatureStoreError, match=r"0\.part: was damaged and is removed; run `attnrec extract`"):
                rows(source)
            assert not path.exists()


@pytest.mark.parametrize("read", [rows, part_times])
def test_a_part_that_is_cut_or_gone_when_it_is_read(tmp_path, read):
    source = read_part(write(tmp_path / "0.part"), FINGERPRINT, [SPEC])
    os.truncate(source.path, 1000)
    with pytest.raises(FeatureStoreError, match=r"0\.part: was damaged and is removed"):
        read(source)
    assert not source.path.exists()
    with pytest.raises(FeatureStoreError, match=r"0\.part: cannot be read: No such file"):
        read(source)


def test_rows_of_several_layers_lie_side_by_side(tmp_path):
    other = dataclasses.replace(SPEC, layer="inception4e", grid_size=2, feature_dim=5)
    part = PartFile(tmp_path / "0.part", [SPEC, other])
    more = np.random.default_rng(1).normal(size=(20, 2, 2, 5)).astype(np.float16)
    for start in range(0, 20, 7):
        some = slice(start, start + 7)
        both = {SPEC.layer: cubes(20)[SPEC.layer][some], other.layer: more[some]}
        part.append(both, list(range(20))[some])
    part.commit(FINGERPRINT, SUMMARY)
    found = rows(read_part(tmp_path / "0.part", FINGERPRINT, [SPEC, other]))
    np.testing.assert_array_equal(found, np.hstack([cubes(20)[SPEC.layer].reshape(20, -1), more.reshape(20, -1)]))


def test_text_in_the_place_of_a_part(tmp_path):
    (tmp_path / "0.part").write_text("no part\n" * 100)
    assert read_part(tmp_path / "0.part", "0", [SPEC]) is None
    assert read_part(tmp_path, "0", [SPEC]) is None


def test_video_id_depends_on_the_path_alone():
    paths = ["run/plain.mp4", "run/two\nlines.avi", os.fsdecode(b"jump/caf\xe9.mkv"), "動画.mp4"]
    assert video_id(Path("a/b.mp4")) == video_id(Path("a") / "b.mp4")
    assert len({video_id(Path(path)) for path in paths}) == 4
    assert all(len(video_id(Path(path))) == 16 for path in paths)


# Writing several at once


def test_the_writer_keeps_videos_apart(tmp_path):
    one, two, three = (tmp_path / f"{video}.part" for video in range(3))
    with PartsWriter([SPEC]) as writer:
        for k in range(3):
            writer.append(one, cubes(4, k), [4.0 * k + i for i in range(4)])
            writer.append(two, cubes(2, 10 + k), [k, k + 0.5])
        writer.append(three, cubes(1), [0.0])
        writer.commit(one, FINGERPRINT, SUMMARY)
        writer.discard(three)
        writer.discard(tmp_path / "never-begun.part")
        writer.commit(two, FINGERPRINT, SUMMARY)
    assert names(tmp_path) == {"0.part", "1.part"}
    assert [read_part(path, FINGERPRINT, [SPEC]).num_frames for path in (one, two)] == [12, 6]


def test_many_parts_are_committed_in_bounded_numbers(tmp_path):
    """A slow disk must neither hold up what is appended nor take all file handles."""
    num_parts, opened = 300, []
    with PartsWriter([SPEC]) as writer:
        for k in range(num_parts):
            writer.append(tmp_path / f"{k}.part", cubes(3, k), [0.0, 0.1, 0.2])
            writer.commit(tmp_path / f"{k}.part", FINGERPRINT, SUMMARY)
            opened.append(len(list(tmp_path.glob(".*"))))
    assert max(opened) < 50
    for k in range(num_parts):
        source = read_part(tmp_path / f"{k}.part", FINGERPRINT, [SPEC])
        np.testing.assert_array_equal(rows(source), cubes(3, k)[SPEC.layer].reshape(3, -1))


def test_an_error_in_committing_comes_out(tmp_path):
    (tmp_path / "1.part").mkdir()

    def write_all() -> None:
        with PartsWriter([SPEC]) as writer:
            for k in range(3):
                writer.append(tmp_path / f"{k}.part", cubes(3), [0.0, 0.1, 0.2])
            for k in range(3):
                writer.commit(tmp_path / f"{k}.part", FINGERPRINT, SUMMARY)

    with pytest.raises(AttnrecError, match=r"1\.part: cannot be written: Is a directory"):
        write_all()
    assert "0.part" in names(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_leaving_the_writer_removes_what_is_not_finished(tmp_path):
    with PartsWriter([SPEC]) as writer:
        writer.append(tmp_path / "0.part", cubes(3), [0, 1, 2])
    assert not names(tmp_path)


def test_an_error_in_the_writer_comes_out(tmp_path):
    def fill() -> None:
        with PartsWriter([SPEC]) as writer:
            for k in range(1000):
                writer.append(tmp_path / "absent" / "0.part", cubes(3), [k, k + 0.1, k + 0.2])

    with pytest.raises(AttnrecError, match=r"0\.part: cannot be written"):
        fill()


def test_an_error_of_the_caller_comes_out_and_nothing_stays(tmp_path):
    def fail() -> None:
        with PartsWriter([SPEC]) as writer:
            writer.append(tmp_path / "0.part", cubes(3), [0, 1, 2])
            raise RuntimeError("of the decoder")

    with pytest.raises(RuntimeError, match="of the decoder"):
        fail()
    assert not names(tmp_path)
    assert not [thread for thread in threading.enumerate() if "-parts" in thread.name]


FULL_DISK = """
import sys
from pathlib import Path
from attnrec.features.parts import PartsWriter
from attnrec.errors import AttnrecError
from test_parts import SPEC, SUMMARY, cubes
path = Path(sys.argv[1], "0.part")
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
    """Whether it shows while features are written or when the part is finished."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, small_disk, str(num_batches)],
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0.part: cannot be written: the disk is full\n")
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
        with sole_writer(tmp_path / "other.part"):
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
