"""The ffmpeg program: where it is, the guards on what it may open, and what its messages mean."""

import functools
import math
import os
import re
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path

from attnrec.errors import AttnrecError

OLDEST_VERSION = 6

# A protocol list alone is not enough: a DASH or ffconcat text renamed .mp4 names further files to read.
_FORMATS = "asf,avi,flv,gif,m4v,matroska,mov,mp4,mpeg,mpegts,mpegvideo,ogg,webm"
_VIDEO_CODECS = (
    "av1,libdav1d,libaom-av1,h264,hevc,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,"
    "msmpeg4,wmv1,wmv2,wmv3,vc1,h261,h263,h263p,flv,vp6,vp6f,theora,mjpeg,gif,prores,dvvideo,ffv1,huffyuv,ffvhuff,"
    "rawvideo,svq1,svq3,cinepak,indeo3,indeo4,indeo5"
)
# Sound is not wanted, but looking for streams opens its decoders as well.
_AUDIO_CODECS = (
    "aac,aac_latm,ac3,eac3,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,flac,alac,dca,truehd,"
    "amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,wmav1,wmav2,wmapro,wmavoice,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,"
    "adpcm_swf,pcm_s8,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_f32le,pcm_alaw,pcm_mulaw,pcm_bluray"
)
_MAX_PIXELS = 8192 * 4320
_MAX_STREAMS = 100
# Stand between the properties of a stream of the input and of our output. A file cannot know them, and so cannot pass
# its tags off for a stream.
_MARK, _OUTPUT_MARK = (f"<{secrets.token_hex(8)}>" for _ in range(2))

INPUT_GUARDS = (
    *("-protocol_whitelist", "file,pipe"),
    *("-format_whitelist", _FORMATS),
    # Not `-codec_whitelist:v`: streams that come up only after the header, as in FLV, would escape it.
    *("-codec_whitelist", f"{_VIDEO_CODECS},{_AUDIO_CODECS}"),
    *("-max_pixels", str(_MAX_PIXELS)),
    *("-max_streams", str(_MAX_STREAMS)),
    *("-dump_separator", _MARK),
)
# Raw frames; where their times repeat this muxer complains and goes on, under a name that no decoder has.
RAW_OUTPUT = ("-c:v", "rawvideo", "-f", "image2pipe")
_OUR_MUXER = r"\[image2pipe @ "
# Decoded frames that go nowhere, described.
NO_OUTPUT = ("-map_metadata", "-1", "-dump_separator", _OUTPUT_MARK, "-f", "null")
# A line with the times of each packet of the streams that can outlast the video, nothing decoded.
PACKET_OUTPUT = ("-map", "0:a?", "-map", "0:s?", "-c", "copy", "-copyts", "-f", "framecrc")
END_OF_HEADER = b"[info] Stream mapping:"

_NO_VIDEO = "it holds no video, at most sound, subtitles or pictures"
_NOT_OPENED = "its format is not one that is opened"
_TOO_MANY_PIXELS = f"its frames have over {_MAX_PIXELS / 1e6:.0f} million pixels"
_ONLY_OPENED = "At least one output file"  # of a look at the header, which is given none
_TOO_MUCH_MEMORY = "decoding it takes more memory than is allowed"
# Why a video gave no frames: what ffmpeg's message holds, our name for it, and what to say where ffmpeg's own words
# would puzzle. The first match counts.
_FAILURES = (
    ("matches no streams", "no-video-stream", _NO_VIDEO),
    ("Format not on whitelist", "not-a-video", _NOT_OPENED),
    ("Format not in whitelist", "not-a-video", _NOT_OPENED),
    ("moov atom not found", "truncated", "its index is missing"),
    ("partial file", "truncated", None),
    ("File ended prematurely", "truncated", None),
    ("Failed to read extradata", "truncated", None),
    ("max_pixels", "too-large", _TOO_MANY_PIXELS),
    ("max_streams", "too-large", f"it has over {_MAX_STREAMS} streams"),
    ("Picture size", "too-large", _TOO_MANY_PIXELS),
    ("Cannot allocate memory", "too-large", _TOO_MUCH_MEMORY),
    ("Resource temporarily unavailable", "too-large", _TOO_MUCH_MEMORY),
    ("Permission denied", "unreadable", None),
    ("Invalid data found", "not-a-video", None),
    (_ONLY_OPENED, "no-frames", "its header gives no picture size"),
    ("", "no-frames", None),
)
_LOSS = "freeing incomplete packet"  # of ASF, where ffmpeg makes no more of it
# ffmpeg's threads write while its main one describes the output piece by piece: a message that falls between two pieces
# goes without its level, and what it parted goes on in a line without the indentation of a description.
_PARTED = re.compile(r"^\[info\] Output #0, .*?^\[info\] (?!  |frame=)", re.MULTILINE | re.DOTALL)
_PICTURES = re.compile(r"\((?:attached pic|timed thumbnails)\)")
_REFUSED_CODEC = re.compile(r"Codec \((\w+)\) not [io]n whitelist")
# How AVI, Matroska, Ogg, ASF, FLV, GIF and MPEG files begin.
_MAGIC = (
    *(b"RIFF", b"\x1aE\xdf\xa3", b"OggS", b"0&\xb2u\x8ef\xcf\x11"),
    *(b"FLV\x01", b"GIF8", b"\0\0\1\xba", b"\0\0\1\xb3"),
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


@functools.cache
def ffmpeg_path() -> str:
    """The ffmpeg of imageio-ffmpeg, or the one that `IMAGEIO_FFMPEG_EXE` names.

    Raises:
        AttnrecError: There is none, it does not start, or it is too old.
    """
    try:
        path = os.environ.get("IMAGEIO_FFMPEG_EXE") or _bundled()
        ffmpeg_version(path)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise AttnrecError(f"ffmpeg cannot be started: {error}; point IMAGEIO_FFMPEG_EXE at a working one") from None
    return path


def _bundled() -> str:
    import imageio_ffmpeg

    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


@functools.cache
def ffmpeg_version(path: str) -> str:
    """Version that the program at `path` reports.

    Raises:
        AttnrecError: Older than `OLDEST_VERSION`.
    """
    output = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.match(r"ffmpeg version (\S+)", output)
    version = found[1] if found else "unknown"
    major = re.match(r"n?(\d+)", version)
    # A build of the development branch carries a date or a hash in place of a number.
    if major and int(major[1]) < OLDEST_VERSION:
        raise AttnrecError(f"{path}: ffmpeg {version} is too old; attnrec needs {OLDEST_VERSION} or newer")
    return version


def input_arguments(path: Path) -> list[str]:
    """Arguments that open one local video and nothing that it may name."""
    # `file:` keeps a name with a colon from being taken for a protocol, and a leading dash for an option.
    return [*INPUT_GUARDS, "-i", "file:" + os.fspath(path)]


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would colour ffmpeg's messages or write them to a file."""
    return {name: value for name, value in environment.items() if name != "FFREPORT" and not name.startswith("AV_LOG_")}


def message_kind(line: bytes) -> str:
    """What a line of ffmpeg's messages is: `stream`, or by its looks `error`, `duration` or `other`."""
    if _MARK.encode() in line or _OUTPUT_MARK.encode() in line:
        return "stream"
    if any(level in line for level in (b"[error]", b"[fatal]", b"[panic]", _LOSS.encode())):
        return "error"
    return "duration" if b"  Duration: " in line else "other"


class Log:
    """Messages of one ffmpeg that ran with `-loglevel level+info` and `input_arguments`.

    Titles, languages and tags in a file may say anything, over several lines, and its name as well: what they say can
    make a file look worse, never better, and no stream is believed without our mark.

    Args:
        text: What it wrote to stderr.
        path: Its input.
    """

    def __init__(self, text: bytes, path: Path) -> None:
        self._text = text.replace(b"file:" + os.fsencode(path), b"INPUT").decode("utf-8", "replace")
        self._messages: list[str] = re.findall(
            rf"^(?!{_OUR_MUXER})(?:\[[^\]\n]+ @ 0x[0-9a-f]+\] )*"
            rf"(?:\[(?:error|fatal|panic)\] |\[info\] (?={_LOSS}))(.*)$",
            self._text,
            re.MULTILINE,
        )
        if _PARTED.search(self._text):
            self._messages.append("a message without its level")

    @property
    def errors(self) -> list[str]:
        """Messages of level error or worse, without their prefixes.

        That a codec is refused is no error by itself: it may be that of a stream that nobody wants, such as a cover.
        """
        return [message for message in self._messages if not _REFUSED_CODEC.search(message)]

    @property
    def says_anything(self) -> bool:
        """Whether there is any message of ffmpeg's own."""
        return bool(self._messages) or self.has_streams

    @property
    def refused_codec(self) -> str | None:
        """Codec of the video stream, where it is one that is not opened."""
        refused = {found[1] for message in self._messages if (found := _REFUSED_CODEC.search(message))}
        return self.codec if self.codec in refused else None

    @property
    def codec(self) -> str | None:
        """Name of the video stream's codec; None where it is not told."""
        stream = re.match(r"Video: (\w+)", self.video_stream or "")
        return stream[1] if stream else None

    @property
    def video_index(self) -> int:
        """Which of the video streams players take: the first that is flagged as the default, else the first."""
        flagged = (i for i, stream in enumerate(self._videos) if "(default)" in stream.rpartition(_MARK)[2])
        return next(flagged, 0)

    @property
    def video_stream(self) -> str | None:
        """How the video stream that players take is described; None without one. A cover picture is none."""
        return self._videos[self.video_index].replace(_MARK, ", ") if self._videos else None

    @property
    def has_streams(self) -> bool:
        """Whether the input has any stream."""
        return re.search(r"^\[info\]\s+Stream #0:", self._text, re.MULTILINE) is not None

    @property
    def displayed_size(self) -> tuple[int, int] | None:
        """Width and height in px of what was decoded, cropped and turned, with square pixels; None of nothing."""
        shape = rf"{_OUTPUT_MARK}.*?\b([1-9]\d*)x([1-9]\d*)\b(?: \[SAR (\d+):(\d+) )?"
        found = re.search(shape, self._text)
        if found is None:
            return None
        width, height, *aspect = (int(number or 1) for number in found.groups())
        return max(1, round(width * aspect[0] / max(1, aspect[1]))), height

    @property
    def duration_seconds(self) -> float:
        """Declared duration, the longest if several are; NaN where it is not known."""
        found = re.findall(r"^\[info\]\s+Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", self._text, re.MULTILINE)
        return max((int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in found), default=math.nan)

    @property
    def fps(self) -> float:
        """Declared frames per second; NaN where it is not known."""
        found = re.search(r"\b(\d+(?:\.\d+)?)(k?) fps", self.video_stream or "")
        return float(found[1]) * (1000 if found[2] else 1) if found else math.nan

    @property
    def cut_short(self) -> bool:
        """Whether ffmpeg noticed that the end of the file is missing."""
        return any("partial file" in error for error in self.errors)

    def failure(self, head: bytes) -> tuple[str, str]:
        """What kept it from decoding any frame: a reason of `REASONS`, and the cause in words.

        Args:
            head: The first bytes of the input.
        """
        if self.refused_codec:
            return "unsupported-codec", f"its codec {self.refused_codec} is not one that is decoded"
        errors = "\n".join(self.errors)
        if (self.has_streams or _ONLY_OPENED in errors) and not self.video_stream:
            return "no-video-stream", _NO_VIDEO
        reason, cause = next((reason, cause) for text, reason, cause in _FAILURES if text in errors)
        if "moov atom not found" in errors and head[4:8] not in _MP4_BOXES:
            # Any file named .mp4 that is none lacks the index as well.
            return "not-a-video", "it does not begin like a video"
        if reason in ("no-frames", "not-a-video") and cause is None:
            reason = "no-frames" if self.has_streams or head.startswith(_MAGIC) else "not-a-video"
        return reason, cause or (self.errors[0].strip() if self.errors else "no message")

    @functools.cached_property
    def _videos(self) -> list[str]:
        """Descriptions of the video streams, covers aside, as `-map 0:V:k` counts them."""
        # From the last `: Video: ` or `: Audio: ` before the mark: what comes earlier may be the stream's language.
        pattern = rf"(?<=: )Video: (?:(?!: [A-Z][a-z]+: ).)*?{_MARK}.*$"
        streams = re.findall(pattern, self._text, re.MULTILINE)
        return [stream for stream in streams if not _PICTURES.search(stream.rpartition(_MARK)[2])]
