"""The process and its machine: device, threads, seeds, interruptions, progress events."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnrec.errors import ConfigError

if TYPE_CHECKING:
    import torch


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Progress:
    """A progress event of a workflow, to be shown to the user."""

    stage: str  # what is being done, in one or two words
    done: int = 0  # units finished
    total: int = 0  # total number of units
    detail: str = ""  # the latest figures or the current item
    message: str | None = None  # a message to keep on the screen, such as a warning; None for progress only
    figures: Mapping[str, Any] = field(
        default_factory=dict
    )  # of a training, by their names in training.jsonl; loss so far in the epoch


OnProgress = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Ignore a progress event."""


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours, as text."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; a dash for None and NaN."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"


def resolve_device(name: str, local_rank: int | None = None) -> "torch.device":
    """The torch device of a name; `auto` is a CUDA device if there is one, else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        local_rank: Rank among the processes on this machine, which share its CUDA devices; None for a single process.

    Raises:
        ConfigError: The name is unknown or there is no such device.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local_rank is not None and torch.cuda.is_available():
        name = f"cuda:{local_rank % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; try --device cpu"
        )
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32 in cuDNN's LSTM too, as in torch's other products
    return device


def cuda_devices() -> int:
    """Number of CUDA devices of this machine."""
    import torch

    return torch.cuda.device_count()


def resolve_precision(name: str, device: "torch.device") -> Literal["fp32", "bf16"]:
    """The precision of a name; `auto` is bf16 if the hardware multiplies bfloat16 matrices, else fp32."""
    import torch

    if name in ("fp32", "bf16"):
        return "bf16" if name == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if {"amx_bf16", "avx512_bf16"} & processor()[1] else "fp32"


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """Name of the processor, and its feature flags as named by Linux (none on other systems)."""
    import platform

    name, flags = platform.processor(), frozenset[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            name = value if key == "model name" else name
            flags = frozenset(value.split()) if key == "flags" else flags
    return name, flags


def prepare_cpu(jobs: int | None) -> int:
    """Limit torch to `jobs` CPU threads (None keeps torch's choice), and let it reuse freed memory.

    Returns:
        The number of threads in use.
    """
    import ctypes

    import torch

    if jobs is not None:
        torch.set_num_threads(jobs)
    # glibc returns large blocks to the kernel at once and requests them again at the next layer; the page faults took
    # over half of the time of a forward pass where this was measured. Other C libraries have no mallopt.
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return torch.get_num_threads()


def default_jobs() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def derived_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from parts, for example (seed, "step", 17)."""
    import hashlib

    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def versions() -> dict[str, str]:
    """Versions of attnrec, Python and the packages that its numbers depend on; `not installed` if it runs without."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    def found(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:  # attnrec in a checkout, imageio-ffmpeg where IMAGEIO_FFMPEG_EXE names an ffmpeg
            return "not installed"

    names = ("attnrec", "torch", "torchvision", "numpy", "h5py", "scikit-learn", "imageio-ffmpeg")
    return {"python": platform.python_version()} | {name: found(name) for name in names}


class Interruption:
    """Whether the process has been asked to stop; see `deferred_interruption`."""

    requested = False


@contextlib.contextmanager
def deferred_interruption(*, patient: bool = False) -> Iterator[Interruption]:
    """Record Ctrl-C and SIGTERM while the block runs, for it to check; a second Ctrl-C ends it at once.

    Args:
        patient: Only record a second Ctrl-C, too: torchrun repeats the signal that processes got from the terminal.
    """
    import signal
    import threading

    interruption = Interruption()

    def request(number: int, _: object) -> None:
        if interruption.requested and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt
        interruption.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield interruption  # only the main thread can handle signals
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
