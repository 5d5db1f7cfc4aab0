"""An ffmpeg process that decodes one file under limits: memory, time, and nothing left behind."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Self

from attnrec.errors import VideoError
from attnrec.video.ffmpeg import END_OF_HEADER, Log, child_environment, ffmpeg_path, input_arguments, message_kind

# How a damaged frame is concealed can depend on the number of threads: one number, so that features do not.
_THREADS = ("-threads", "2", "-filter_threads", "1")
# Filters of an output go by its threads, of which there would be one for each core, with their stacks and arenas.
_OUTPUT_THREADS = ("-threads", "1")
_HEAD = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info")
# The container's time of a frame, as exact as it is, and ffmpeg's estimate from the packets, in ticks of the rate.
_TIMES = "{ptsi} {tbi} {pts} {tb}"
UNKNOWN_TIME = -(2**63)
_PIPE_BYTES = 1 << 20
_LOG_BYTES = {"stream": 250_000, "error": 250_000, "duration": 250_000, "other": 250_000}
_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class DecodeLimits:
    """What a single video may cost before its decoding is given up."""

    decode_seconds: float = 6 * 3600  # spent waiting for frames in all
    stall_seconds: float = 30  # spent waiting for one frame, or for a header
    frames: int = 2_000_000  # decoded, before thinning
    duration_seconds: float = 12 * 3600  # from the first frame to the last, by their times
    memory_bytes: int = 4 << 30  # address space of the ffmpeg process; enforced on Linux


def video_error(path: Path, reason: str, cause: str) -> VideoError:
    """The error for a video that is left out, with a reason of `decode.REASONS` and the cause in words."""
    return VideoError(reason, f"{path}: {reason}: {cause}")


@contextlib.contextmanager
def opened(
    path: Path, output: Callable[[list[str]], list[str]], limits: DecodeLimits, *, with_times: bool = False
) -> Iterator["Decoder"]:
    """A decoder of the stream that players take, by the arguments of an output for the stream's."""
    # `V`: a cover picture is no video.
    with Decoder(path, output(["-map", "0:V:0"]), limits, with_times=with_times) as decoder:
        index = decoder.header().video_index
        if index == 0:
            yield decoder
            return
    with Decoder(path, output(["-map", f"0:V:{index}"]), limits, with_times=with_times) as decoder:
        yield decoder


class Decoder:
    """A running ffmpeg with what it makes of a file, times of frames and messages each on a pipe, and a watchdog.

    Use as a context manager; leaving it ends the process and all it may have started.

    Args:
        path: A local, regular file.
        output: Arguments that say what goes to stdout.
        limits: When to kill it.
        with_times: Whether there are frames whose times are wanted.
    """

    def __init__(self, path: Path, output: Sequence[str], limits: DecodeLimits, *, with_times: bool = False) -> None:
        self._path = path
        self._output = output
        self._with_times = with_times
        self._limits = limits
        self._ended = threading.Event()
        self._overrun = ""

    def __enter__(self) -> Self:
        opening = [ffmpeg_path(), *_HEAD, *_THREADS, *input_arguments(self._path)]
        reading, writing = os.pipe()
        times = ["-stats_enc_pre", f"pipe:{writing}", "-stats_enc_pre_fmt", _TIMES]
        command = [*opening, *(times if self._with_times else ()), *self._output, *_OUTPUT_THREADS, "pipe:1"]
        try:
            self._process = _start(command, self._limits.memory_bytes, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        assert self._process.stdout is not None
        self._frames, self._times = self._process.stdout, os.fdopen(reading, "rb")
        _enlarge(self._frames)
        self._messages = _Messages(self._process)
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._watchdog = threading.Thread(target=self._watch, daemon=True)
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        _kill(self._process)
        self._process.wait()
        self._watchdog.join()
        self._messages.close()
        self._frames.close()
        self._times.close()

    def cancel(self) -> None:
        """End the process at once, from any thread."""
        _kill(self._process)

    def read_frame(self, num_bytes: int) -> tuple[bytes, float]:
        """The next frame and its time in seconds, or nothing at the end.

        Only this waiting counts against the limits, not the caller's work.
        """
        with self._waiting():
            data = self._frames.read(num_bytes)
            times = self._times.readline() if len(data) == num_bytes else b""
        return (data, _seconds(times)) if times else (b"", 0.0)

    def header(self) -> Log:
        """What ffmpeg says of the input before it decodes any of it."""
        with self._waiting():
            return Log(self._messages.header(), self._path)

    def lines(self) -> Iterator[bytes]:
        """Lines of an output that is text. Limits as in `read_frame`."""
        while True:
            with self._waiting():
                line = self._frames.readline(_LINE_BYTES)
            if not line:
                return
            yield line

    def finish(self) -> tuple[int, Log]:
        """Exit status and messages, once the frames have ended.

        Raises:
            VideoError: The watchdog ended it.
        """
        with self._waiting():
            exit_code = self._process.wait()
        if self._overrun:
            raise video_error(self._path, "timed-out", self._overrun)
        return exit_code, Log(self._messages.text(), self._path)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._waiting_since = start = time.monotonic()
        yield
        self._waiting_since = None
        self._waited += time.monotonic() - start

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            since = self._waiting_since
            waiting = time.monotonic() - since if since is not None else 0.0
            if self._waited + waiting > self._limits.decode_seconds:
                self._overrun = f"not decoded in {self._limits.decode_seconds:g} s"
            elif waiting > self._limits.stall_seconds:
                self._overrun = f"no frame in {self._limits.stall_seconds:g} s"
            if self._overrun:
                _kill(self._process)
                return


def _seconds(times: bytes) -> float:
    """A frame's time by what ffmpeg writes in the form of `_TIMES`."""
    ticks, base, estimate, rate = times.decode().split()
    # Not all containers have the times of all frames: AVI has none where frames are stored in another order.
    known = (ticks, base) if int(ticks) != UNKNOWN_TIME else (estimate, rate)
    return float(int(known[0]) * Fraction(known[1]))


class _Messages:
    """What a process writes to stderr, in bounded memory: so much of each kind of message."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        self._pipe = process.stderr
        self._kept = bytearray()
        self._room = dict(_LOG_BYTES)
        self._header_read = threading.Event()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def header(self) -> bytes:
        """What was kept of the description of the input, once it is there."""
        self._header_read.wait()
        return bytes(self._kept)

    def text(self) -> bytes:
        """All that was kept, once the process has ended."""
        self._thread.join()
        return bytes(self._kept)

    def close(self) -> None:
        """Release the pipe, once the process has ended."""
        self._thread.join()
        self._pipe.close()

    def _drain(self) -> None:
        starts_line = True
        while part := self._pipe.readline(_LINE_BYTES):
            if starts_line:  # of a longer line the rest is left out
                self._keep(part if part.endswith(b"\n") else part + b"\n")
            starts_line = part.endswith(b"\n")
            if part.startswith(END_OF_HEADER):
                self._header_read.set()
        self._header_read.set()

    def _keep(self, line: bytes) -> None:
        # Tags without end must neither push out what follows nor take the memory.
        kind = message_kind(line)
        if self._room[kind] >= len(line):
            self._room[kind] -= len(line)
            self._kept += line
        elif self._room[kind] and kind != "other":
            self._room[kind] = 0
            self._kept += b"[error] more messages than are kept\n"


def _start(command: list[str], memory_bytes: int, times: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(times,),
        start_new_session=True,
        env=child_environment(os.environ),
    )
    try:
        _restrict(process.pid, memory_bytes)
    except BaseException:
        _kill(process)
        process.communicate()
        raise
    return process


def _restrict(pid: int, memory_bytes: int) -> None:
    """Bound the memory of a process, and let it write no files, core dumps among them; Linux only."""
    # Set from here: code between fork and exec could deadlock, as other threads hold locks at that moment.
    if not hasattr(resource, "prlimit"):
        return
    for kind, value in {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }.items():
        _, most = resource.getrlimit(kind)  # a limit that is there already cannot be raised
        limit = value if most == resource.RLIM_INFINITY else min(value, most)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, (limit, limit))


def _enlarge(pipe: IO[bytes]) -> None:
    """Let a pipe hold several frames, which spares switches between the processes; Linux only."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # above what this user's pipes may hold in all
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
