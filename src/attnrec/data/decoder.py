"""An ffmpeg process that decodes one file under limits: memory, time, and nothing left behind."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from attnrec.data.ffmpeg import Log, ffmpeg_path, input_arguments
from attnrec.errors import VideoError

# How a damaged frame is concealed can depend on the number of threads: one number, so that features do not.
_THREADS = ("-threads", "2", "-filter_threads", "1")
_HEAD = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info")
_PIPE_BYTES = 1 << 20
_LOG_BYTES = 1_000_000


@dataclass(frozen=True)
class DecodeLimits:
    """What a single video may cost before its decoding is given up.

    Attributes:
        decode_seconds: Spent waiting for frames in all.
        stall_seconds: Spent waiting for one frame, or for a header.
        frames: Decoded, before thinning.
        duration_seconds: From the first frame to the last, by their times.
        memory_bytes: Address space of the ffmpeg process; enforced on Linux.
    """

    decode_seconds: float = 6 * 3600
    stall_seconds: float = 30
    frames: int = 2_000_000
    duration_seconds: float = 12 * 3600
    memory_bytes: int = 4 << 30


class Decoder:
    """A running ffmpeg with its frames, their times and its messages each on a pipe, and a watchdog over it.

    Use as a context manager; leaving it ends the process and all it may have started.

    Args:
        path: A local, regular file.
        output: Arguments that say what goes to stdout.
        limits: When to kill it.
    """

    times: IO[bytes]

    def __init__(self, path: Path, output: Sequence[str], limits: DecodeLimits) -> None:
        self._path = path
        self._output = output
        self._limits = limits
        self._log = bytearray()
        self._ended = threading.Event()
        self._overrun = ""

    def __enter__(self) -> Self:
        reading, writing = os.pipe()
        times = ["-stats_enc_pre", f"pipe:{writing}", "-stats_enc_pre_fmt", "{ptsi} {tbi}"]
        command = [ffmpeg_path(), *_HEAD, *_THREADS, *input_arguments(self._path), *times, *self._output, "pipe:1"]
        try:
            self._process = _start(command, self._limits, pass_fds=(writing,))
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        assert self._process.stdout is not None
        self._frames, self.times = self._process.stdout, os.fdopen(reading, "rb")
        _enlarge(self._frames)
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._threads = [threading.Thread(target=job, daemon=True) for job in (self._drain, self._watch)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        _kill(self._process)
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._frames, self.times, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def cancel(self) -> None:
        """End the process at once, from any thread."""
        _kill(self._process)

    def read_frame(self, num_bytes: int) -> bytes:
        """The next frame, or nothing at the end. Only this waiting counts against the limits, not the caller's work."""
        self._waiting_since = start = time.monotonic()
        data = self._frames.read(num_bytes)
        self._waiting_since = None
        self._waited += time.monotonic() - start
        return data if len(data) == num_bytes else b""

    def finish(self) -> tuple[int, Log]:
        """Exit status and messages, once the frames have ended.

        Raises:
            VideoError: The watchdog ended it.
        """
        exit_code = self._process.wait()
        self._threads[0].join()
        if self._overrun:
            raise VideoError("timed-out", f"{self._path}: timed-out: {self._overrun}")
        return exit_code, Log(bytes(self._log), self._path)

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if len(self._log) < _LOG_BYTES:
                self._log += line

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


def read_header(path: Path, limits: DecodeLimits) -> tuple[int, Log]:
    """Exit status and messages of an ffmpeg that opens a file and decodes nothing.

    Raises:
        VideoError: It took too long.
    """
    command = [ffmpeg_path(), *_HEAD, *_THREADS, *input_arguments(path)]
    with _start(command, limits) as process:
        try:
            _, messages = process.communicate(timeout=limits.stall_seconds)
        except subprocess.TimeoutExpired:
            raise VideoError("timed-out", f"{path}: timed-out: its header was not read in time") from None
        finally:
            _kill(process)
    return process.returncode, Log(messages, path)


def _start(command: list[str], limits: DecodeLimits, pass_fds: tuple[int, ...] = ()) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    # Set from here: code between fork and exec could deadlock, as other threads hold locks at that moment.
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    return process


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
