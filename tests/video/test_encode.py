import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import HEIGHT, WIDTH, decode, numbered
from numpy.typing import NDArray
from PIL import Image

from attnrec.errors import AttnrecError, ConfigError
from attnrec.video.decode import probe
from attnrec.video.encode import gif_frames, write_timed_video, write_video

pytestmark = pytest.mark.usefixtures("nothing_left_running")

UNEVEN = [0.0, 0.07, 0.094, 0.3, 0.355, 1.0]


def delays(path) -> list[int]:
    """How long each frame of a GIF stays, in centiseconds."""
    with Image.open(path) as picture:
        found = []
        for index in range(picture.n_frames):
            picture.seek(index)
            found.append(round(picture.info["duration"] / 10))
        return found


@pytest.mark.parametrize("start", [0.0, 3.21])
def test_a_gif_keeps_uneven_times_to_the_nearest_centisecond(tmp_path, start):
    path = tmp_path / "a.gif"
    write_timed_video(path, numbered(6), np.array(UNEVEN) + start, start + 1.17, overwrite=False)
    assert delays(path) == [7, 2, 21, 6, 64, 17]


@pytest.mark.parametrize("start", [0.0, 3.21])
def test_an_mp4_keeps_uneven_times_and_its_length(tmp_path, start):
    path = tmp_path / "a.mp4"
    write_timed_video(path, numbered(6), np.array(UNEVEN) + start, start + 1.17, overwrite=False)
    frames, times, _ = decode(path, width=16, height=16)
    np.testing.assert_allclose(times, UNEVEN, atol=2 / 90000)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - 3 * np.arange(6)).max() < 2
    assert probe(path).duration_seconds == pytest.approx(1.17, abs=0.006)


@pytest.mark.parametrize("fps", [59.94, 60, 75, 120])
def test_a_gif_has_at_most_50_frames_a_second_and_their_own_times(tmp_path, fps):
    path, times = tmp_path / "a.gif", np.arange(60) / fps
    write_timed_video(path, numbered(60), times, 60 / fps, overwrite=False)
    shown = delays(path)
    assert min(shown) >= 2
    assert sum(shown) == round(6000 / fps)
    frames, _, _ = decode(path, width=16, height=16)
    begins = np.cumsum([0, *shown[:-1]]) / 100
    grey = frames.mean(axis=(1, 2, 3)) / 3  # the number of the frame
    np.testing.assert_allclose(times[np.rint(grey).astype(int)], begins, atol=0.006)


def test_frames_of_a_gif_are_those_that_stay_long_enough():
    assert gif_frames(np.array([0, 1, 2, 3, 10, 11, 12, 30])).tolist() == [0, 2, 4, 6]
    assert gif_frames(np.array([0, 2, 4, 5])).tolist() == [0, 1]
    assert gif_frames(np.array([0, 1])).tolist() == [0]


def test_a_pause_that_no_gif_can_hold(tmp_path):
    with pytest.raises(ConfigError, match=r"a GIF cannot hold a pause of over 655 s; write an \.mp4"):
        write_timed_video(tmp_path / "a.gif", numbered(2), [0.0, 700.0], 700.1, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    write_timed_video(tmp_path / "a.mp4", numbered(2), [0.0, 700.0], 700.1, overwrite=False)
    assert decode(tmp_path / "a.mp4", width=16, height=16)[1] == pytest.approx([0, 700])


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_frames_that_break_off_leave_nothing(tmp_path, suffix):
    def broken():
        yield from numbered(2)
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        write_timed_video(tmp_path / f"a{suffix}", broken(), [0.0, 1.0, 2.0], 3.0, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def moving_square(num_frames: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    frames = np.full((num_frames, height, width, 3), (30, 60, 120), np.uint8)
    for k in range(num_frames):
        frames[k, 8:24, 2 * k : 2 * k + 16] = (230, 180, 40)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".MP4"])
@pytest.mark.parametrize(("num_frames", "fps"), [(12, 6), (1, 10), (10, 30), (9, 12.5)])
def test_a_written_video_decodes_back(tmp_path, suffix, num_frames, fps):
    path = tmp_path / f"a{suffix}"
    written = moving_square(num_frames)
    write_video(path, written, fps)
    frames, times, reader = decode(path)
    assert len(frames) == num_frames
    assert np.abs(frames.astype(int) - written).mean() < 6
    assert reader.summary.status == "ok"
    assert times == pytest.approx([k / fps for k in range(num_frames)], abs=0.0051)
    assert (probe(path).width, probe(path).height) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("fps", [6, 7, 12, 15, 24, 30])
def test_the_whole_duration_of_a_gif_is_kept(tmp_path, fps):
    path = tmp_path / "a.gif"
    write_video(path, moving_square(20), fps)
    with Image.open(path) as picture:
        assert picture.n_frames == 20
        assert picture.info.get("loop") == 0
        milliseconds = 0
        for k in range(20):
            picture.seek(k)
            assert abs(picture.info["duration"] - 1000 / fps) <= 10
            milliseconds += picture.info["duration"]
    assert milliseconds == pytest.approx(20_000 / fps, abs=10)


def test_still_frames_of_a_gif_are_kept(tmp_path):
    path = tmp_path / "a.gif"
    write_video(path, np.repeat(moving_square(1), 12, axis=0), 6)
    assert len(decode(path)[0]) == 12


def test_mp4_suits_players(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, iter(moving_square(5)), 10)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_frames_with_gaps_in_memory_are_written_right(tmp_path):
    whole = moving_square(4, 96, 128)
    write_video(tmp_path / "a.mp4", whole[:, ::2, ::2], 10)
    frames, _, _ = decode(tmp_path / "a.mp4")
    assert np.abs(frames.astype(int) - whole[:, ::2, ::2]).mean() < 6


@pytest.mark.parametrize("name", ["a.avi", "a", "a.webm", "mp4"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"cannot encode '.*', only \.mp4 and \.gif"):
        write_video(tmp_path / name, moving_square(2), 10)
    assert not list(tmp_path.iterdir())


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no frames to encode"):
        write_video(tmp_path / "a.mp4", [], 10)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"kept")
    with pytest.raises(AttnrecError, match=r"a\.gif exists; use --force"):
        write_video(path, moving_square(2), 10, overwrite=False)
    assert path.read_bytes() == b"kept"
    write_video(path, moving_square(2), 10)
    assert len(decode(path)[0]) == 2


def frames_then(error: Exception) -> Iterator[NDArray[np.uint8]]:
    yield from moving_square(3)
    raise error


def test_a_failed_encode_leaves_nothing(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(AttnrecError, match=r"a\.mp4: ffmpeg could not write it: "):
        write_video(path, moving_square(3, height=47), 10)
    with pytest.raises(RuntimeError, match="of the caller"):
        write_video(path, frames_then(RuntimeError("of the caller")), 10)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AttnrecError, match=r"a\.mp4: cannot be written"):
        write_video(tmp_path / "file" / "a.mp4", moving_square(2), 10)


def test_a_failed_encode_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"kept")
    with pytest.raises(RuntimeError, match="of the caller"):
        write_video(path, frames_then(RuntimeError("of the caller")), 10)
    assert path.read_bytes() == b"kept"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["-y.gif", "a:b.mp4", "%d.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_any_output_name_will_do(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), moving_square(2), 10)
    assert len(decode(Path(name))[0]) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_failed_encode_says_why(tmp_path):
    with pytest.raises(AttnrecError, match="not divisible by 2"):
        write_video(tmp_path / "odd.mp4", np.zeros((2, 31, 32, 3), np.uint8), 5)
    assert list(tmp_path.iterdir()) == []
