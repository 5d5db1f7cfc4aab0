"""Writes results atomically, without replacing files unasked, and turns failures into errors for the user.

Files to read are untrusted: only regular files are opened, and their size is limited.
"""

import contextlib
import csv
import errno
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from attnrec.errors import AttnrecError, ConfigError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # first characters of cells that spreadsheets run as formulas


@contextlib.contextmanager
def atomic_path(path: Path, *, overwrite: bool = True, folder: Path | None = None) -> Iterator[Path]:
    """A temporary path that is renamed to `path` if the block ends without an error, and removed otherwise.

    Args:
        path: The file to write.
        overwrite: Replace an existing file.
        folder: Folder of the temporary path, on the same file system; None takes that of `path`.

    Raises:
        AttnrecError: The folder cannot be written, the disk is full, or the file exists and may not be replaced.
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
        # mkstemp makes private files; a result gets the permissions of the user's umask.
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
    """Rename a file, unless the name has been taken meanwhile."""
    try:
        os.link(temporary, path)  # unlike a rename, it never replaces
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links: check once more
        require_free(path, overwrite=False)
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, on file systems that allow it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_free(path: Path, *, overwrite: bool, suffixes: Sequence[str] = ()) -> None:
    """Check that a result can be written to a path, before the work that it takes.

    Args:
        path: The file to write.
        overwrite: Whether an existing file may be replaced.
        suffixes: Suffixes of the files that may be replaced, to protect clips and stores from a typo; empty for all.

    Raises:
        AttnrecError: The file exists already and may not be replaced.
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
    """Write a CSV file atomically, as UTF-8; names that are not UTF-8 keep their bytes.

    Names come from users and their videos: a text that a spreadsheet would run as a formula is prefixed by an
    apostrophe, which makes it text there.

    Args:
        path: The file.
        columns: Names of the columns, the first line.
        rows: The other lines; text or numbers, None for an empty cell.
        overwrite: Replace an existing file.

    Raises:
        AttnrecError: As in `atomic_path`.
    """
    with (
        atomic_path(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([_inert(cell) for cell in row] for row in (columns, *rows))


def _inert(cell: Any) -> Any:
    """Make a cell safe from being run as a formula; numbers stay as they are."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def require_disk_space(directory: Path, needed_bytes: int) -> int:
    """Check the free space of the file system that holds `directory`, and return it in bytes.

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


def require_regular(path: Path) -> None:
    """Check that a path is a regular file: a FIFO would block its reader forever, a device never ends.

    Raises:
        OSError: The path does not exist or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


@contextlib.contextmanager
def opened_regular(path: Path, flags: int = os.O_RDONLY) -> Iterator[BinaryIO]:
    """Open a regular file for reading, or for appending with `os.O_APPEND | os.O_CREAT | os.O_WRONLY`.

    Raises:
        OSError: The file is not regular or cannot be opened.
    """
    # Without O_NONBLOCK, opening a FIFO without a writer would block.
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    with os.fdopen(handle, "ab" if flags & os.O_APPEND else "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Read a regular file.

    Raises:
        OSError: The file is not regular, cannot be read, or is larger than `most_bytes`.
    """
    with opened_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"larger than {most_bytes / 1e6:.0f} MB")
    return data


def unpacked_bytes(file: BinaryIO) -> int:
    """Bytes of a file in memory: for a zip archive the size of its members, as a few MB can unpack to GBs.

    Raises:
        OSError: The file cannot be read.
        zipfile.BadZipFile: The file is a damaged archive.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    file.seek(0)
    return size


def machine_memory() -> int:
    """Bytes of memory of this machine, or of this container."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return found


def reason_of(error: Exception) -> str:
    """The reason of an error in one line, without the path that the system adds."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return next(iter(text.strip().splitlines()), "") or type(error).__name__


def write_error(path: Path, error: OSError) -> AttnrecError:
    """The error to show for a file that cannot be written."""
    what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return AttnrecError(f"{path}: cannot be written: {what}")


def json_safe(value: Any) -> Any:
    """Replace NaN and infinity by None, so that every document is strict JSON."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value
