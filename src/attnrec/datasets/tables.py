"""Tables that users write, as CSV: labels of videos, and splits.

Names in them need not be UTF-8 and may hold line breaks where they are quoted. Each mistake is a `DataError` of one
line that names the file and the line.
"""

import csv
import io
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from attnrec.datasets.dataset import Findings, Reading, VideoEntry
from attnrec.datasets.folders import Finder, dataset_root, find_videos, group_by_name, scan_videos
from attnrec.datasets.lists import PARTS, SplitList, bad_line, read_list_folder, read_text, split_list
from attnrec.datasets.splits import UNUSED
from attnrec.errors import DataError
from attnrec.files import FORMULA_STARTS, write_table

LABEL_COLUMNS = ("path", "label", "group")


class TableRow(NamedTuple):
    """A row of a CSV file: the line that it starts in, and its cells by column."""

    line: int
    cells: dict[str, str]


def read_table(path: Path, required: Sequence[str]) -> list[TableRow]:
    """Rows of a CSV file whose first line names the columns; blank lines and columns without a name do not count.

    Cells are parted by commas, or by semicolons or tabs where those are what the first line makes sense by.

    Raises:
        DataError: The file cannot be read, is no CSV, lacks a column or has no rows.
    """
    text = read_text(path)
    rows: list[TableRow] = []
    columns: list[str] | None = None
    for line, cells in _csv_lines(path, text, _delimiter(text, required)):
        if columns is None:
            columns = [cell.strip().lower() for cell in _without_empty_end(cells, 0)]
            if absent := [name for name in required if name not in columns]:
                names = ", ".join(required)
                raise bad_line(path, line, f"no column {absent[0]!r}; the first line must name the columns ({names})")
            if len(set(columns)) < len(columns):
                raise bad_line(path, line, "two columns of one name")
            continue
        cells = _without_empty_end(cells, len(columns))
        if len(cells) != len(columns):
            raise bad_line(path, line, f"{len(cells)} cells in {len(columns)} columns; quote those with commas")
        rows.append(TableRow(line, dict(zip(columns, cells, strict=True))))
    if not rows:
        raise DataError(f"{path}: empty; expected a line of column names and a row for each video")
    return rows


def _csv_lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that hold something, each with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise bad_line(path, line, f"not readable as CSV: {error}") from None


def _delimiter(text: str, required: Sequence[str]) -> str:
    """What parts the cells: spreadsheets write semicolons where a comma is for decimals."""
    head = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    for delimiter in ",;\t":
        if {*required} <= {name.strip().strip('"').lower() for name in head.split(delimiter)}:
            return delimiter
    return ","


def _without_empty_end(cells: list[str], least: int) -> list[str]:
    """A line's cells without the empty ones that spreadsheets add at its end."""
    while len(cells) > least and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _part_code(path: Path, row: TableRow, column: str) -> int:
    """Code of the part that a cell names."""
    value = row.cells[column].strip().lower()
    if value not in PARTS:
        raise bad_line(path, row.line, f"{column} must be train, validation, test or unused, got {value!r}")
    return PARTS[value]


def read_splits(path: Path) -> list[SplitList]:
    """Splits that a user gives: a CSV file, or a folder of lists like UCF-101's (see `read_list_folder`).

    A CSV file has a column `path` and one column for each split, named like it; a column `split` is a split named
    like the file. Cells are `train`, `validation`, `test` or `unused`.

    Raises:
        DataError: It is not there, malformed or empty.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.absolute().stem).strip("-") or "list"
    if path.is_dir():
        return read_list_folder(path, name)
    rows = read_table(path, ["path"])
    columns = [column for column in rows[0].cells if column not in LABEL_COLUMNS]
    if not columns:
        raise bad_line(path, 1, "no column 'split'; the first line must name the columns")
    for column in columns:
        if not re.fullmatch(r"[a-z0-9_.-]*[a-z0-9_-]", column):
            raise bad_line(path, 1, f"a split's name takes letters, digits, '_', '-' and '.', got {column!r}")
    return [
        split_list(
            name if column == "split" else column,
            [(posixpath.normpath(row.cells["path"]), _part_code(path, row, column)) for row in rows],
        )
        for column in columns
    ]


def read_labels(table: Path, videos: Path) -> Reading:
    """Videos labelled by a CSV file with the columns `path`, `label` and, if so, `group` and `split`.

    A video has several labels as `run;jump` in one cell or in rows of its own. Without a group in the table it comes
    from names like `v_<class>_g<group>_c<clip>`. The column `split` makes the split `default`.

    Args:
        table: The file.
        videos: Folder that paths are relative to, whose other videos have no label; or the table itself, which takes
            its own folder and nothing beyond what is listed.

    Returns:
        The reading.

    Raises:
        DataError: The table is malformed, or names no video that is there.
    """
    root = table.parent if videos == table else dataset_root(videos)
    found = [] if videos == table else find_videos(videos)
    finder = Finder(found)
    rows = read_table(table, ["path", "label"])
    findings = Findings()
    listed: dict[str, _Listed] = {}
    for row in rows:
        name = _relative(table, row, root)
        index = finder.find(name)
        if index is not None:
            name = found[index].as_posix()
        elif not (root / name).is_file():
            findings.add("missing", "listed videos that are missing", [name])
            continue
        if not _merge(listed.setdefault(name, _Listed()), row, table):
            findings.add("repeated", "videos listed more than once", [name])
    if not listed:
        raise DataError(f"{table}: not one of its {len(rows)} videos is in {root}; paths are relative to it")
    unlisted = [path for path in found if path.as_posix() not in listed]
    findings.add("unlisted", "videos in no list", map(str, unlisted))
    entries = [
        VideoEntry(Path(name), tuple(video.labels), video.group or group_by_name(Path(name)))
        for name, video in listed.items()
    ]
    entries += [VideoEntry(path, (), group_by_name(path)) for path in unlisted]
    return Reading(
        root,
        entries,
        [split_list("default", [(n, code) for n, video in listed.items() for code in video.codes])]
        if "split" in rows[0].cells
        else [],
        multilabel=any(len(entry.labels) > 1 for entry in entries),
        findings=findings,
    )


def write_labels_template(table: Path, videos: Path, *, overwrite: bool = False) -> tuple[int, int]:
    """Write a CSV file for `read_labels`, to be filled in: a row for each video, with the label that its place gives.

    The file begins with a byte order mark, without which spreadsheets take UTF-8 for another encoding.

    Args:
        table: The file.
        videos: Folder of videos.
        overwrite: Replace an existing file.

    Returns:
        Number of videos, and of those that have a label.

    Raises:
        DataError: The folder is not there or holds no video.
        AttnrecError: The file exists already, or cannot be written.
    """
    entries = scan_videos(videos)
    # In front of what a spreadsheet takes for a formula, and which would be read as another name.
    rows = ((f"./{path}" if str(path).startswith(FORMULA_STARTS) else str(path), label)
            for path, label in ((entry.path, ";".join(entry.labels)) for entry in entries))  # fmt: skip
    write_table(table, ["\ufeffpath", "label"], rows, overwrite=overwrite)
    return len(entries), sum(bool(entry.labels) for entry in entries)


@dataclass
class _Listed:
    """What a table's rows say of a video."""

    labels: list[str] = field(default_factory=list)
    group: str | None = None
    codes: list[int] = field(default_factory=list)


def _merge(video: _Listed, row: TableRow, table: Path) -> bool:
    """Add a row to what is known of its video; whether it says anything new."""
    known = bool(video.codes) or bool(video.labels) or video.group is not None
    labels = [label.strip() for label in row.cells["label"].split(";")]
    labels = [label for label in dict.fromkeys(labels) if label and label not in video.labels]
    video.labels += labels
    group = row.cells.get("group", "").strip() or None
    if known and group != video.group:
        raise bad_line(table, row.line, f"group {group!r}, but {video.group!r} in an earlier line of the same video")
    video.group = group
    code = _part_code(table, row, "split") if "split" in row.cells else UNUSED
    new = not known or bool(labels) or code not in video.codes
    if code not in video.codes:
        video.codes.append(code)
    return new


def _relative(table: Path, row: TableRow, root: Path) -> str:
    """Path of a row's video relative to the dataset's folder, with slashes."""
    path = row.cells["path"]
    if not path:
        raise bad_line(table, row.line, "no path")
    relative = Path(os.path.relpath(path, root) if Path(path).is_absolute() else os.path.normpath(path))
    if relative.parts[:1] == (os.pardir,):
        raise bad_line(table, row.line, f"{path!r} is outside of {root}")
    return relative.as_posix()
