import math
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attnrec.data.decoder import DecodeLimits
from attnrec.data.encode import write_video
from attnrec.data.ffmpeg import ffmpeg_path, ffmpeg_version
from attnrec.data.video import REASONS, VIDEO_SUFFIXES, FrameReader, probe
from attnrec.errors import AttnrecError, VideoError

WIDTH, HEIGHT = 64, 48
LOSSLESS = ("-c:v", "libx264rgb", "-qp", "0")
RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data or b"", capture_output=True, check=True).stdout


def noise(num_frames: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(num_frames).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def numbered(num_frames: int) -> NDArray[np.uint8]:
    """Frames whose only grey level, 3 k, is their number."""
    assert num_frames <= 85
    return np.broadcast_to(np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 3, (num_frames, 16, 16, 3))


def quarters(top_left, top_right, bottom_left, bottom_right, height: int, width: int) -> NDArray[np.uint8]:
    frame = np.empty((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = top_left, top_right
    frame[height // 2 :, : width // 2], frame[height // 2 :, width // 2 :] = bottom_left, bottom_right
    return frame


def write(path: Path, frames: NDArray[np.uint8], *options: object, fps: object = 30, codec=LOSSLESS) -> Path:
    _, height, width, _ = frames.shape
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", fps, "-i", "pipe:0")
    ffmpeg(*source, *codec, *options, f"file:{path}", data=np.ascontiguousarray(frames).tobytes())
    return path


def write_timed(path: Path, milliseconds: list[int]) -> Path:
    """A clip of numbered frames at the given times."""
    table = "+".join(rf"eq(N\,{k})*{time}" for k, time in enumerate(milliseconds))
    timing = ("-vf", f"settb=1/1000,setpts={table}", "-fps_mode", "passthrough", "-enc_time_base", "1/1000", "-bf", "0")
    tracks = ("-video_track_timescale", "1000") if path.suffix == ".mp4" else ()
    return write(path, numbered(len(milliseconds)), *timing, *tracks)


def decode(path: Path, **options) -> tuple[NDArray[np.uint8], list[float], FrameReader]:
    reader = FrameReader(path, **({"width": WIDTH, "height": HEIGHT} | options))
    frames, times = zip(*reader, strict=True)
    return np.stack(frames), list(times), reader


def decode_numbers(path: Path, **options) -> tuple[list[int], list[float]]:
    frames, times, _ = decode(path, width=16, height=16, **options)
    assert (frames == frames[:, :1, :1, :1]).all()
    return (frames[:, 0, 0, 0] // 3).tolist(), times


def failure(path: Path, **options) -> VideoError:
    with pytest.raises(VideoError) as caught:
        decode(path, **options)
    assert caught.value.reason in REASONS
    assert str(caught.value).startswith(f"{path}: {caught.value.reason}: ")
    return caught.value


def probe_failure(path: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert caught.value.reason in REASONS
    return caught.value


def children() -> set[int]:
    """Processes, zombies among them, that this one has started."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(entry.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", noise(6))


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    before, threads = children(), threading.active_count()
    yield
    assert children() <= before
    assert threading.active_count() <= threads


# What comes out


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", LOSSLESS),
        ("a.mkv", ("-c:v", "ffv1", "-pix_fmt", "bgr0")),
        ("a.avi", ("-c:v", "rawvideo", "-pix_fmt", "bgr24")),
    ],
)
def test_frames_are_exactly_those_of_a_lossless_clip(tmp_path, name, codec):
    frames, _, reader = decode(write(tmp_path / name, noise(7), codec=codec))
    np.testing.assert_array_equal(frames, noise(7))
    assert reader.summary.status == "ok"
    assert reader.summary.num_decoded == 7


def test_a_lossy_clip_decodes_as_through_single_pictures(tmp_path, real_data):
    path = real_data / "clips" / "v_Basketball_g01_c01.avi"
    frames, _, _ = decode(path, width=320, height=240)
    ffmpeg("-i", path, "-frames:v", "5", "-sws_flags", "accurate_rnd+full_chroma_int+full_chroma_inp+bicubic",
           tmp_path / "%d.png")  # fmt: skip
    for k in range(5):
        picture = np.asarray(Image.open(tmp_path / f"{k + 1}.png"), int)
        assert np.abs(picture - frames[k]).max() <= 3


def test_scaling_is_bicubic(tmp_path):
    smooth = np.asarray(Image.fromarray(noise(1, 12, 16)[0]).resize((96, 72), Image.Resampling.BICUBIC))
    (frame,), _, _ = decode(write(tmp_path / "a.mkv", smooth[None]), width=48, height=48)
    expected = np.asarray(Image.fromarray(smooth).resize((48, 48), Image.Resampling.BICUBIC), int)
    assert np.abs(frame - expected).mean() < 0.5


@pytest.mark.parametrize("fps", ["30", "30000/1001", "25", "6", "120"])
def test_times_of_a_constant_rate_are_exact(tmp_path, fps):
    _, times, reader = decode(write(tmp_path / "a.mp4", noise(9), fps=fps))
    assert times == pytest.approx([float(k / Fraction(fps)) for k in range(9)], rel=0, abs=1e-9)
    assert reader.summary.effective_fps == pytest.approx(float(Fraction(fps)))
    assert reader.summary.declared_fps == pytest.approx(float(Fraction(fps)), abs=0.01)
    assert reader.summary.duration_seconds == pytest.approx(float(9 / Fraction(fps)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_a_variable_rate_are_exact_and_no_frame_is_repeated(tmp_path, suffix):
    milliseconds = [0, 11, 44, 45, 300, 1300, 1333, 1401]
    numbers, times = decode_numbers(write_timed(tmp_path / f"a{suffix}", milliseconds))
    assert numbers == list(range(8))
    assert times == pytest.approx([time / 1000 for time in milliseconds], rel=0, abs=1e-9)


def test_times_start_at_the_first_frame(tmp_path):
    numbers, times = decode_numbers(write_timed(tmp_path / "a.mkv", [5000, 5100, 5300]))
    assert numbers == [0, 1, 2]
    assert times == pytest.approx([0, 0.1, 0.3])


def test_a_single_frame_is_a_video(tmp_path):
    frames, times, reader = decode(write(tmp_path / "a.mp4", noise(1), fps=25))
    assert len(frames) == 1
    assert times == [0]
    assert reader.summary.effective_fps == 25
    assert reader.summary.duration_seconds == pytest.approx(1 / 25)


def thinned_literally(milliseconds: list[int], max_fps: Fraction) -> list[int]:
    """Each frame belongs to the nearest k / max_fps (the earlier of two as near); the nearest frame of each stays."""
    nearest: dict[int, list[tuple[Fraction, int]]] = {}
    for number, time in enumerate(milliseconds):
        position = Fraction(time, 1000) * max_fps
        k = min(range(math.floor(position), math.ceil(position) + 1), key=lambda k: (abs(position - k), k))
        nearest.setdefault(k, []).append((abs(position - k), number))
    return [min(frames)[1] for _, frames in sorted(nearest.items())]


@pytest.mark.parametrize(
    "milliseconds",
    [
        [k * 50 for k in range(20)],
        [0, 11, 44, 45, 300, 1300, 1333, 1401],
        [0, 9, 10, 90, 95, 110, 140, 160, 210, 260, 290, 311, 350, 420, 450, 490],
    ],
)
@pytest.mark.parametrize("max_fps", [1, 3, 6, 10, 12.5, 20, 1000])
def test_thinning_keeps_the_frame_nearest_to_each_sample_time(tmp_path, milliseconds, max_fps):
    numbers, times = decode_numbers(write_timed(tmp_path / "a.mkv", milliseconds), max_fps=max_fps)
    assert numbers == thinned_literally(milliseconds, Fraction(max_fps))
    assert times == pytest.approx([milliseconds[number] / 1000 for number in numbers])


@pytest.mark.parametrize(
    ("fps", "max_fps", "expected"),
    [
        ("60", 30, range(0, 60, 2)),
        ("30", 6, [*range(0, 60, 5), 59]),
        ("60000/1001", 30000 / 1001, range(0, 60, 2)),
        ("30", 30, range(60)),
        ("25", 30, range(60)),
        ("30000/1001", 30, range(60)),
        ("30", None, range(60)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_thinning_from_rate_to_rate(tmp_path, fps, max_fps, expected, suffix):
    # Matroska rounds times to milliseconds, which must not make frames come and go.
    numbers, _ = decode_numbers(write(tmp_path / f"a{suffix}", numbered(60), fps=fps), max_fps=max_fps)
    assert numbers == list(expected)


def test_thinning_leaves_the_summary_alone(tmp_path):
    path = write(tmp_path / "a.mp4", noise(30))
    whole, thin = decode(path)[2].summary, decode(path, max_fps=6)[2].summary
    assert whole == thin


def test_a_gap_of_hours_is_not_filled(tmp_path):
    hours = 2 * 3600 * 1000
    path = write_timed(tmp_path / "a.mkv", [0, 33, 66, hours, hours + 33])
    for max_fps in (None, 30):
        numbers, times = decode_numbers(path, max_fps=max_fps)
        assert numbers == [0, 1, 2, 3, 4]
        assert times[-1] == pytest.approx(hours / 1000 + 0.033)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ([k * 40 for k in range(12)], False),
        ([k * 40 + k % 2 for k in range(12)], False),
        ([0, 11, 44, 45, 300, 1300], True),
        ([*(k * 40 for k in range(12)), 2000], True),
        ([0, 40], False),
        ([0], False),
    ],
)
def test_a_variable_rate_is_noticed(tmp_path, milliseconds, expected):
    _, _, reader = decode(write_timed(tmp_path / "a.mkv", milliseconds))
    assert reader.summary.is_variable_rate is expected


def test_corners_and_colours_stay_where_they_are(tmp_path):
    picture = quarters(RED, GREEN, BLUE, (128, 128, 128), 48, 96)
    (frame,), _, _ = decode(write(tmp_path / "a.mp4", picture[None]), width=40, height=40)
    for (row, column), colour in {(5, 5): RED, (5, 35): GREEN, (35, 5): BLUE, (35, 35): (128, 128, 128)}.items():
        assert frame[row, column] == pytest.approx(colour, abs=2)


@pytest.mark.parametrize(
    ("degrees", "corners", "size"),
    [  # counter-clockwise
        (90, (GREEN, BLUE, RED, RED), (48, 96)),
        (180, (BLUE, RED, GREEN, RED), (96, 48)),
        (-90, (RED, RED, BLUE, GREEN), (48, 96)),
    ],
)
def test_rotation_is_applied(tmp_path, degrees, corners, size):
    stored = write(tmp_path / "stored.mp4", quarters(RED, GREEN, RED, BLUE, 48, 96)[None])
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", degrees, "-i", stored, "-c", "copy", path)
    (frame,), _, _ = decode(path, width=40, height=40)
    for (row, column), colour in zip([(5, 5), (5, 35), (35, 5), (35, 35)], corners, strict=True):
        assert frame[row, column] == pytest.approx(colour, abs=2)
    info = probe(path)
    assert (info.width, info.height) == size


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96)])
def test_crop_keeps_the_middle_and_stretch_keeps_all(tmp_path, width, height):
    bars = np.empty((96, 32, 3), np.uint8)
    bars[:32], bars[32:64], bars[64:] = RED, GREEN, BLUE
    bars = bars if height > width else bars.transpose(1, 0, 2)
    path = write(tmp_path / "a.mp4", bars[None])
    (cropped,), _, _ = decode(path, width=30, height=30, resize="crop")
    assert cropped[2:-2, 2:-2].reshape(-1, 3).max(axis=0) == pytest.approx(GREEN, abs=3)
    assert cropped[2:-2, 2:-2].reshape(-1, 3).min(axis=0) == pytest.approx(GREEN, abs=3)
    (stretched,), _, _ = decode(path, width=30, height=30)
    assert stretched[2, 2] == pytest.approx(RED, abs=3)
    assert stretched[15, 15] == pytest.approx(GREEN, abs=3)
    assert stretched[27, 27] == pytest.approx(BLUE, abs=3)


@pytest.mark.parametrize("size", [(33, 17), (16, 90), (90, 16), (224, 224), (1, 1)])
def test_crop_gives_the_asked_size_for_any_shape(tmp_path, size):
    for source in ((50, 34), (34, 50), (20, 90)):
        path = write(tmp_path / "a.mp4", noise(1, *source))
        frames, _, _ = decode(path, width=size[0], height=size[1], resize="crop")
        assert frames.shape == (1, size[1], size[0], 3)


def test_crop_counts_pixels_that_are_not_square(tmp_path):
    # 32 x 32 stored, shown as 64 x 32: the middle square is the middle half of the columns.
    stored = np.empty((1, 32, 32, 3), np.uint8)
    stored[:], stored[:, :, 8:24] = RED, GREEN
    path = write(tmp_path / "a.mp4", stored, "-vf", "setsar=2")
    (frame,), _, _ = decode(path, width=32, height=32, resize="crop")
    assert frame[:, 3:-3].reshape(-1, 3).min(axis=0) == pytest.approx(GREEN, abs=3)
    assert (probe(path).width, probe(path).height) == (64, 32)


def test_probe_reads_the_header(tmp_path):
    info = probe(write(tmp_path / "a.mp4", noise(50), fps=25))
    assert (info.width, info.height, info.fps, info.codec) == (WIDTH, HEIGHT, 25, "h264")
    assert info.duration_seconds == pytest.approx(2, abs=0.02)


def test_all_real_clips_decode(real_data):
    for path in sorted((real_data / "clips").iterdir()):
        if path.suffix not in VIDEO_SUFFIXES:
            continue
        info = probe(path)
        frames, times, reader = decode(path, width=8, height=8, max_fps=5)
        assert reader.summary.status == "ok"
        assert len(frames) == pytest.approx(5 * reader.summary.duration_seconds, abs=2)
        assert (np.diff(times) > 0).all()
        assert reader.summary.effective_fps == pytest.approx(info.fps, rel=0.04)


def test_reading_twice_gives_the_same(clip):
    reader = FrameReader(clip, width=20, height=20)
    first, second = [np.stack([frame for frame, _ in reader]) for _ in range(2)]
    np.testing.assert_array_equal(first, second)


# What is refused


def make_text(path: Path) -> None:
    path.write_text("not a video\n" * 100)


def make_audio(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", path)


def make_without_index(path: Path) -> None:
    """An MP4 whose index, at its end, was cut off."""
    write(path, noise(5))
    data = path.read_bytes()
    assert data.rindex(b"moov") > len(data) / 2
    path.write_bytes(data[: data.rindex(b"moov") - 8])


def make_cut_header(path: Path) -> None:
    whole = write(path.with_suffix(".mkv"), noise(3))
    path.write_bytes(whole.read_bytes()[:300])


def make_huge(path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=s=9000x4000:r=1", "-frames:v", 1, "-c:v", "mjpeg", "-f", "avi", path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.touch(), "empty-file"),
        # ffmpeg takes any bytes under this suffix for an MP4, and misses its index.
        (make_text, "not-a-video|truncated"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "not-a-video|truncated"),
        (lambda path: path.mkdir(), "not-a-file"),
        (os.mkfifo, "not-a-file"),
        (lambda path: None, "unreadable"),
        (lambda path: path.symlink_to("nowhere.mp4"), "unreadable"),
        (make_audio, "no-video-stream"),
        (make_without_index, "truncated"),
        (make_cut_header, "no-frames"),
        (make_huge, "too-large"),
    ],
    ids=["empty", "text", "bytes", "folder", "fifo", "missing", "dangling", "audio", "truncated", "header", "huge"],
)
def test_what_cannot_be_decoded_has_a_named_reason(tmp_path, make, reason):
    path = tmp_path / "clip.mp4"
    make(path)
    assert failure(path).reason in reason.split("|")


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".webm"])
def test_a_text_is_no_video(tmp_path, suffix):
    make_text(tmp_path / f"a{suffix}")
    assert failure(tmp_path / f"a{suffix}").reason == "not-a-video"


@pytest.mark.parametrize("make", [lambda path: path.touch(), make_text, lambda path: path.mkdir(), make_audio])
def test_probe_and_decoding_agree_on_the_reason(tmp_path, make):
    path = tmp_path / "clip.mp4"
    make(path)
    assert probe_failure(path).reason == failure(path).reason


def test_a_file_without_the_right_to_read_it(clip, tmp_path):
    path = tmp_path / "a.mp4"
    shutil.copy(clip, path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert failure(path).reason == "unreadable"


def test_a_path_below_a_file(clip):
    assert failure(clip / "a.mp4").reason == "unreadable"


DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" minBufferTime="PT1S"
  profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
  <Representation id="0" bandwidth="1000" width="64" height="48"><BaseURL>{name}</BaseURL></Representation>
  </AdaptationSet></Period></MPD>
"""
CONCAT = "ffconcat version 1.0\nfile {name}\n"
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
@pytest.mark.parametrize("text", [CONCAT, DASH, HLS], ids=["ffconcat", "dash", "hls"])
def test_a_text_that_names_another_video_is_not_followed(tmp_path, text, suffix):
    other = write(tmp_path / "other.ts", noise(3), codec=("-c:v", "mpeg2video"))
    shutil.copy(write(tmp_path / "other.mp4", noise(3), "-movflags", "frag_keyframe+empty_moov"), tmp_path / "o.mp4")
    path = tmp_path / f"clip{suffix}"
    path.write_text(text.format(name=other.name if text == HLS else "o.mp4"))
    for look in (failure, probe_failure):
        assert look(path).reason in ("not-a-video", "truncated")


@pytest.mark.parametrize("text", [CONCAT, DASH], ids=["ffconcat", "dash"])
def test_such_a_text_would_be_followed_without_the_guards(tmp_path, text):
    write(tmp_path / "o.mp4", noise(3), "-movflags", "frag_keyframe+empty_moov")
    path = tmp_path / "clip.mp4"
    path.write_text(text.format(name="o.mp4"))
    decoded = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    assert decoded.startswith(noise(3)[0].tobytes())


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.mp4",
        "a:b.mp4",
        "http:a.mp4",
        "-y.mp4",
        "two\nlines.mp4",
        "%03d.mp4",
        "*.mp4",
        "a|b.mp4",
        'it\'s "quoted" $HOME `x`.mp4',
        "épée 動画.mp4",
        os.fsdecode(b"caf\xe9.mp4"),
    ],
)
def test_any_file_name_will_do(clip, tmp_path, monkeypatch, name):
    shutil.copy(clip, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    frames, _, reader = decode(Path(name))
    np.testing.assert_array_equal(frames, noise(6))
    assert reader.summary.status == "ok"
    assert probe(Path(name)).width == WIDTH


# What is damaged


def test_damaged_bytes_in_the_middle_are_noticed(tmp_path):
    path = write(tmp_path / "a.mp4", noise(20), codec=("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    frames, _, reader = decode(path)
    assert reader.summary.status == "damaged"
    assert 1 <= len(frames) <= 20


@pytest.mark.parametrize(("name", "options"), [("a.mkv", ()), ("a.mp4", ("-movflags", "+faststart"))])
def test_half_a_file_is_truncated(tmp_path, name, options):
    path = write(tmp_path / name, noise(60), *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, _, reader = decode(path)
    assert reader.summary.status == "truncated"
    assert 20 < len(frames) < 40


def test_half_an_avi_gives_what_is_there(tmp_path):
    # The number of frames in an AVI is in its index, at its end: nothing says that some are missing.
    path = write(tmp_path / "a.avi", noise(60), codec=("-c:v", "mjpeg"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, _, _ = decode(path)
    assert 10 < len(frames) < 50


# What takes too much


def test_too_many_frames(clip):
    assert failure(clip, limits=DecodeLimits(frames=5)).reason == "too-large"
    assert len(decode(clip, limits=DecodeLimits(frames=6))[0]) == 6


def test_the_limit_counts_frames_before_thinning(clip):
    assert failure(clip, max_fps=1, limits=DecodeLimits(frames=5)).reason == "too-large"


@pytest.mark.parametrize("max_fps", [None, 10])
def test_leaving_early_ends_the_process(tmp_path, max_fps):
    path = write(tmp_path / "a.mp4", noise(60, 240, 320), codec=("-c:v", "libx264", "-preset", "ultrafast"))
    before = children()
    open_files = count_open_files()
    reader = FrameReader(path, width=320, height=240, max_fps=max_fps)
    for _ in reader:
        assert len(children() - before) == 1
        break
    assert children() == before
    assert count_open_files() == open_files
    assert reader.summary is None


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


STALLING = "subprocess.run(['sleep', '60'])"
DRIPPING = """
times = os.fdopen(int(re.search(r'pipe:(\\d+)', sys.argv[sys.argv.index('-stats_enc_pre') + 1])[1]), 'w')
for k in range(600):
    times.write(f'{k} 1/30\\n'); times.flush()
    sys.stdout.buffer.write(bytes(12)); sys.stdout.buffer.flush()
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("script", "limits", "message"),
    [
        (STALLING, DecodeLimits(stall_seconds=0.2), "no frame in 0.2 s"),
        (DRIPPING, DecodeLimits(decode_seconds=0.3), "not decoded in 0.3 s"),
    ],
)
def test_a_decode_that_takes_too_long_is_killed_with_its_children(clip, other_ffmpeg, script, limits, message):
    other_ffmpeg(script)
    error = failure(clip, width=2, height=2, limits=limits)
    assert error.reason == "timed-out"
    assert message in str(error)


def test_time_that_the_caller_takes_does_not_count(clip):
    limits = DecodeLimits(stall_seconds=0.6, decode_seconds=20)
    for k, _ in enumerate(FrameReader(clip, width=WIDTH, height=HEIGHT, limits=limits)):
        if k == 1:
            threading.Event().wait(1.3)
    assert k == 5


def test_failure_after_frames_is_noticed(clip, other_ffmpeg):
    other_ffmpeg(DRIPPING.replace("range(600)", "range(3)") + "sys.exit(1)")
    frames, times, reader = decode(clip, width=2, height=2)
    assert frames.shape == (3, 2, 2, 3)
    assert times == pytest.approx([0, 1 / 30, 2 / 30])
    assert reader.summary.status == "damaged"


@pytest.mark.parametrize("version", ["5.1.2", "n4.4"])
def test_an_old_ffmpeg_is_refused(other_ffmpeg, version):
    other_ffmpeg("", version)
    with pytest.raises(AttnrecError, match=f"{version} is too old; attnrec needs 6 or newer"):
        ffmpeg_path()


@pytest.mark.parametrize("version", ["6.0", "n9.0.2-17-g2a571b6068", "N-109542-g2a57", "2025-01-01-git-9d3a"])
def test_a_new_enough_ffmpeg_is_taken(other_ffmpeg, version):
    other_ffmpeg("", version)
    assert ffmpeg_path() == os.environ["IMAGEIO_FFMPEG_EXE"]


def test_an_ffmpeg_that_does_not_start(clip, other_ffmpeg, tmp_path, monkeypatch):
    other_ffmpeg("")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
    with pytest.raises(AttnrecError, match="point IMAGEIO_FFMPEG_EXE at a working one"):
        decode(clip)


# Writing


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


@pytest.mark.parametrize(
    "name",
    [
        "partial file.mp4",
        "clip [error].mp4",
        "a\n[error] b.mp4",
        "a\n[info]   Duration: 09:00:00.00.mp4",
        "Duration: 09:00:00.0.mp4",
        "Stream #0: Video: 5x7.mp4",
        "x 120 fps Stream #0: Video: .mp4",
        "rotation of 90 degrees.mp4",
    ],
)
def test_a_name_is_not_taken_for_a_message(clip, tmp_path, name):
    shutil.copy(clip, tmp_path / name)
    assert probe(tmp_path / name) == probe(clip)
    _, times, reader = decode(tmp_path / name)
    _, expected_times, expected = decode(clip)
    assert times == expected_times
    assert reader.summary == expected.summary


def test_a_title_is_not_taken_for_a_message(tmp_path):
    title = "Duration: 09:00:00.00 [error] partial file"
    path = write(tmp_path / "a.mp4", noise(6), "-metadata", f"title={title}", codec=("-c:v", "libx264"))
    assert probe(path).duration_seconds < 1
    assert decode(path)[2].summary.status == "ok"


def test_a_failed_encode_says_why(tmp_path):
    with pytest.raises(AttnrecError, match="not divisible by 2"):
        write_video(tmp_path / "odd.mp4", np.zeros((2, 31, 32, 3), np.uint8), 5)
    assert list(tmp_path.iterdir()) == []
