import os
from pathlib import Path

import pytest
from dataset_trees import make_files, write_lists

from attnrec.datasets.dataset import Reading
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.datasets.tables import read_labels, read_splits, read_table, write_labels_template
from attnrec.errors import AttnrecError, DataError


def table(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def videos_of(reading: Reading) -> dict[str, tuple[tuple[str, ...], str]]:
    return {str(entry.path): (entry.labels, entry.group) for entry in reading.entries}


def problems_of(reading: Reading) -> dict[str, tuple[str, ...]]:
    return {problem.kind: problem.examples for problem in reading.findings.problems()}


# Tables


def test_rows_know_their_lines(tmp_path):
    text = b'\xef\xbb\xbf Path,LABEL \r\n\r\n"two\nlines.mp4",run\r\ncaf\xe9.mp4,"a, b"\r\n'
    rows = read_table(table(tmp_path, text), ["path", "label"])
    assert [row.line for row in rows] == [3, 5]
    assert rows[0].cells == {"path": "two\nlines.mp4", "label": "run"}
    assert rows[1].cells == {"path": os.fsdecode(b"caf\xe9.mp4"), "label": "a, b"}


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,run\n\nb.mp4,jump\n",
        "path,label\n,\na.mp4,run\n , \nb.mp4,jump\n,,\n",
        "path,label,\na.mp4,run,\nb.mp4,jump,\n",
        "path,label,,\na.mp4,run,,\nb.mp4,jump,\n",
        "\ufeffpath;label\r\na.mp4;run\r\nb.mp4;jump\r\n",
        "path;label;\na.mp4;run;\n;;\nb.mp4;jump\n",
        '"path";"label"\na.mp4;run\nb.mp4;jump\n',
        "path\tlabel\na.mp4\trun\nb.mp4\tjump\n",
        "\n \npath,label\na.mp4,run\nb.mp4,jump",
    ],
)
def test_what_spreadsheets_add_does_not_count(tmp_path, text):
    rows = read_table(table(tmp_path, text), ["path", "label"])
    assert [row.cells for row in rows] == [{"path": "a.mp4", "label": "run"}, {"path": "b.mp4", "label": "jump"}]


def test_semicolons_within_a_cell_stay(tmp_path):
    commas = read_table(table(tmp_path, "path,label\na.mp4,run;jump\n"), ["path", "label"])
    quoted = read_table(table(tmp_path, 'path;label\na.mp4;"run;jump"\n'), ["path", "label"])
    assert commas[0].cells == quoted[0].cells == {"path": "a.mp4", "label": "run;jump"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table\.csv: empty; expected a line of column names and a row for each video"),
        ("path,label\n", r"table\.csv: empty"),
        ("a.mp4,run\n", r"table\.csv, line 1: no column 'path'; the first line must name the columns"),
        ("path,lable\na.mp4,run\n", r"line 1: no column 'label'"),
        ("path,label,Label\na.mp4,run,run\n", r"line 1: two columns of one name"),
        ("path,label\na.mp4,run\n\nb,c.mp4,run\n", r"line 4: 3 cells in 2 columns; quote those with commas"),
        ("path,label\na.mp4\n", r"line 2: 1 cells in 2 columns"),
        ('path,label\na.mp4,run\n"b.mp4,run\n', r"line 3: not readable as CSV: unexpected end of data"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path, text), ["path", "label"])


# Labels


def test_labels_of_a_folder(tmp_path):
    videos = make_files(tmp_path / "videos", "a.mp4", "deep/b.mp4", "v_x_g03_c01.mp4", "other.mp4", "odd.data")
    text = f"path,label,more\ndeep/../a.mp4,run,1\n{videos}/deep/b.avi,jump,2\nv_x_g03_c01,run,3\nodd.data,run,4\n"
    reading = read_labels(table(tmp_path, text), videos)
    assert videos_of(reading) == {
        "a.mp4": (("run",), "a.mp4"),
        "deep/b.mp4": (("jump",), "deep/b.mp4"),
        "v_x_g03_c01.mp4": (("run",), "g03"),
        "odd.data": (("run",), "odd.data"),
        "other.mp4": ((), "other.mp4"),
    }
    assert (reading.root, reading.multilabel, reading.lists) == (videos, False, [])
    assert problems_of(reading) == {"unlisted": ("other.mp4",)}


def test_a_table_alone_takes_nothing_but_what_it_lists(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4")
    path = table(tmp_path, "path,label,group,split\na.mp4,run,tom,train\nc.mp4,run,tim,test\n")
    reading = read_labels(path, path)
    assert videos_of(reading) == {"a.mp4": (("run",), "tom")}
    assert reading.root == tmp_path
    assert [(split.name, split.codes) for split in reading.lists] == [("default", {"a.mp4": TRAIN})]
    assert problems_of(reading) == {"missing": ("c.mp4",)}


def test_several_labels(tmp_path):
    make_files(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    path = table(
        tmp_path,
        "path,label,split\na.mp4,run; jump,train\nb.mp4,run,test\nb.mp4,jump;run,test\nb.mp4,run,test\nc.mp4,,test\n",
    )
    reading = read_labels(path, path)
    assert {name: labels for name, (labels, _) in videos_of(reading).items()} == {
        "a.mp4": ("run", "jump"),
        "b.mp4": ("run", "jump"),
        "c.mp4": (),
    }
    assert reading.multilabel
    assert problems_of(reading) == {"repeated": ("b.mp4",)}
    (split,) = reading.lists
    assert split.codes == {"a.mp4": TRAIN, "b.mp4": TEST, "c.mp4": TEST}
    assert split.repeated == split.contradictory == ()


def test_a_video_in_two_parts(tmp_path):
    make_files(tmp_path, "a.mp4")
    path = table(tmp_path, "path,label,split\na.mp4,run,Validation\na.mp4,run,test\n")
    reading = read_labels(path, path)
    assert reading.lists[0].codes == {"a.mp4": VALIDATION}
    assert reading.lists[0].contradictory == ("a.mp4",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n,run\n", r"table\.csv, line 2: no path"),
        ("path,label\n../a.mp4,run\n", r"line 2: '\.\./a\.mp4' is outside of"),
        ("path,label\n/etc/a.mp4,run\n", r"line 2: '/etc/a\.mp4' is outside of"),
        (
            "path,label,split\na.mp4,run,training\n",
            r"line 2: split must be train, validation, test or unused, got 'tra",
        ),
        ("path,label,group\na.mp4,x,g1\na.mp4,y,g2\n", r"line 3: group 'g2', but 'g1' in an earlier line of the same"),
        (
            "path,label\nb.mp4,run\nc.mp4,run\n",
            r"table\.csv: not one of its 2 videos is in .*; paths are relative to it",
        ),
    ],
)
def test_bad_labels(tmp_path, text, message):
    make_files(tmp_path, "a.mp4")
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=message):
        read_labels(path, path)


# Splits


def test_a_table_of_splits(tmp_path):
    path = table(
        tmp_path, "path,label,split,fold-1\na/../b.mp4,run,train,test\nc.mp4,run,VAL,\nd.mp4,run,test,unused\n"
    )
    first, second = read_splits(path)
    assert (first.name, second.name) == ("table", "fold-1")
    assert first.codes == {"b.mp4": TRAIN, "c.mp4": VALIDATION, "d.mp4": TEST}
    assert second.codes == {"b.mp4": TEST, "c.mp4": UNUSED, "d.mp4": UNUSED}


def test_a_folder_of_splits(tmp_path):
    folder = write_lists(tmp_path / "my lists!", trainlist="a.mp4", testlist="b.mp4")
    (split,) = read_splits(folder)
    assert (split.name, split.codes) == ("my-lists", {"a.mp4": TRAIN, "b.mp4": TEST})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.mp4,run\n", r"table\.csv, line 1: no column 'split'"),
        ("path,a/b\na.mp4,train\n", r"line 1: a split's name takes letters, digits, '_', '-' and '\.', got 'a/b'"),
        ("path,..\na.mp4,train\n", r"line 1: a split's name takes"),
        ("path,split\na.mp4,2\n", r"line 2: split must be train, validation, test or unused, got '2'"),
        ("run/a.mp4 1\n", r"line 1: no column 'path'"),
    ],
)
def test_bad_splits(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_splits(table(tmp_path, text))


def test_splits_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_splits(tmp_path / "none.csv")


# A table to fill in


def test_a_template_names_every_video_and_is_read_once_it_is_filled_in(tmp_path):
    names = ["=a.mp4", "b, c.mp4", "run/d.mp4", "sub\nfolder/e é.mp4"]
    videos = make_files(tmp_path / "videos", *names)
    path = tmp_path / "labels.csv"
    assert write_labels_template(path, videos)[0] == len(names)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert videos_of(read_labels(path, videos))["run/d.mp4"][0] == ("run",)  # the folder's
    lines = path.read_bytes().decode().split("\r\n")
    filled = [lines[0], *(f"{line.rpartition(',')[0]},jump" for line in lines[1:-1])]
    path.write_bytes("\r\n".join(filled).encode())
    reading = read_labels(path, videos)
    assert {name: labels for name, (labels, _) in videos_of(reading).items()} == dict.fromkeys(names, ("jump",))
    assert not problems_of(reading)


def test_a_template_replaces_no_table(tmp_path):
    videos = make_files(tmp_path / "videos", "a.mp4")
    path = table(tmp_path, "path,label\na.mp4,run\n")
    with pytest.raises(AttnrecError, match="exists"):
        write_labels_template(path, videos)
    assert "run" in path.read_text()
