"""Frames at times of their own. What both kinds of writing share is in `test_video`."""

import numpy as np
import pytest
from clips import decode, numbered
from PIL import Image

from attnrec.errors import ConfigError
from attnrec.video.decode import probe
from attnrec.video.encode import gif_frames, write_timed_video

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
