"""Fixtures of the tests that decode videos."""

import gc
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import children, noise, open_files, write

from attnrec.video.ffmpeg import ffmpeg_path, ffmpeg_version


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", noise(6))


@pytest.fixture
def nothing_left_running() -> Iterator[None]:
    """Check that no process, thread or open file outlives the test."""
    gc.collect()  # what an earlier test left to be closed is not this one's
    before, threads, opened = children(), threading.active_count(), open_files()
    yield
    assert children() <= before
    assert threading.active_count() <= threads
    assert not Counter(open_files()) - Counter(opened)  # an earlier test's may have been closed meanwhile


@pytest.fixture
def other_ffmpeg(tmp_path, monkeypatch) -> Iterator:
    """Put a Python script in the place of ffmpeg."""

    def install(script: str, version: str = "8.0") -> None:
        path = tmp_path / "ffmpeg"
        answer = f"if '-version' in sys.argv: sys.exit(print('ffmpeg version {version}'))"
        path.write_text(f"#!{sys.executable} -IS\nimport os, re, subprocess, sys, time\n{answer}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        ffmpeg_path.cache_clear()

    yield install
    monkeypatch.undo()
    ffmpeg_path.cache_clear()
    ffmpeg_version.cache_clear()
