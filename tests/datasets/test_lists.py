import os
from pathlib import Path

import pytest
from dataset_trees import write_lists, write_synthetic_clip_sets

from attnrec.datasets.lists import (
    HOLLYWOOD2_CLASSES,
    read_class_numbers,
    read_clip_sets,
    read_hmdb51_folder,
    read_lines,
    read_list_folder,
    split_list,
)
from attnrec.datasets.splits import TEST, TRAIN, UNUSED, VALIDATION
from attnrec.errors import DataError


def test_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\n\r\n  caf\xe9\x0b \n\xc2\x85x")
    assert read_lines(path) == [(1, "a b"), (3, os.fsdecode(b"caf\xe9")), (4, "x")]


@pytest.mark.parametrize("data", [b"", b"\n\r\n  \n"])
def test_an_empty_list(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    with pytest.raises(DataError, match=r"list\.txt: empty; expected a list of videos"):
        read_lines(tmp_path / "list.txt")


def test_what_is_no_list(tmp_path):
    with pytest.raises(DataError, match=r"list\.txt: no such file"):
        read_lines(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes("a b".encode("utf-16"))
    with pytest.raises(DataError, match=r"list\.txt: not a text in UTF-8"):
        read_lines(tmp_path / "list.txt")


def test_the_first_mention_counts():
    split = split_list("mine", [("a", TRAIN), ("b", TEST), ("a", TRAIN), ("b", TRAIN), ("c", UNUSED), ("b", TEST)])
    assert split.codes == {"a": TRAIN, "b": TEST, "c": UNUSED}
    assert split.repeated == ("a", "b")
    assert split.contradictory == ("b",)


# Lists like UCF-101's


def test_lists_of_several_splits(tmp_path):
    write_lists(
        tmp_path,
        trainlist01="run/a b.avi 2\r\njump/c.avi 1\r\n",
        testlist01="run/d 3.avi\r\n",
        trainlist2="run/d 3.avi 2\n",
        vallist2="./run/a b.avi 2\n",
        testlist2="jump/c.avi\n",
        readme="not a list",
    )
    first, second = read_list_folder(tmp_path, "mine", {"jump": 1, "run": 2})
    assert (first.name, second.name) == ("mine-1", "mine-2")
    assert first.codes == {"run/a b.avi": TRAIN, "jump/c.avi": TRAIN, "run/d 3.avi": TEST}
    assert second.codes == {"run/d 3.avi": TRAIN, "run/a b.avi": VALIDATION, "jump/c.avi": TEST}


@pytest.mark.parametrize("names", [("trainlist", "testlist"), ("train", "test"), ("data__trainlist", "data__testlist")])
def test_lists_without_number(tmp_path, names):
    write_lists(tmp_path, **dict(zip(names, ("a.avi", "b.avi"), strict=True)))
    (split,) = read_list_folder(tmp_path, "mine")
    assert (split.name, split.codes) == ("mine", {"a.avi": TRAIN, "b.avi": TEST})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"trainlist01": "run/a.avi 2\nrun/b 2", "testlist01": "x.avi"},
            r"trainlist01\.txt, line 2: expected a video's",
        ),
        (
            {"trainlist01": "run/a.avi two", "testlist01": "x.avi"},
            r"line 1: .* at most a class number, got 'run/a\.avi t",
        ),
        (
            {"trainlist01": "\nfly/a.avi", "testlist01": "x.avi"},
            r"01\.txt, line 2: 'fly/a\.avi' is of no class that cl",
        ),
        ({"trainlist01": "a.avi", "testlist01": "x.avi"}, r"trainlist01\.txt, line 1: 'a\.avi' is of no class"),
        ({"trainlist01": "run/a.avi 1", "testlist01": "x.avi"}, r"line 1: class 1, but classInd\.txt says run is 2"),
        ({"trainlist01": "run/a.avi 2", "testlist01": ""}, r"testlist01\.txt: empty"),
        ({"trainlist01": "run/a.avi 2"}, r"no testlist01\.txt; a split needs a train and a test list"),
        ({"testlist": "run/a.avi 2"}, r"no trainlist\.txt; a split needs"),
        (
            {"train": "a.avi", "trainlist": "b.avi", "test": "c.avi"},
            r"both train\.txt and trainlist\.txt list one part",
        ),
        ({"notes": "a"}, r"no lists in it; expected trainlist01\.txt and testlist01\.txt, or a CSV file"),
    ],
)
def test_bad_lists(tmp_path, texts, message):
    write_lists(tmp_path, **texts)
    with pytest.raises(DataError, match=message) as caught:
        read_list_folder(tmp_path, "mine", {"jump": 1, "run": 2})
    assert "\n" not in str(caught.value)


def test_class_numbers(tmp_path):
    write_lists(tmp_path, good="1 Apply Make up\r\n2 Run\r\n", bad="1 Jump\nRun\n")
    assert read_class_numbers(tmp_path / "good.txt") == {"Apply Make up": 1, "Run": 2}
    with pytest.raises(DataError, match=r"bad\.txt, line 2: expected a number and a class, got 'Run'"):
        read_class_numbers(tmp_path / "bad.txt")


# HMDB-51's lists


def test_hmdb51_lists(tmp_path):
    write_lists(
        tmp_path,
        run_test_split1="a b!_run_1.avi 1 \nc_2.avi 2 \n",
        jump_test_split1="d.avi 0 \n",
        run_test_split2="a b!_run_1.avi 2 \nc_2.avi 0 \n",
        jump_test_split2="d.avi 1 \n",
    )
    first, second = read_hmdb51_folder(tmp_path)
    assert (first.name, second.name) == ("hmdb51-1", "hmdb51-2")
    assert first.codes == {"jump/d.avi": UNUSED, "run/a b!_run_1.avi": TRAIN, "run/c_2.avi": TEST}
    assert second.codes == {"jump/d.avi": TRAIN, "run/a b!_run_1.avi": TEST, "run/c_2.avi": UNUSED}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"run_test_split1": "a.avi 1\nb.avi 3\n"},
            r"run_test_split1\.txt, line 2: expected a clip and 0, 1 or 2, got 'b",
        ),
        ({"run_test_split1": "1\n"}, r"run_test_split1\.txt, line 1: expected a clip"),
        ({"run_test_split1": ""}, r"run_test_split1\.txt: empty"),
        (
            {"run_test_split1": "a.avi 1", "run_test_split2": "a.avi 1", "jump_test_split1": "b.avi 1"},
            r"no jump_test_split2\.txt; the list of that class is missing",
        ),
    ],
)
def test_bad_hmdb51_lists(tmp_path, texts, message):
    write_lists(tmp_path, **texts)
    with pytest.raises(DataError, match=message):
        read_hmdb51_folder(tmp_path)


# Hollywood2's lists, with labels that are made up


@pytest.fixture
def clip_sets(tmp_path) -> Path:
    write_synthetic_clip_sets(tmp_path, [f"{part}{i}" for part in ("train", "test") for i in range(20)])
    return tmp_path


def test_clip_sets(clip_sets):
    write_lists(clip_sets, Kiss_autotrain="x 1", actions_test="x 1", **{"EXT-House_train": "y 1"})
    sets = read_clip_sets(clip_sets)
    assert sets.labels == write_synthetic_clip_sets(clip_sets, sets.labels)
    assert sets.split.name == "hollywood2"
    assert sets.split.codes == {clip: TRAIN if clip.startswith("train") else TEST for clip in sets.labels}
    assert sets.split.repeated == sets.split.contradictory == sets.incomplete == ()


def test_classes_are_in_the_order_of_the_authors():
    assert " ".join(HOLLYWOOD2_CLASSES) == (
        "AnswerPhone DriveCar Eat FightPerson GetOutCar HandShake HugPerson Kiss Run SitDown SitUp StandUp"
    )


def test_odd_clip_sets(clip_sets):
    path = clip_sets / "Kiss_test.txt"
    path.write_text(path.read_text().replace("test3  ", "train3  ") + "test5  1\nnew  1\n")
    sets = read_clip_sets(clip_sets)
    assert sets.split.contradictory == ("train3",)
    assert sets.split.repeated == ("test5",)
    assert sorted(sets.incomplete) == ["new", "test3"]
    assert sets.labels["new"] == ("Kiss",)
    assert "Kiss" not in sets.labels["test5"]
    assert sets.split.codes["train3"] == TRAIN


def test_bad_clip_sets(clip_sets):
    (clip_sets / "Run_test.txt").write_text("test0  1\ntest1  0\n")
    with pytest.raises(DataError, match=r"Run_test\.txt, line 2: expected a clip and 1 or -1, got 'test1  0'"):
        read_clip_sets(clip_sets)
    (clip_sets / "Run_test.txt").unlink()
    with pytest.raises(DataError, match=r"Run_test\.txt: no such file"):
        read_clip_sets(clip_sets)
