import csv
import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attnrec.errors import AttnrecError, ConfigError
from attnrec.files import atomic_path, json_safe, require_disk_space, write_table, write_text


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "out.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("of the caller"), KeyboardInterrupt()])
def test_an_exception_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("before")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail_half_way()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_may_be_kept(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")
    with (
        pytest.raises(AttnrecError, match=r"out\.txt exists; use --force to replace it"),
        atomic_path(path, overwrite=False),
    ):
        raise AssertionError("not reached")
    assert path.read_text() == "before"
    with atomic_path(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    with atomic_path(tmp_path / "other.txt", overwrite=False) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "other.txt").read_text() == "new"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_another_wrote_meanwhile_is_kept(tmp_path, monkeypatch, links):
    path = tmp_path / "out.txt"

    def refuse(*_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)

    def write_while_another_does() -> None:
        with atomic_path(path, overwrite=False) as temporary:
            temporary.write_text("mine")
            path.write_text("another's")

    with pytest.raises(AttnrecError, match=r"out\.txt exists; use --force to replace it"):
        write_while_another_does()
    assert path.read_text() == "another's"
    path.unlink()
    with atomic_path(path, overwrite=False) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_nlink == 1


@pytest.mark.parametrize("name", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "-", "@SUM(A1)", "\t=1", "\r=1", '=a,"b\nc'])
def test_no_cell_of_a_table_is_a_formula(tmp_path, name):
    write_table(tmp_path / "table.csv", ["path", name], [[name, 1]])
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["path", f"'{name}"], [f"'{name}", "1"]]


def test_numbers_and_other_names_are_as_they_are_in_a_table(tmp_path):
    cells = [-1, -0.25, "-0.033333", "+1e-05", "1=2", "a-b/c.mp4", "'quoted", "", os.fsdecode(b"caf\xe9")]
    write_table(tmp_path / "table.csv", ["x"] * len(cells), [cells, [None] * len(cells)])
    with (tmp_path / "table.csv").open(newline="", errors="surrogateescape") as file:
        _, written, empty = csv.reader(file)
    assert written == [str(cell) for cell in cells]
    assert set(empty) == {""}
    with pytest.raises(AttnrecError, match=r"table\.csv exists; use --force to replace it"):
        write_table(tmp_path / "table.csv", [], [], overwrite=False)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_rights_are_those_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "out.txt", "text")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o666 & ~umask


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "out.txt", tmp_path / "file" / "deeper" / "out.txt"):
        with pytest.raises(AttnrecError, match=r"out\.txt: cannot be written: .*") as caught, atomic_path(path):
            raise AssertionError("not reached")
        assert str(path) in str(caught.value)


def test_a_full_disk(tmp_path):
    with pytest.raises(AttnrecError, match=r"out\.txt: cannot be written: the disk is full"):  # noqa: SIM117
        with atomic_path(tmp_path / "out.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(AttnrecError, match="cannot be written"), atomic_path(tmp_path / "out") as temporary:
        temporary.write_text("text")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name", ["x" * 120 + ".json", "動" * 70 + ".gif", "-dash", os.fsdecode(b"caf\xe9.h5"), ".hidden"]
)
def test_any_name_will_do(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("before")
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom attnrec.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    assert path.read_text() == "before"


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "out.txt", "épée 動画\n")
    assert (tmp_path / "out.txt").read_bytes() == "épée 動画\n".encode()


def test_disk_space(tmp_path):
    assert require_disk_space(tmp_path / "not" / "there", 1) > 0
    with pytest.raises(ConfigError, match=r"needs about 1000000000\.0 GB, has .* GB free; choose another disk"):
        require_disk_space(tmp_path, 10**18)


# Values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (1.5, 1.5),
        (np.float64("nan"), None),
        ({"a": [1, math.inf, {"b": (math.nan, "NaN")}]}, {"a": [1, None, {"b": [None, "NaN"]}]}),
        ([True, None, 3, "text"], [True, None, 3, "text"]),
        ([], []),
    ],
)
def test_json_safe(value, expected):
    assert json_safe(value) == expected
    json.dumps(json_safe(value), allow_nan=False)


def test_json_safe_leaves_its_input_alone():
    value = {"a": [math.nan]}
    json_safe(value)
    assert math.isnan(value["a"][0])
