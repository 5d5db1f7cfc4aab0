"""Decoding ahead: every frame in its place, in bounded memory, and nothing left behind."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clips import HEIGHT, WIDTH, decode, noise, write
from numpy.typing import NDArray

from attnrec.errors import VideoError
from attnrec.video.decode import DecodeSummary, FrameReader
from attnrec.video.prefetch import DecodeAhead, FrameBatch

pytestmark = pytest.mark.usefixtures("nothing_left_running")

LENGTHS = (1, 40, 3, 8, 17, 9, 2, 30)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write(folder / f"{length}.mp4", noise(length)) for length in LENGTHS]


def readers_of(paths: list[Path]) -> list[FrameReader]:
    return [FrameReader(path, width=WIDTH, height=HEIGHT) for path in paths]


def memory(count: int, rows: int) -> list[NDArray[np.uint8]]:
    return [np.full((rows, HEIGHT, WIDTH, 3), 99, np.uint8) for _ in range(count)]


class Taken:
    """What has come of each video, checked as it comes."""

    def __init__(self, paths: list[Path]) -> None:
        self.frames: list[list[NDArray[np.uint8]]] = [[] for _ in paths]
        self.pts: list[list[float]] = [[] for _ in paths]
        self.outcomes: dict[int, DecodeSummary | VideoError] = {}
        self.counts: list[int] = []

    def take(self, batch: FrameBatch) -> None:
        row = 0
        for video, rows, pts in batch.pieces:
            assert video not in self.outcomes
            assert (rows.start, rows.stop) == (row, row + len(pts))
            row = rows.stop
            self.frames[video] += list(batch.frames[rows].copy())
            self.pts[video] += pts
        assert row == batch.num_frames <= len(batch.frames)
        self.outcomes |= dict(batch.ended)
        self.counts.append(batch.num_frames)


def take_all(paths: list[Path], *, rows: int = 8, count: int = 3, jobs: int = 3) -> Taken:
    taken = Taken(paths)
    with DecodeAhead(readers_of(paths), memory(count, rows), jobs=jobs) as batches:
        for batch in batches:
            taken.take(batch)
            batches.release(batch)
    return taken


@pytest.mark.parametrize("rows", [1, 5, 8, 32, 500])
@pytest.mark.parametrize("jobs", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 3])
def test_every_frame_comes_once_in_its_videos_order(videos, rows, jobs, count):
    taken = take_all(videos, rows=rows, count=count, jobs=jobs)
    for video, path in enumerate(videos):
        frames, times, reader = decode(path)
        np.testing.assert_array_equal(taken.frames[video], frames)
        assert taken.pts[video] == times
        assert taken.outcomes[video] == reader.summary
    assert set(taken.counts[:-1]) <= {rows}
    assert sum(taken.counts) == sum(LENGTHS)


def test_there_may_be_no_videos():
    assert take_all([]).counts == []


def test_videos_without_frames(tmp_path, videos):
    texts = [tmp_path / f"{k}.mp4" for k in range(5)]
    for path in texts:
        path.write_text("not a video\n" * 100)
    taken = take_all(texts)
    assert taken.counts == [0]
    assert {outcome.reason for outcome in taken.outcomes.values()} == {"not-a-video"}
    taken = take_all([texts[0], videos[1], texts[1], videos[2]], rows=4)
    assert [type(taken.outcomes[video]) for video in range(4)] == [VideoError, DecodeSummary] * 2
    assert [len(frames) for frames in taken.frames] == [0, 40, 0, 3]


def test_decoding_waits_for_memory(videos):
    """A consumer that keeps what it gets sees every batch whole, and no more batches than there is memory for."""
    decoding = DecodeAhead(readers_of(videos), memory(2, 16), jobs=4)
    taken, kept = Taken(videos), []
    with decoding as batches:
        for batch in batches:
            kept.append((batch, batch.frames.copy()))
            if len(kept) == 2:
                time.sleep(0.3)  # enough for the decoders to overwrite what they must not
                for held, frames in kept:
                    np.testing.assert_array_equal(held.frames, frames)
                    taken.take(held)
                    batches.release(held)
                kept.clear()
        for held, _ in kept:
            taken.take(held)
    assert [len(frames) for frames in taken.frames] == list(LENGTHS)


def test_an_error_of_one_video_leaves_the_others(videos, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    taken = take_all([videos[1], tmp_path / "text.mp4", tmp_path / "absent.mp4", videos[4]])
    assert [taken.outcomes[video].reason for video in (1, 2)] == ["not-a-video", "unreadable"]
    assert [len(frames) for frames in taken.frames] == [40, 0, 0, 17]


def test_another_error_comes_out(videos, monkeypatch):
    readers = readers_of(videos)
    monkeypatch.setattr(readers[3], "path", None)

    def take() -> None:
        with DecodeAhead(readers, memory(3, 8), jobs=2) as batches:
            for batch in batches:
                batches.release(batch)

    with pytest.raises(AttributeError):
        take()


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_leaving_early_stops_everything(videos, num_taken):
    """Also decoders that wait for memory, of which there is none as nothing is released."""

    def fail() -> None:
        with DecodeAhead(readers_of(videos), memory(3, 4), jobs=8) as batches:
            for _ in range(num_taken):
                next(iter(batches))
            time.sleep(0.1)
            raise RuntimeError("of the consumer")

    with pytest.raises(RuntimeError, match="of the consumer"):
        fail()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_leaving_does_not_wait_for_a_decoder_that_gives_nothing(clip, other_ffmpeg):
    other_ffmpeg("sys.stderr.write('[info] Stream mapping:\\n'); sys.stderr.flush(); time.sleep(60)")
    started = time.monotonic()
    with DecodeAhead(readers_of([clip] * 4), memory(3, 4), jobs=2):
        time.sleep(0.2)
    assert time.monotonic() - started < 5
