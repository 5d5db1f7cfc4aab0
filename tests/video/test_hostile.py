"""Files that strangers may send: each ends in a named reason or status, soon, with nothing read, run or left."""

import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import (
    HEIGHT,
    WIDTH,
    children,
    decode,
    failure,
    ffmpeg,
    noise,
    open_files,
    outcome,
    probe_failure,
    write,
    write_timed,
)

from attnrec.video.decode import VIDEO_SUFFIXES, FrameReader, probe
from attnrec.video.ffmpeg import Log, ffmpeg_path
from attnrec.video.process import DecodeLimits, Decoder

pytestmark = pytest.mark.usefixtures("nothing_left_running")

X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
SOON = 10.0  # seconds, of which a machine with nothing else to do takes a tenth


@pytest.fixture(autouse=True)
def _in_good_time() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 3 * SOON


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> bytes:
    """An MP4 with its index in front, to be tampered with."""
    path = tmp_path_factory.mktemp("indexed") / "a.mp4"
    return write(path, noise(60), "-movflags", "+faststart", codec=X264).read_bytes()


def damage(path: Path, num_bytes: int) -> None:
    data = bytearray(path.read_bytes())
    start = (len(data) - num_bytes) // 2
    data[start : start + num_bytes] = np.random.default_rng(0).bytes(num_bytes)
    path.write_bytes(data)


def cut(path: Path, part: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    return path


def box(kind: bytes, *contents: bytes) -> bytes:
    """A part of an MP4."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def with_box(data: bytes, path: tuple[bytes, ...], new: bytes) -> bytes:
    """An MP4 with another box at the end of a path, the sizes and places that depend on it put right."""
    out, at, starts = bytearray(data), 0, []
    for kind in path:
        at = out.index(kind, at)
        starts.append(at - 4)
    old = int.from_bytes(out[starts[-1] : starts[-1] + 4], "big")
    out[starts[-1] : starts[-1] + old] = new
    for start in starts[:-1]:
        out[start : start + 4] = struct.pack(">I", int.from_bytes(out[start : start + 4], "big") + len(new) - old)
    chunks = out.index(b"stco") + 8
    for k in range(int.from_bytes(out[chunks : chunks + 4], "big")):
        entry = slice(chunks + 4 + 4 * k, chunks + 8 + 4 * k)
        out[entry] = struct.pack(">I", int.from_bytes(out[entry], "big") + len(new) - old)
    return bytes(out)


def with_field(data: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(kind) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


# What is no video


def make_text(path: Path) -> None:
    path.write_text("not a video\n" * 100)


def make_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(2).bytes(100_000))


def make_zeros(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def make_loop(path: Path) -> None:
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


def make_picture(codec: str) -> Callable[[Path], None]:
    return lambda path: write_as(path, "image2pipe", "-frames:v", 1, "-c:v", codec, source="testsrc=s=64x48")


def write_as(path: Path, muxer: str, *options: object, source: str) -> None:
    ffmpeg("-f", "lavfi", "-i", source, *options, "-f", muxer, path)


def make_sound(path: Path) -> None:
    write_as(path, "mp4", "-c:a", "aac", source="sine=duration=0.2")


def make_subtitles(path: Path) -> None:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    ffmpeg("-i", text, "-f", "matroska", path)


def make_cover_alone(path: Path) -> None:
    cover = path.with_suffix(".png")
    make_picture("png")(cover)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-i", cover, "-map", 0, "-map", 1, "-c:v", "copy",
           "-disposition:v:0", "attached_pic", "-f", "mp4", path)  # fmt: skip


def make_without_frames(path: Path) -> None:
    write_as(path, "mp4", "-frames:v", 0, "-c:v", "mpeg4", "-movflags", "empty_moov", source="testsrc=s=64x48")


def make_reference_movie(path: Path) -> None:
    address = b"file:///etc/hostname\0"
    reference = box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(address)), address)
    path.write_bytes(box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", box(b"rmra", box(b"rmda", reference))))


def make_nested_boxes(path: Path) -> None:
    nested = b""
    for _ in range(3000):
        nested = box(b"moov", nested)
    path.write_bytes(box(b"ftyp", b"isom\0\0\0\0isom") + nested)


def make_magicyuv(path: Path) -> None:
    write_as(path, "avi", "-t", 0.2, "-c:v", "magicyuv", source="testsrc=s=64x48")


def make_flashsv(path: Path) -> None:
    write_as(path, "flv", "-t", 0.2, "-c:v", "flashsv", source="testsrc=s=64x48")


def make_flic(path: Path) -> None:
    frame = struct.pack("<IHH8x", 16, 0xF1FA, 0)
    header = struct.pack("<IHHHHHHI", 128 + 5 * len(frame), 0xAF12, 5, 64, 48, 8, 3, 33)
    path.write_bytes(header.ljust(128, b"\0") + 5 * frame)


def make_15000_squared(muxer: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write_as(path, muxer, "-frames:v", 1, "-c:v", "mjpeg", source="testsrc=s=1504x1496")
        data = path.read_bytes()
        for size, huge in ((">HH", (15000, 15000)), ("<II", (15000, 15000))):
            for order in ((1504, 1496), (1496, 1504)):
                data = data.replace(struct.pack(size, *order), struct.pack(size, *huge))
        path.write_bytes(data)

    return make


def make_huge_gif(path: Path) -> None:
    size = struct.pack("<HH", 65535, 65535)
    path.write_bytes(b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + size + b"\0\2\2\x44\1\0;")


def make_inflating_index(path: Path) -> None:
    """A compressed index of 100 MB in 400 kB."""
    packed = zlib.compress(bytes(100_000_000), 1)
    index = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", 100_000_000), packed))
    path.write_bytes(box(b"ftyp", b"qt  \0\0\0\0qt  ") + box(b"moov", index))


def make_without_index(path: Path) -> None:
    """An MP4 whose index, at its end, was cut off."""
    data = write(path, noise(5)).read_bytes()
    assert data.rindex(b"moov") > len(data) / 2
    path.write_bytes(data[: data.rindex(b"moov") - 8])


def make_head(suffix: str, num_bytes: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(write(path.with_suffix(suffix), noise(3)).read_bytes()[:num_bytes])

    return make


def make_gap(path: Path) -> None:
    hours = 20 * 3600 * 1000
    write_timed(path.with_suffix(".mkv"), [0, 33, 66, hours, hours + 33]).rename(path)


WITHOUT_FRAMES = {
    "empty": (lambda path: path.touch(), "empty-file"),
    "text": (make_text, "not-a-video"),
    "random bytes": (make_bytes, "not-a-video"),
    "zeros": (make_zeros, "not-a-video"),
    "folder": (lambda path: path.mkdir(), "not-a-file"),
    "FIFO": (os.mkfifo, "not-a-file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not-a-file"),
    "missing": (lambda path: None, "unreadable"),
    "dangling link": (lambda path: path.symlink_to("nowhere.mp4"), "unreadable"),
    "loop of links": (make_loop, "unreadable"),
    "PNG": (make_picture("png"), "not-a-video"),
    "JPEG": (make_picture("mjpeg"), "not-a-video"),
    "FLIC": (make_flic, "not-a-video"),
    "nested boxes": (make_nested_boxes, "not-a-video"),
    "sound": (make_sound, "no-video-stream"),
    "subtitles": (make_subtitles, "no-video-stream"),
    "cover alone": (make_cover_alone, "no-video-stream"),
    "reference movie": (make_reference_movie, "no-video-stream"),
    "inflating index": (make_inflating_index, "no-video-stream"),
    "MagicYUV": (make_magicyuv, "unsupported-codec"),
    "Flash screen video": (make_flashsv, "unsupported-codec"),
    "15000 x 15000 AVI": (make_15000_squared("avi"), "too-large"),
    "15000 x 15000 MP4": (make_15000_squared("mp4"), "too-large"),
    "65535 x 65535 GIF": (make_huge_gif, "too-large"),
    "no index": (make_without_index, "truncated"),
    "head of an MKV": (make_head(".mkv", 300), "no-frames|truncated"),
    "head of an AVI": (make_head(".avi", 300), "truncated"),
}


@pytest.mark.parametrize(("make", "reason"), WITHOUT_FRAMES.values(), ids=WITHOUT_FRAMES)
def test_what_cannot_be_decoded_has_a_named_reason(tmp_path, make, reason):
    path = tmp_path / "clip.mp4"
    make(path)
    start = time.monotonic()
    error = failure(path)
    assert time.monotonic() - start < SOON
    assert error.reason in reason.split("|")
    assert probe_failure(path).reason == error.reason
    assert "whitelist" not in str(error)


def test_a_file_without_frames(tmp_path):
    make_without_frames(tmp_path / "a.mp4")
    assert failure(tmp_path / "a.mp4").reason == "no-frames"


def test_a_gap_of_20_hours_is_too_long(tmp_path):
    make_gap(tmp_path / "a.mp4")
    assert failure(tmp_path / "a.mp4").reason == "too-long"
    assert failure(tmp_path / "a.mp4", max_fps=30).reason == "too-long"


@pytest.mark.parametrize("make", [make_text, make_bytes, make_zeros])
@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_a_suffix_makes_no_video(tmp_path, make, suffix):
    make(tmp_path / f"a{suffix}")
    assert failure(tmp_path / f"a{suffix}").reason == "not-a-video"


def test_a_file_without_the_right_to_read_it(clip, tmp_path):
    path = tmp_path / "a.mp4"
    shutil.copy(clip, path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert failure(path).reason == "unreadable"


def test_a_path_that_cannot_be(clip):
    assert failure(clip / "a.mp4").reason == "unreadable"
    assert failure(Path("a\0.mp4")).reason == "unreadable"
    assert failure(Path("a" * 300)).reason == "unreadable"


@pytest.mark.parametrize("when", [0, 3])
def test_a_file_that_goes_away(tmp_path, when):
    path = write(tmp_path / "a.avi", noise(200), codec=("-c:v", "mjpeg"))
    for k, _ in enumerate(FrameReader(path, width=WIDTH, height=HEIGHT)):
        if k == when:
            path.unlink()
    assert k == 199


# What names other files

DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" minBufferTime="PT1S"
  profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
  <Representation id="0" bandwidth="1000" width="64" height="48"><BaseURL>{}</BaseURL></Representation>
  </AdaptationSet></Period></MPD>
"""
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
HLS_MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{}\n"
HLS_KEY = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:1,\nx.ts\n#EXT-X-ENDLIST\n'
WEBM_DASH = DASH.replace("video/mp4", "video/webm")
ASX = '<asx version="3.0"><entry><ref href="{}"/></entry></asx>'
ASF_REFERENCE = "[Reference]\nRef1={}\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\na=control:{}\nm=video 9 RTP/AVP 96\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="{}" width="9" height="9"/></svg>'
SMIL = '<smil><body><video src="{}"/></body></smil>'
IMF = '<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><Path>{}</Path></AssetMap>'
AVISYNTH = 'AviSource("{}")\n'
VAPOURSYNTH = "import vapoursynth\nopen({!r})\n"
VOBSUB = "# VobSub index file, v7 (do not modify this line!)\n# {}\nid: en, index: 0\n"
TEXTS = {
    ".ffconcat": CONCAT,
    ".mpd": DASH,
    "webm.mpd": WEBM_DASH,
    ".m3u8": HLS,
    "master.m3u8": HLS_MASTER,
    "key.m3u8": HLS_KEY,
    ".asx": ASX,
    ".asf": ASF_REFERENCE,
    ".sdp": SDP,
    ".svg": SVG,
    ".smil": SMIL,
    ".xml": IMF,
    ".avs": AVISYNTH,
    ".vpy": VAPOURSYNTH,
    ".idx": VOBSUB,
}
ADDRESSES = ("secret.ts", "{folder}/secret.ts", "file:{folder}/secret.ts", "concat:{folder}/secret.ts",
             "subfile,,start,0,end,9,,:{folder}/secret.ts", "crypto:{folder}/secret.ts")  # fmt: skip


@pytest.fixture
def secret(tmp_path) -> Path:
    """A FIFO that nobody writes to: who opens it to read waits for ever, and is seen by who tries to write."""
    path = tmp_path / "secret.ts"
    os.mkfifo(path)
    return path


def is_being_read(fifo: Path) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_that_names_another_file_is_not_followed(tmp_path, secret, text, address):
    path = tmp_path / ("a.mp4", "a.avi", "a.ts")[ADDRESSES.index(address) % 3]
    path.write_text(text.format(address.format(folder=tmp_path)))
    # Whoever opened the FIFO would stay there until the limit.
    assert failure(path, limits=DecodeLimits(stall_seconds=5)).reason == "not-a-video"


@pytest.mark.parametrize("name", TEXTS)
def test_nor_is_one_under_the_name_that_it_should_have(tmp_path, secret, name):
    path = tmp_path / name
    path.write_text(TEXTS[name].format(secret))
    assert failure(path, limits=DecodeLimits(stall_seconds=5)).reason == "not-a-video"


@pytest.mark.parametrize(
    ("text", "name"), [(CONCAT, "a.avi"), (DASH, "a.mp4"), (HLS, "a.m3u8")], ids=["ffconcat", "DASH", "HLS"]
)
def test_such_a_text_would_be_followed_without_the_guards(tmp_path, secret, text, name):
    path = tmp_path / name
    path.write_text(text.format(secret.name))
    assert is_followed_without_the_guards(path, secret)


def is_followed_without_the_guards(path: Path, secret: Path, *options: object) -> bool:
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "quiet", *options, "-i", path, "-f", "null", "-"]
    with subprocess.Popen([str(argument) for argument in command]) as process:
        try:
            while process.poll() is None and not (seen := is_being_read(secret)):
                time.sleep(0.01)
        finally:
            process.kill()
    return seen


def mac_alias(path: bytes) -> bytes:
    """A data reference as QuickTime writes it: a record of fixed length, then the path twice, under tags 2 and 18."""
    record = bytes(8) + struct.pack(">HHH", 150 + 2 * len(path), 2, 0) + b"\4disk".ljust(28, b"\0") + bytes(12)
    record += b"\x09secret.ts".ljust(64, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    padded = path + b"\0" * (len(path) % 2)
    return record + b"".join(struct.pack(">HH", tag, len(path)) + padded for tag in (2, 18)) + b"\xff\xff\0\0"


@pytest.mark.parametrize("kind", [b"alis", b"url "])
def test_a_mov_does_not_take_its_frames_from_another_file(tmp_path, secret, indexed, kind):
    address = os.fsencode(secret)
    content = mac_alias(address) if kind == b"alis" else bytes(4) + b"file://" + address + b"\0"
    path = tmp_path / "a.mov"
    path.write_bytes(with_box(indexed, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url "),
                              box(kind, content)))  # fmt: skip
    limits = DecodeLimits(stall_seconds=5)
    if kind == b"alis":
        assert failure(path, limits=limits).reason == "no-frames"
        assert is_followed_without_the_guards(path, secret, "-enable_drefs", 1)
    else:  # an address is not even looked at: the frames are those of the file itself
        assert len(decode(path, limits=limits)[0]) == 60


def test_nothing_else_is_opened(tmp_path, secret, indexed):
    if not (strace := shutil.which("strace")):
        pytest.skip("no strace")
    paths = []
    for k, text in enumerate(TEXTS.values()):
        paths.append(tmp_path / f"{k}.{('mp4', 'avi', 'ts')[k % 3]}")
        paths[-1].write_text(text.format(secret))
    paths.append(tmp_path / "a.mov")
    paths[-1].write_bytes(with_box(indexed, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url "),
                                   box(b"alis", mac_alias(os.fsencode(secret)))))  # fmt: skip
    script = """import sys; from pathlib import Path; from attnrec.video.decode import FrameReader
for name in sys.argv[1:]:
    try: sum(1 for _ in FrameReader(Path(name), width=8, height=8))
    except Exception as error: print(error)
"""
    trace = tmp_path / "trace"
    command = [strace, "-f", "-qq", "-e", "trace=open,openat,openat2,connect", "-o", trace, sys.executable, "-c",
               script, *paths]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    traced = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    if "ptrace" in traced.stderr or "PTRACE" in traced.stderr:
        pytest.skip("strace may not trace here")
    assert len(traced.stdout.splitlines()) == len(paths)
    calls = trace.read_text()
    assert all(f'"file:{path}"' in calls or f'"{path}"' in calls for path in paths)
    assert "secret.ts" not in calls
    assert not re.search(r"connect\(.*AF_INET", calls)


@pytest.mark.parametrize(
    "name",
    ["concat:clip.mp4|clip.mp4", "subfile,,start,0,end,99,,:clip.mp4", "crypto:clip.mp4", "file:clip.mp4", "pipe:0",
     "data:video,mp4;base64,AAAA", "-", "pipe:", "fd:0", "cache:clip.mp4", "async:clip.mp4", "%d.jpg", "clip%1d.mp4",
     "testsrc=s=64x48", "tcp:localhost", "unix:x"],
)  # fmt: skip
def test_a_name_is_a_name_and_no_protocol(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    assert failure(Path(name)).reason == "unreadable"
    (tmp_path / "1.jpg").write_bytes(b"")
    shutil.copy(clip, tmp_path / "clip1.mp4")
    make_text(tmp_path / name)
    assert failure(Path(name)).reason == "not-a-video"


# What is damaged


@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_message_that_parts_the_description_of_the_output_is_an_error(tmp_path, place):
    pieces = ["Output #0, rawvideo, to 'pipe:1':\n[info]   Metadata:\n[info]     encoder   : ", "Lavf63", ".1\n[info] "]
    pieces += ["  Stream #0:0", ": Video: rawvideo", ", 30 fps\n[info] frame=  10 fps=0.0\n"]
    assert Log(("[info] " + "".join(pieces)).encode(), tmp_path).errors == []
    pieces.insert(place, "Length 5 exceeds max length 4.\n[info] ")
    assert Log(("[info] " + "".join(pieces)).encode(), tmp_path).errors == ["a message without its level"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", X264),
        ("a.mkv", X264),
        ("a.mp4", ("-c:v", "libx265", "-x265-params", "log-level=none")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8)),
        ("a.mp4", ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", 8)),
        ("a.avi", ("-c:v", "mpeg4")),
        ("a.mpg", ("-c:v", "mpeg1video")),
        ("a.ts", ("-c:v", "mpeg2video")),
        ("a.wmv", ("-c:v", "wmv2")),
        ("a.flv", ("-c:v", "flv")),
        ("a.gif", ()),
    ],
)
def test_damaged_bytes_in_the_middle_are_noticed(tmp_path, name, codec):
    path = write(tmp_path / name, noise(20), codec=codec)
    assert decode(path)[2].summary.status == "ok"
    damage(path, 3000)
    frames, _, reader = decode(path)
    assert reader.summary.status in ("damaged", "truncated")
    assert 1 <= len(frames) <= 20


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", X264),
        ("a.mp4", X264),
        ("a.mp4", ("-c:v", "libx265", "-x265-params", "log-level=none")),
        ("a.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8)),
        ("a.mp4", ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", 8)),
        ("a.avi", ("-c:v", "mjpeg")),
        ("a.flv", ("-c:v", "flv")),
    ],
)
def test_half_a_file_is_truncated(tmp_path, name, codec):
    options = ("-movflags", "+faststart") if name == "a.mp4" else ()
    frames, _, reader = decode(cut(write(tmp_path / name, noise(60), *options, codec=codec), 0.5))
    assert reader.summary.status == "truncated"
    assert 10 < len(frames) < 50


def test_an_avi_that_does_not_know_its_size_is_not_truncated(tmp_path):
    path = write(tmp_path / "a.avi", noise(10), codec=("-c:v", "mjpeg"))
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff\xff\xff\xff" + data[8:])
    assert decode(path)[2].summary.status == "ok"


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", X264), (".mkv", ("-c:v", "libx265")), (".gif", ())])
@pytest.mark.parametrize("part", [0.02, 0.2, 0.9])
def test_any_part_of_a_file_ends_in_a_reason_or_a_status(tmp_path, suffix, codec, part):
    path = cut(write(tmp_path / f"a{suffix}", noise(20), codec=codec), part)
    assert outcome(path) in ("damaged", "no-frames", "truncated")


def test_a_cover_that_is_not_decoded_is_no_damage(clip, tmp_path):
    make_picture("png")(tmp_path / "cover.png")
    path = tmp_path / "a.mp4"
    ffmpeg("-i", clip, "-i", tmp_path / "cover.png", "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:1",
           "attached_pic", path)  # fmt: skip
    frames, _, reader = decode(path)
    assert reader.summary.status == "ok"
    np.testing.assert_array_equal(frames, noise(6))
    assert probe(path).codec == "h264"


@pytest.mark.parametrize("codec", ["pcm_dvd", "g722", "aac"])
def test_sound_and_subtitles_beside_it_are_no_damage(clip, tmp_path, codec):
    path, subtitles = tmp_path / "a.mkv", tmp_path / "a.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    muxed = ("-f", "lavfi", "-i", "sine=duration=0.2:sample_rate=48000", "-i", subtitles, "-map", 0, "-map", 1)
    ffmpeg("-i", clip, *muxed, "-map", 2, "-c:v", "copy", "-c:a", "g722" if codec == "pcm_dvd" else codec, path)
    assert decode(path)[2].summary.status == "ok"


# What its header claims


def test_an_absurd_duration_is_truncated(tmp_path):
    data = write(tmp_path / "a.mkv", noise(20)).read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    (tmp_path / "a.mkv").write_bytes(data[:at] + struct.pack(">d", 1e12) + data[at + 8 :])
    frames, _, reader = decode(tmp_path / "a.mkv")
    assert len(frames) == 20
    assert reader.summary.status == "truncated"
    assert probe(tmp_path / "a.mkv").duration_seconds == 1e9


@pytest.mark.parametrize(
    ("kind", "offset", "value"),
    [
        (b"stsz", 4, struct.pack(">II", 32, 2**31 - 1)),
        (b"stsz", 8, struct.pack(">I", 2**28)),
        (b"stsd", 8, struct.pack(">I", 2**31 - 1)),
    ],
)
def test_absurd_sizes_in_an_index(tmp_path, indexed, kind, offset, value):
    path = tmp_path / "a.mp4"
    path.write_bytes(with_field(indexed, kind, offset, value))
    assert outcome(path) in ("damaged", "no-frames", "not-a-video", "too-large", "truncated")


@pytest.mark.parametrize(
    ("scale", "rate", "expected"), [(2**31 - 1, 1, "too-long"), (1, 2**32 - 1, "damaged"), (0, 0, "ok")]
)
def test_absurd_rates(tmp_path, scale, rate, expected):
    path = write(tmp_path / "a.avi", noise(10), codec=("-c:v", "mjpeg"))
    path.write_bytes(with_field(path.read_bytes(), b"strh", 4 + 20, struct.pack("<II", scale, rate)))
    assert outcome(path) == expected


def test_thousands_of_streams(tmp_path, indexed):
    size = int.from_bytes(indexed[indexed.index(b"trak") - 4 :][:4], "big")
    track = indexed[indexed.index(b"trak") - 4 :][:size]
    path = tmp_path / "a.mp4"
    path.write_bytes(with_box(indexed, (b"moov", b"trak"), 3000 * track))
    assert failure(path).reason == probe_failure(path).reason == "too-large"


def test_an_edit_list_cannot_repeat_frames_without_end(tmp_path):
    path = tmp_path / "a.mp4"
    write_as(path, "mp4", "-t", 2, "-movflags", "+faststart", *X264, source="color=s=64x48")
    edits = struct.pack(">II", 0, 300) + struct.pack(">IiI", 2000, 0, 0x10000) * 300
    path.write_bytes(with_box(path.read_bytes(), (b"moov", b"trak", b"edts"), box(b"edts", box(b"elst", edits))))
    error = failure(path, width=8, height=8)
    assert (error.reason, "repeats its frames" in str(error)) == ("too-large", True)


@pytest.mark.parametrize("shape", [(16, 8192), (8192, 16)])
def test_cropping_a_strip_does_not_blow_it_up(tmp_path, shape):
    path = write(tmp_path / "a.avi", noise(2, *shape), codec=("-c:v", "mjpeg"))
    limits = DecodeLimits(memory_bytes=900 << 20)  # enlarged to the full, one frame would take half of that
    frames, _, reader = decode(path, width=224, height=224, resize="crop", limits=limits)
    assert len(frames) == 2
    assert reader.summary.status == "ok"


# What its messages say

FAKES = (
    "[info]   Duration: 00:00:00.01, start: 0.000000, bitrate: 1 kb/s",
    "[info]   Stream #0:0: Video: h264, yuv420p, 5x7, 120 fps",
    "[info]       Display Matrix: rotation of 90.00 degrees",
)


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


@pytest.mark.parametrize(
    ("title", "suffix"),
    [
        ("Duration: 09:00:00.00 [error] partial file", ".mp4"),
        ("\n".join(["x", "[error] partial file", *FAKES]), ".mkv"),
    ],
)
def test_a_title_is_not_taken_for_a_message(tmp_path, title, suffix):
    path = write(tmp_path / f"a{suffix}", noise(6), "-metadata", f"title={title}", codec=X264)
    assert probe(path) == probe(write(tmp_path / f"b{suffix}", noise(6), codec=X264))
    assert decode(path)[2].summary.status == "ok"


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_name_of_a_tag_cannot_pose_as_a_stream_or_hide_a_cut(tmp_path, fake, suffix):
    tag = f"x\n{fake}\ny"
    tags = ("-movflags", "+faststart+use_metadata_tags", "-metadata", f"{tag}=1", "-metadata:s:v", f"language={tag}")
    path = write(tmp_path / f"a{suffix}", noise(90), *tags, codec=X264)
    info = probe(path)
    assert (info.width, info.height, info.fps, info.codec) == (WIDTH, HEIGHT, 30, "h264")
    assert info.duration_seconds == pytest.approx(3, abs=0.1)
    assert decode(cut(path, 0.5))[2].summary.status == "truncated"


@pytest.mark.parametrize("fakes", [0, 30_000])
def test_long_tags_do_not_push_out_what_follows(tmp_path, fakes):
    path, tags = tmp_path / "a.mkv", tmp_path / "tags"
    lines = "\\\n".join(["[info]   Duration: 00:00:00.01"] * fakes)
    tags.write_text(f";FFMETADATA1\ntitle={'x' * 3_000_000}\ncomment={lines}\n")
    ffmpeg("-i", write(tmp_path / "b.mkv", noise(90), codec=X264), "-i", tags, "-map_metadata", 1, "-c", "copy", path)
    assert probe(path).width == WIDTH
    assert outcome(path) == ("damaged" if fakes else "ok")
    assert outcome(cut(path, 0.97)) == ("damaged" if fakes else "truncated")


def test_messages_take_bounded_memory(clip, other_ffmpeg, monkeypatch):
    other_ffmpeg("sys.stderr.write('[error] x\\n[info]   Duration: 00:00:01.00\\nx\\n' * 60_000); sys.exit(1)")
    with Decoder(clip, [], DecodeLimits()) as decoder:
        assert decoder.read_frame(3) == (b"", 0.0)
        _, log = decoder.finish()
    assert len(log.errors) < 100_000
    assert "more messages than are kept" in log.errors


@pytest.mark.parametrize("variable", ["AV_LOG_FORCE_COLOR", "AV_LOG_FORCE_256COLOR", "FFREPORT"])
def test_settings_of_the_shell_do_not_change_the_messages(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "file=report.log:level=48" if variable == "FFREPORT" else "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.mkv", noise(20), codec=X264)
    (tmp_path / "report.log").unlink(missing_ok=True)
    assert probe(path).width == WIDTH
    damage(path, 3000)
    assert decode(path)[2].summary.status == "damaged"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mkv"]


# What takes too much


def test_too_many_frames(clip):
    assert failure(clip, limits=DecodeLimits(frames=5)).reason == "too-large"
    assert len(decode(clip, limits=DecodeLimits(frames=6))[0]) == 6


def test_the_limit_counts_frames_before_thinning(clip):
    assert failure(clip, max_fps=1, limits=DecodeLimits(frames=5)).reason == "too-large"


def peak_of_child(path: Path, **options) -> tuple[int, int]:
    """Most address space in bytes and most threads of the ffmpeg that decodes a file, which it must do well."""
    before, space, threads = children(), 0, 0
    reader = FrameReader(path, width=224, height=224, **options)
    for k, _ in enumerate(reader):
        for child in children() - before if k % 16 == 2 else ():
            try:
                status = Path(f"/proc/{child}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if found := re.search(r"VmPeak:\s+(\d+) kB", status):
                space = max(space, int(found[1]) << 10)
                threads = max(threads, int(re.search(r"Threads:\s+(\d+)", status)[1]))
    assert reader.summary.status == "ok"
    return space, threads


def test_the_default_limit_leaves_room_for_any_size_that_is_decoded(tmp_path, real_data):
    fast = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    largest = tmp_path / "a.mp4"
    # More frames than the pipe holds, so that the process is there when it is looked at.
    write_as(largest, "mp4", "-frames:v", 12, *fast, source="color=s=8192x4320")
    for path in (real_data / "clips" / "drink_water_1080p.avi", largest):
        space, threads = peak_of_child(path)
        assert 0 < space < DecodeLimits.memory_bytes / 2
        assert threads <= 10  # however many cores there are


@pytest.mark.parametrize("megabytes", [40, 220])
def test_a_decode_that_needs_more_memory_than_it_may_has_a_named_reason(tmp_path, megabytes):
    path = tmp_path / "a.mp4"
    fast = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
    write_as(path, "mp4", "-frames:v", 6, *fast, source="color=s=8192x4320")
    limits = DecodeLimits(memory_bytes=megabytes << 20, stall_seconds=5)
    # On a busy machine the limit is there only when it has begun, and where no thread can be had it may just stand.
    assert outcome(path, limits=limits) in ("too-large", "decoder-crashed", "damaged", "truncated", "timed-out")


def test_a_limit_of_the_shell_that_is_lower_stays(clip):
    script = f"""import resource, sys; from pathlib import Path; from attnrec.video.decode import FrameReader
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
reader = FrameReader(Path({str(clip)!r}), width=8, height=8)
for _ in reader:
    (child,) = Path(f"/proc/self/task/{{__import__('os').getpid()}}/children").read_text().split()
    print(Path(f"/proc/{{child}}/limits").read_text())
    break
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    limits = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert re.search(rf"Max address space +{3 << 30} +{3 << 30}", limits.stdout)
    assert re.search(r"Max file size +0 +0", limits.stdout)
    assert re.search(r"Max core file size +0 +0", limits.stdout)


@pytest.mark.parametrize("max_fps", [None, 10])
def test_leaving_early_ends_the_process(tmp_path, max_fps):
    path = write(tmp_path / "a.mp4", noise(60, 240, 320), codec=("-c:v", "libx264", "-preset", "ultrafast"))
    before = children()
    opened = open_files()
    reader = FrameReader(path, width=320, height=240, max_fps=max_fps)
    for _ in reader:
        assert len(children() - before) == 1
        break
    assert children() == before
    assert open_files() == opened
    assert reader.summary is None


STALLING = "subprocess.run(['sleep', '60'])"
STALLING_AT_THE_END = "os.close(1); os.closerange(3, 99); time.sleep(60)"
DRIPPING = """
times = os.fdopen(int(re.search(r'pipe:(\\d+)', sys.argv[sys.argv.index('-stats_enc_pre') + 1])[1]), 'w')
for k in range(600):
    times.write(f'{k} 1/30 {k} 1/30\\n'); times.flush()
    sys.stdout.buffer.write(bytes(12)); sys.stdout.buffer.flush()
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("script", "limits", "message"),
    [
        (STALLING, DecodeLimits(stall_seconds=0.2), "no frame in 0.2 s"),
        (STALLING_AT_THE_END, DecodeLimits(stall_seconds=0.2), "no frame in 0.2 s"),
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


def test_an_ffmpeg_that_cannot_be_loaded_is_not_the_fault_of_the_file(clip, other_ffmpeg):
    other_ffmpeg("sys.exit('ffmpeg: error while loading shared libraries: libm.so.6: failed to map segment')")
    assert failure(clip).reason == probe_failure(clip).reason == "decoder-crashed"


def test_failure_after_frames_is_noticed(clip, other_ffmpeg):
    other_ffmpeg(DRIPPING.replace("range(600)", "range(3)") + "sys.exit(1)")
    frames, times, reader = decode(clip, width=2, height=2)
    assert frames.shape == (3, 2, 2, 3)
    assert times == pytest.approx([0, 1 / 30, 2 / 30])
    assert reader.summary.status == "damaged"
