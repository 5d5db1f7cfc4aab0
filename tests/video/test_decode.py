import math
import os
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import HEIGHT, LOSSLESS, WIDTH, decode, ffmpeg, noise, numbered, write, write_timed
from numpy.typing import NDArray
from PIL import Image

from attnrec.errors import AttnrecError
from attnrec.video.decode import VIDEO_SUFFIXES, FrameReader, probe, seen_region
from attnrec.video.encode import stream_frame, stream_header
from attnrec.video.ffmpeg import ffmpeg_path, ffmpeg_version

pytestmark = pytest.mark.usefixtures("nothing_left_running")

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)


def quarters(top_left, top_right, bottom_left, bottom_right, height: int, width: int) -> NDArray[np.uint8]:
    frame = np.empty((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = top_left, top_right
    frame[height // 2 :, : width // 2], frame[height // 2 :, width // 2 :] = bottom_left, bottom_right
    return frame


def decode_numbers(path: Path, **options) -> tuple[list[int], list[float]]:
    frames, times, _ = decode(path, width=16, height=16, **options)
    assert (frames == frames[:, :1, :1, :1]).all()
    return (frames[:, 0, 0, 0] // 3).tolist(), times


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


B_FRAMES = {
    "xvid-1": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "1"),
    "xvid-2": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
    "h264": ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"),
    "h264-no-b": ("-c:v", "libx264", "-bf", "0", "-pix_fmt", "yuv420p"),
}


@pytest.mark.parametrize("fps", ["12", "25", "30000/1001", "60"])
@pytest.mark.parametrize("codec", B_FRAMES.values(), ids=B_FRAMES)
def test_frames_of_an_avi_come_at_its_declared_rate(tmp_path, codec, fps):
    path = write(tmp_path / "a.avi", numbered(40), fps=fps, codec=codec)
    frames, times, reader = decode(path, width=16, height=16)
    assert np.rint(frames[:, 8, 8, 0] / 3).tolist() == pytest.approx(range(40), abs=1)
    assert times == pytest.approx([float(k / Fraction(fps)) for k in range(40)], rel=0, abs=1e-9)
    assert reader.summary.duration_seconds == pytest.approx(float(40 / Fraction(fps)))
    assert reader.summary.status == "ok"
    assert not reader.summary.is_variable_rate


@pytest.mark.parametrize("codec", B_FRAMES.values(), ids=B_FRAMES)
def test_empty_slots_of_an_avi_take_their_time(tmp_path, codec):
    # Footage of 25 frames a second on a grid of 30: every sixth slot is empty.
    slots = [k for k in range(48) if k % 6 != 5]
    table = "+".join(rf"eq(N\,{k})*{slot}" for k, slot in enumerate(slots))
    timing = ("-vf", f"settb=1/30,setpts={table}", "-fps_mode", "passthrough", "-enc_time_base", "1/30")
    path = write(tmp_path / "a.avi", numbered(len(slots)), *timing, codec=codec)
    _, times, reader = decode(path)
    assert times == pytest.approx([slot / 30 for slot in slots], rel=0, abs=1e-9)
    assert reader.summary.effective_fps == pytest.approx(30)
    assert reader.summary.is_variable_rate


@pytest.mark.parametrize("name", ["a.m2v", "a.mpg", "a.ts"])
def test_streams_without_all_times_are_filled_in(tmp_path, name):
    path = write(tmp_path / name, numbered(30), fps="30000/1001", codec=("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"))
    _, times, _ = decode(path)
    assert times == pytest.approx([k * 1001 / 30000 for k in range(30)], rel=0, abs=2e-5)  # ticks of 1 / 90 000 s


def test_a_program_stream_that_begins_in_the_middle(tmp_path):
    whole = write(tmp_path / "whole.mpg", noise(60), fps=25, codec=("-c:v", "mpeg1video", "-q:v", "2", "-bf", "2"))
    cut = tmp_path / "cut.mpg"
    cut.write_bytes(whole.read_bytes()[2048 * (whole.stat().st_size // 2048 // 2) :])
    _, times, _ = decode(cut)
    assert len(times) > 10
    assert np.diff(times) == pytest.approx([0.04] * (len(times) - 1), abs=2e-5)


def write_ticks(path: Path, ticks: list[int]) -> Path:
    """A Matroska file of raw numbered frames at the given milliseconds, of which some may repeat or go back."""
    frames = numbered(len(ticks))
    stream = stream_header(16, 16, 0.001)
    for frame, tick in zip(frames, ticks, strict=True):
        stream += stream_frame(np.ascontiguousarray(frame), tick, 1)
    path.write_bytes(stream)
    return path


def test_a_time_that_repeats_moves_one_frame_and_is_no_damage(tmp_path):
    milliseconds = [*range(0, 400, 33), 3400, 3400, *range(3433, 3800, 33)]
    numbers, times = decode_numbers(write_ticks(tmp_path / "a.mkv", milliseconds))
    _, _, reader = decode(tmp_path / "a.mkv")
    assert numbers == list(range(len(milliseconds)))
    repeated = milliseconds.index(3400) + 1
    assert np.delete(times, repeated) == pytest.approx(np.delete(milliseconds, repeated) / 1000)
    assert 3.4 < times[repeated] < 3.4 + 0.033 / 2
    assert reader.summary.status == "ok"


@pytest.mark.parametrize("seed", range(16))
def test_random_clips_have_the_times_that_they_were_made_from(tmp_path, seed):
    """Container, codec, B-frames, rate, gaps and a pause are drawn; in Matroska files of raw frames repeats as well."""
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([10, 20, 25, 40, 50]))  # whole milliseconds, which all containers hold
    # No gap among the last frames: an AVI says when packets are decoded, and reordered ones are shown after the last.
    steps = np.where(rng.random(29) < 0.15, rng.integers(2, 5, 29), 1)
    steps[-4:] = 1
    slots = np.cumsum(np.concatenate([[0], steps]))
    suffix, *codec = [
        (".avi", "-c:v", "mpeg4", "-bf", "2"),
        (".avi", "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"),
        (".mp4", "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"),
        (".mkv", "-c:v", "mpeg4", "-bf", "1"),
    ][seed % 4]
    if suffix == ".mkv":
        slots[15:] += int(rng.integers(50, 400))
    repeated = int(rng.integers(1, 29)) if suffix == ".mkv" and seed % 8 == 3 else None
    if repeated:
        slots[repeated] = slots[repeated - 1]
        write_ticks(path := tmp_path / "a.mkv", (slots * (1000 // rate)).tolist())
    else:
        table = "+".join(rf"eq(N\,{k})*{slot}" for k, slot in enumerate(slots))
        timing = ("-vf", f"settb=1/{rate},setpts={table}", "-fps_mode", "passthrough", "-enc_time_base", f"1/{rate}")
        path = write(tmp_path / f"a{suffix}", numbered(30), *timing, codec=codec)
    _, times, reader = decode(path)
    kept = np.arange(30) != repeated
    assert np.array(times)[kept] == pytest.approx(slots[kept] / rate, rel=0, abs=1e-9)
    assert (np.diff(times) > 0).all()
    assert reader.summary.effective_fps == pytest.approx(rate, rel=0.02)
    assert reader.summary.status == "ok"


def test_a_first_time_that_repeats_makes_no_interval(tmp_path):
    _, times, reader = decode(write_ticks(tmp_path / "a.mkv", [0, 0, *range(5, 51, 5)]))
    assert len(times) == 12
    assert times[2:] == pytest.approx([k * 0.005 for k in range(1, 11)])
    assert reader.summary.duration_seconds == pytest.approx(0.055, abs=0.0005)


def test_the_rate_is_that_between_neighbours(tmp_path):
    milliseconds = [*range(0, 1000, 40), *range(10_000, 11_000, 40)]
    _, _, reader = decode(write_timed(tmp_path / "a.mkv", milliseconds))
    assert reader.summary.effective_fps == pytest.approx(25)
    assert 10.96 < reader.summary.duration_seconds <= 11


def test_the_last_frame_lasts_as_the_container_says(tmp_path):
    short = write(tmp_path / "short.mp4", numbered(26), "-bf", "0", fps=25)
    ffmpeg("-i", short, "-c", "copy", "-bsf:v", r"setts=duration=if(eq(N\,25)\,9/TB\,DURATION)", tmp_path / "a.mp4")
    _, times, reader = decode(tmp_path / "a.mp4")
    assert times[-1] == pytest.approx(1)
    assert reader.summary.duration_seconds == pytest.approx(10)
    assert reader.summary.status == "ok"


@pytest.mark.parametrize("last", [20, 60, 100, 1000])
def test_frames_of_a_gif_last_as_long_as_it_says(tmp_path, last):
    pictures = [Image.fromarray(frame) for frame in noise(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 100, 500, 20, last])
    _, times, reader = decode(tmp_path / "a.gif")
    assert times == pytest.approx([0, 0.1, 0.2, 0.7, 0.72])
    assert reader.summary.duration_seconds == pytest.approx(0.72 + last / 1000)


def test_sound_that_outlasts_the_picture_is_no_damage(tmp_path):
    silent = write(tmp_path / "silent.mp4", noise(50), fps=25)
    ffmpeg("-i", silent, "-f", "lavfi", "-i", "sine=duration=10", "-c:v", "copy", "-c:a", "aac", tmp_path / "a.mp4")
    _, _, reader = decode(tmp_path / "a.mp4")
    assert reader.summary.status == "ok"
    assert reader.summary.duration_seconds == pytest.approx(2)


@pytest.mark.parametrize("off", [8, -8, 1000])
def test_an_avi_whose_size_is_off_is_no_damage(tmp_path, off):
    path = write(tmp_path / "a.avi", noise(12), fps=10, codec=("-c:v", "mpeg4"))
    data = bytearray(path.read_bytes())
    data[4:8] = (int.from_bytes(data[4:8], "little") + off).to_bytes(4, "little")
    path.write_bytes(data)
    assert decode(path)[2].summary.status == "ok"


@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_an_avi_without_its_end_is_truncated(tmp_path, kept):
    path = write(tmp_path / "a.avi", noise(30), fps=10, codec=("-c:v", "mpeg4"))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert decode(path)[2].summary.status == "truncated"


def test_of_several_videos_the_default_one_is_taken(tmp_path):
    first, second = write(tmp_path / "1.mp4", noise(3)), write(tmp_path / "2.mp4", noise(7, 96, 32), fps=10)
    path = tmp_path / "a.mkv"
    ffmpeg("-i", first, "-i", second, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "0",
           "-disposition:v:1", "default", path)  # fmt: skip
    frames, _, reader = decode(path, width=32, height=96)
    np.testing.assert_array_equal(frames, noise(7, 96, 32))
    assert reader.summary.declared_fps == 10
    assert (probe(path).width, probe(path).height, probe(path).fps) == (32, 96, 10)


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


def test_a_rotation_within_the_stream_is_applied(tmp_path):
    stored = write(tmp_path / "stored.mp4", noise(3), codec=("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    path = tmp_path / "turned.mp4"
    ffmpeg("-i", stored, "-c", "copy", "-bsf:v", "h264_metadata=display_orientation=insert:rotate=90", path)
    assert (probe(path).width, probe(path).height) == (HEIGHT, WIDTH)


def test_cropping_within_the_stream_is_applied(tmp_path):
    stored = write(tmp_path / "stored.mp4", noise(3), codec=("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    path = tmp_path / "cropped.mp4"
    ffmpeg("-i", stored, "-c", "copy", "-bsf:v", "h264_metadata=crop_left=8:crop_right=16", path)
    assert (probe(path).width, probe(path).height) == (WIDTH - 24, HEIGHT)


def test_of_two_aspects_that_of_the_container_counts(tmp_path):
    stored = write(tmp_path / "stored.avi", noise(3, 128, 160), "-vf", "setsar=1", codec=("-c:v", "mpeg4"))
    path = tmp_path / "wide.avi"
    ffmpeg("-i", stored, "-c", "copy", "-aspect", "16:9", path)
    assert (probe(path).width, probe(path).height) == (228, 128)  # 128 * 16 / 9 = 227.6


def test_the_region_of_a_crop_is_the_one_that_is_seen(tmp_path):
    # Columns tell their place: stored 160 wide, shown 228; the middle 128 are columns .22 to .78.
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[None, :, None], (128, 160, 3))
    stored = write(tmp_path / "stored.avi", ramp[None], "-vf", "setsar=1", codec=("-c:v", "mpeg4", "-q:v", "1"))
    path = tmp_path / "wide.avi"
    ffmpeg("-i", stored, "-c", "copy", "-aspect", "16:9", path)
    (frame,), _, _ = decode(path, width=128, height=128, resize="crop")
    info = probe(path)
    x0, _, x1, _ = seen_region(info.width, info.height, "crop")
    assert (x0 / info.width, x1 / info.width) == pytest.approx((0.219, 0.781), abs=0.002)
    assert (frame[64, 1, 0] / 160, frame[64, -2, 0] / 160) == pytest.approx((0.22, 0.78), abs=0.02)


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


SUFFIX_FORMATS = {
    **dict.fromkeys((".3g2", ".3gp", ".f4v", ".m4v", ".mov", ".mp4", ".qt"), ("mov", "mpeg4")),
    **dict.fromkeys((".avi", ".divx"), ("avi", "mpeg4")),
    **dict.fromkeys((".asf", ".wmv"), ("asf", "wmv2")),
    **dict.fromkeys((".mpg", ".mpeg", ".mpe"), ("mpeg", "mpeg1video")),
    **dict.fromkeys((".m2t", ".m2ts", ".mts", ".ts"), ("mpegts", "mpeg2video")),
    **dict.fromkeys((".m1v", ".m2v"), ("mpeg2video", "mpeg2video")),
    **dict.fromkeys((".ogg", ".ogm", ".ogv"), ("ogg", "libtheora")),
    ".flv": ("flv", "flv"),
    ".gif": ("gif", "gif"),
    ".mkv": ("matroska", "mpeg4"),
    ".vob": ("vob", "mpeg2video"),
    ".webm": ("webm", "libvpx"),
}


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_files_of_every_suffix_decode(tmp_path, suffix):
    container, codec = SUFFIX_FORMATS[suffix]
    path = write(tmp_path / f"a{suffix}", noise(5), "-f", container, fps=25, codec=("-c:v", codec))
    frames, _, reader = decode(path)
    assert len(frames) == 5
    assert reader.summary.status == "ok"
    assert reader.summary.effective_fps == pytest.approx(25)


def test_reading_twice_gives_the_same(clip):
    reader = FrameReader(clip, width=20, height=20)
    first, second = [np.stack([frame for frame, _ in reader]) for _ in range(2)]
    np.testing.assert_array_equal(first, second)


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


# Size as shown, frames, time of the last one, end, status: from another decoder, the header, and arithmetic.
CASES = {
    "h264bf_60.avi": (160, 128, 120, 119 / 60, 2.0, "ok"),
    "h264bf_25.avi": (160, 128, 50, 49 / 25, 2.0, "ok"),
    "h264bf_12.avi": (160, 128, 24, 23 / 12, 2.0, "ok"),
    "xvid_bf1.avi": (160, 128, 30, 29 / 25, 1.2, "ok"),
    "xvid_bf2.avi": (160, 128, 30, 29 / 25, 1.2, "ok"),
    "m1cut.mpg": (160, 128, 30, 29 / 25, 1.2, "damaged"),
    "freeze.webm": (160, 128, 91, 5.904, 5.937, "ok"),
    "wb_dup0.webm": (160, 128, 12, 0.05, 0.055, "ok"),
    "pause.webm": (160, 128, 50, 10.96, 11.0, "ok"),
    "crop.webm": (96, 128, 5, 0.16, 0.2, "ok"),
    "clap.mp4": (96, 128, 10, 0.36, 0.4, "ok"),
    "sei90.mp4": (128, 160, 10, 0.36, 0.4, "ok"),
    "aspect.avi": (228, 128, 5, 0.16, 0.2, "ok"),
    "ramp169.avi": (228, 128, 4, 0.12, 0.16, "ok"),
    "audiolong.mp4": (160, 128, 50, 1.96, 2.0, "ok"),
    "hold.mp4": (160, 128, 26, 1.0, 10.0, "ok"),
    "riff.avi": (160, 128, 12, 1.1, 1.2, "ok"),
    "g_mixed.gif": (160, 128, 5, 0.72, 1.72, "ok"),
}


def applies_cropping() -> bool:
    """Whether this ffmpeg heeds cropping that the container asks for; older ones do not, in picture and size alike."""
    version = re.match(r"n?(\d+)\.(\d+)", ffmpeg_version(ffmpeg_path()))
    return version is None or (int(version[1]), int(version[2])) >= (7, 1)


@pytest.mark.parametrize("name", CASES)
def test_known_cases(real_data, name):
    width, height, num_frames, last, end, status = CASES[name]
    path = real_data / "cases" / name
    _, times, reader = decode(path)
    info = probe(path)
    assert len(times) == num_frames
    assert times[-1] == pytest.approx(last, abs=1e-4)
    assert reader.summary.duration_seconds == pytest.approx(end, abs=5e-4)
    assert reader.summary.status == status
    if applies_cropping() or name not in ("crop.webm", "clap.mp4"):
        assert (info.width, info.height) == (width, height)
