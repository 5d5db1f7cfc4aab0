"""The ffmpeg program: where it is, the guards on what it may open, and what its messages mean."""

import functools
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
    ("Permission denied", "unreadable"),
    ("Invalid data found", "not-a-video"),
)


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


def failure_reason(log: str) -> str:
    """Name of what kept ffmpeg from decoding any frame, from its messages."""
    return next((reason for text, reason in _FAILURES if text in log), "no-frames")


def last_error(log: str) -> str:
    """The last error message in a log made with `-loglevel level+info`, without its prefix."""
    errors = error_lines(log)
    return re.sub(r"^(\[[^\]]*\]\s*)+", "", errors[-1]).strip() if errors else "no message"


def error_lines(log: str) -> list[str]:
    """Lines of level error or worse in a log made with `-loglevel level+info`."""
    return [line for line in log.splitlines() if re.search(r"\[(error|fatal|panic)\]", line)]
