"""The ffmpeg program: where it is, the guards on what it may open, and what its messages mean."""

import functools
import math
import os
import re
import subprocess
from pathlib import Path

from attnrec.errors import AttnrecError

OLDEST_VERSION = 6

# A protocol list alone is not enough: a DASH or ffconcat text renamed .mp4 names further files to read.
_FORMATS = "asf,avi,flv,gif,m4v,matroska,mov,mp4,mpeg,mpegts,mpegvideo,ogg,webm"
_CODECS = (
    "av1,libdav1d,libaom-av1,h264,hevc,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,"
    "msmpeg4,wmv1,wmv2,wmv3,vc1,h261,h263,h263p,flv,vp6,vp6f,theora,mjpeg,gif,prores,dvvideo,ffv1,huffyuv,ffvhuff,"
    "rawvideo,svq1,svq3,cinepak,indeo3,indeo4,indeo5"
)
_MAX_PIXELS = 8192 * 4320

INPUT_GUARDS = (
    *("-protocol_whitelist", "file,pipe"),
    *("-format_whitelist", _FORMATS),
    *("-codec_whitelist:v", _CODECS),
    *("-max_pixels", str(_MAX_PIXELS)),
)

# Why a video gave no frames: what ffmpeg's message holds, and our name for it. The first match counts.
_FAILURES = (
    ("matches no streams", "no-video-stream"),
    ("not in whitelist", "not-a-video"),
    ("not on whitelist", "not-a-video"),
    ("moov atom not found", "truncated"),
    ("max_pixels", "too-large"),
    ("Picture size", "too-large"),
    ("Cannot allocate memory", "too-large"),
    ("Permission denied", "unreadable"),
    ("Invalid data found", "not-a-video"),
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


@functools.cache
def ffmpeg_path() -> str:
    """The ffmpeg of imageio-ffmpeg, or the one that `IMAGEIO_FFMPEG_EXE` names.

    Raises:
        AttnrecError: There is none, it does not start, or it is too old.
    """
    import imageio_ffmpeg

    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
        ffmpeg_version(path)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise AttnrecError(f"ffmpeg cannot be started: {error}; point IMAGEIO_FFMPEG_EXE at a working one") from None
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


class Log:
    """Messages of one ffmpeg that ran with `-loglevel level+info`.

    Only what ffmpeg says itself is looked at: the input's name is taken out, and patterns hold to the start of a line,
    as titles and names in a file may say anything.

    Args:
        text: What it wrote to stderr.
        path: Its input.
    """

    def __init__(self, text: bytes, path: Path) -> None:
        self._text = text.replace(b"file:" + os.fsencode(path), b"INPUT").decode("utf-8", "replace")

    @property
    def errors(self) -> list[str]:
        """Messages of level error or worse, without their prefixes."""
        return re.findall(r"^(?:\[[^\]\n]+ @ 0x[0-9a-f]+\] )*\[(?:error|fatal|panic)\] (.*)$", self._text, re.MULTILINE)

    @property
    def first_error(self) -> str:
        """The first of the errors, which is the cause of the others."""
        return self.errors[0].strip() if self.errors else "no message"

    @property
    def video_stream(self) -> str | None:
        """How the first video stream is described; None without one."""
        found = self._search(r"Stream #0:\d+\S* ?(?:\S+ )?(Video: .*)$")
        return found[1] if found else None

    @property
    def has_streams(self) -> bool:
        """Whether the input has any stream."""
        return self._search(r"Stream #0:") is not None

    @property
    def rotation_degrees(self) -> float:
        """Rotation that a display matrix asks for; 0 without one."""
        found = self._search(r"[Dd]isplay ?[Mm]atrix: rotation of (-?[\d.]+) degrees")
        return float(found[1]) if found else 0.0

    @property
    def duration_seconds(self) -> float:
        """Declared duration; NaN where it is not known."""
        found = self._search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else math.nan

    @property
    def fps(self) -> float:
        """Declared frames per second; NaN where it is not known."""
        found = re.search(r"\b(\d+(?:\.\d+)?)(k?) fps", self.video_stream or "")
        return float(found[1]) * (1000 if found[2] else 1) if found else math.nan

    @property
    def cut_short(self) -> bool:
        """Whether ffmpeg noticed that the end of the file is missing."""
        return any("partial file" in error for error in self.errors)

    def failure_reason(self, head: bytes) -> str:
        """Name of what kept it from decoding any frame.

        Args:
            head: The first bytes of the input.
        """
        if self.cut_short:
            return "truncated"
        errors = "\n".join(self.errors)
        reason = next((reason for text, reason in _FAILURES if text in errors), "no-frames")
        if reason == "truncated" and head[4:8] not in _MP4_BOXES:
            return "not-a-video"  # any file named .mp4 that is none lacks the index as well
        return "no-frames" if reason == "not-a-video" and self.video_stream else reason

    def _search(self, pattern: str) -> re.Match[str] | None:
        return re.search(r"^\[info\]\s+" + pattern, self._text, re.MULTILINE)
