"""The process and its machine: device, threads, seeds, atomic files, progress events."""

import contextlib
import csv
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnrec.errors import AttnrecError, ConfigError

if TYPE_CHECKING:
    import torch


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # of cells that spreadsheets run as formulas
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Progress:
    """One step of a workflow, for whoever shows it.

    Attributes:
        stage: What is being done, in one or two words.
        done: Units finished.
        total: Units in all.
        detail: The latest figures or the current item.
        message: A sentence to keep on the screen, such as a warning; None for a mere tick.
    """

    stage: str
    done: int = 0
    total: int = 0
    detail: str = ""
    message: str | None = None


OnProgress = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Show nothing."""


def resolve_device(name: str, local_rank: int | None = None) -> "torch.device":
    """Device by name; `auto` is a CUDA device where there is one, else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        local_rank: Of several processes on this machine, which share its CUDA devices.

    Raises:
        ConfigError: The name is unknown or the device is not there.
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
    return device


def cuda_devices() -> int:
    """CUDA devices of this machine."""
    import torch

    return torch.cuda.device_count()


def resolve_precision(name: str, device: "torch.device") -> Literal["fp32", "bf16"]:
    """`fp32` or `bf16`; `auto` is bf16 where the hardware multiplies bfloat16 matrices, else fp32."""
    import torch

    if name in ("fp32", "bf16"):
        return "bf16" if name == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if {"amx_bf16", "avx512_bf16"} & processor()[1] else "fp32"


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """Name of the processor, and its features as Linux calls them (none elsewhere)."""
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
    """Limit torch to `jobs` CPU threads (None keeps its own choice) and let it reuse its memory.

    Returns:
        The number of threads in use.
    """
    import ctypes

    import torch

    if jobs is not None:
        torch.set_num_threads(jobs)
    # glibc gives large blocks back to the kernel at once and asks for them again at the next layer; faulting them in
    # anew took over half of the time of a forward pass where this was measured. Other C libraries have no mallopt.
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return torch.get_num_threads()


def default_jobs() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of the parts, for example (seed, "step", 17)."""
    import hashlib

    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def versions() -> dict[str, str]:
    """Versions of the program and of what its numbers depend on."""
    import platform
    from importlib.metadata import version

    names = ("attnrec", "torch", "torchvision", "numpy", "h5py", "scikit-learn", "imageio-ffmpeg")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = True, folder: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and is removed otherwise.

    Args:
        path: The file to be written.
        overwrite: Replace a file that is there.
        folder: Of the temporary path, on the same file system; that of `path` where not given.

    Raises:
        AttnrecError: The folder cannot be written, the disk is full, or the file is there and may not be replaced.
    """
    require_free(path, overwrite=overwrite)
    try:
        folder = folder or path.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=folder)
    except OSError as error:
        raise write_error(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a result gets the rights that the user's umask gives.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if overwrite:
            temporary.replace(path)
        else:
            _take_free_name(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _take_free_name(temporary: Path, path: Path) -> None:
    """Name a file as a rename would, unless the name was taken since it was last looked at."""
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links: look once more
        require_free(path, overwrite=False)
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, on the file systems that let a folder be opened for it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_free(path: Path, *, overwrite: bool, suffixes: Sequence[str] = ()) -> None:
    """Check a result's name, before the work that it costs.

    Args:
        path: The file to be written.
        overwrite: A file that is there may be replaced.
        suffixes: Of the files that may be, so that a slip does not cost a clip or a store; none allows all.

    Raises:
        AttnrecError: There is such a file already and it may not be replaced.
    """
    if not overwrite and path.exists():
        raise _taken(path)
    if suffixes and path.is_file() and path.suffix.lower() not in suffixes:
        raise AttnrecError(f"{path} exists; here --force replaces only files that end in {', '.join(suffixes)}")


def _taken(path: Path) -> AttnrecError:
    return AttnrecError(f"{path} exists; use --force to replace it")


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, overwrite: bool = True) -> None:
    """Write a CSV file atomically, as UTF-8; names that are no UTF-8 keep their bytes.

    Names come from users and their videos: a text that a spreadsheet would run as a formula gets an apostrophe before
    it, which makes it text there.

    Args:
        path: The file.
        columns: The first line.
        rows: The others; text or numbers, None for an empty cell.
        overwrite: Replace a file that is there.

    Raises:
        AttnrecError: As `atomic_path`.
    """
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([_inert(cell) for cell in row] for row in (columns, *rows))


def _inert(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are."""
    if not isinstance(cell, str) or not cell.startswith(_FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def require_disk_space(directory: Path, needed_bytes: int) -> int:
    """Free bytes of the file system that holds `directory`.

    Raises:
        ConfigError: Less than `needed_bytes` is free.
    """
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise ConfigError(
            f"{directory}: needs about {needed_bytes / 1e9:.1f} GB, has {free / 1e9:.1f} GB free; "
            "choose another disk, a smaller --grid-size or a lower --fps"
        )
    return free


def write_error(path: Path, error: OSError) -> AttnrecError:
    """The error of a file that cannot be written, for a user."""
    what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return AttnrecError(f"{path}: cannot be written: {what}")


class Interruption:
    """Whether the user, or whoever stops processes, has asked to end; see `deferred_interruption`."""

    requested = False


@contextlib.contextmanager
def deferred_interruption(*, patient: bool = False) -> Iterator[Interruption]:
    """While the block runs, let Ctrl-C and SIGTERM wait until it looks; a second Ctrl-C ends it at once.

    Args:
        patient: A second one waits as well: torchrun hands its processes the signal that they got from the terminal.
    """
    import signal
    import threading

    interruption = Interruption()

    def request(number: int, _: object) -> None:
        if interruption.requested and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt
        interruption.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield interruption  # signals are the main thread's
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def json_safe(value: Any) -> Any:
    """Replace NaN and infinity by None, so that every document is strict JSON."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value
