"""What the experiment on J-HMDB says of its runs, on made-up ones."""

import argparse
from pathlib import Path

import experiment_jhmdb as experiment
import numpy as np
import pytest
from small_store import CLASSES, quick, write_store
from written import between, markdown

from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import StoredBoxes

NUM_VIDEOS, NUM_FRAMES = 24, 12  # of the store below: three classes of eight groups
BEGIN, END = "<!-- jhmdb:begin -->", "<!-- jhmdb:end -->"
MARKED = f"before\n{BEGIN}\n{END}\nafter\n"


def boxed_store(path: Path) -> FeatureStore:
    """A store with the experiment's split, in which a person is on the left of every frame of all videos but one."""
    boxed = np.arange(NUM_VIDEOS - 1)
    size = np.zeros((NUM_VIDEOS, 2), np.int32)
    size[boxed] = 100, 80
    boxes = StoredBoxes(
        np.repeat(boxed, NUM_FRAMES).astype(np.int32),
        np.tile(np.arange(NUM_FRAMES) / 10, len(boxed)),
        np.tile(np.array([0, 0, 50, 80], np.float32), (len(boxed) * NUM_FRAMES, 1)),
        size,
    )
    codes = [0, 0, 0, 0, 1, 2, 2, 2] * len(CLASSES)  # groups for training, validation and test
    return FeatureStore(write_store(path, splits={"hmdb51-1": codes}, boxes=boxes, signal=0.6))


def made_row(folder: Path, name: str, **settings: object) -> experiment.Row:
    """A row as the script makes it, of two seeds."""
    store, options = FeatureStore(folder / "features.h5"), argparse.Namespace(videos=folder, jobs=1)
    config = quick(split="hmdb51-1", **settings)
    runs = experiment.trained(config, 2, store.path, folder / "runs")
    for run in runs:
        experiment.evaluate_missing(run, store.path, options)
    targets = experiment.person_boxes(store)
    return experiment.row_of(name, runs, [experiment.looked(run, store, targets, folder) for run in runs])


def test_the_rest_of_the_file_stays_and_tables_are_replaced_not_doubled() -> None:
    once = between(MARKED, "jhmdb", "| a |\n\ntext")
    assert once == f"before\n{BEGIN}\n| a |\n\ntext\n{END}\nafter\n"
    assert between(once, "jhmdb", "| b |") == f"before\n{BEGIN}\n| b |\n{END}\nafter\n"


def test_what_is_written_has_its_place_and_its_pictures() -> None:
    guide, readme = (path.read_text(encoding="utf-8") for path in (experiment.GUIDE, experiment.README))
    written = between(guide, "jhmdb", "tables")
    assert f"{BEGIN}\ntables\n{END}" in written
    assert "tables" in between(readme, "jhmdb-summary", "tables")
    for name in ("jhmdb-accuracy.svg", "jhmdb-pointing.svg", "jhmdb-looks.jpg"):
        assert f"]({experiment.address(experiment.ASSETS / name)})" in guide
        assert (experiment.ASSETS / name).is_file()


@pytest.mark.parametrize("text", ["no markers", f"{END} {BEGIN}", BEGIN, MARKED * 2])
def test_a_file_without_one_pair_of_markers_is_not_written(text: str) -> None:
    with pytest.raises(SystemExit, match="one <!-- jhmdb:begin -->"):
        between(text, "jhmdb", "body")


def test_paired_differences_are_those_of_the_means_over_seeds_and_intervals_those_over_groups() -> None:
    one = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], float)  # by video 1, 0.5, 0, 1
    other = np.array([[0, 1, 0, 0], [1, 0, 1, 0]], float)  # 0.5, 0.5, 0.5, 0
    found = experiment.difference_of(one, other, ["a", "a", "b", "b"])
    assert found.difference == pytest.approx(0.625 - 0.375)
    # Both groups differ by 0.25 on the mean, whichever are drawn.
    assert found.interval == pytest.approx((0.25, 0.25))
    alone = experiment.figure_of(one, ["a", "a", "b", "b"])
    assert alone.value == pytest.approx(0.625)
    assert alone.interval == pytest.approx((0.5, 0.75))  # group b drawn twice, group a drawn twice


def test_videos_without_boxes_do_not_count() -> None:
    figure = experiment.figure_of(np.array([[1.0, np.nan, 0.0]]), ["a", "b", "c"])
    assert figure.value == 0.5


def test_clips_are_chosen_by_their_paths() -> None:
    videos = [
        {"path": path, "label": path[0], "predicted": predicted}
        for path, predicted in [("b/2", "b"), ("b/1", "b"), ("a/2", "a"), ("a/1", "b"), ("c/1", "a")]
    ]
    shown = {right: [v["path"] for v in experiment.first_of_each_class(videos, right=right)] for right in (True, False)}
    assert shown == {True: ["a/2", "b/1"], False: ["a/1", "c/1"]}


def test_empty_cells_and_heads_make_a_table() -> None:
    assert markdown(["a", "b"], [["1", ""]]) == "| a | b |\n|---|---|\n| 1 | |"


def test_the_full_experiment_has_every_row_at_each_rate_and_each_lambda_once() -> None:
    rows = experiment.full_rows()
    assert len({repr(sorted(settings.items())) for settings in rows.values()}) == len(rows) == 2 * (4 + 4 * 3)
    assert {settings["block_stride"] for settings in rows.values()} == {1}
    assert rows["content (its code's), lambda 10, 30 fps"]["attention_penalty"] == 10
    assert rows["max-pooled LSTM, 6 fps"]["fps"] == 6


def test_rows_agree_with_the_evaluations_of_their_runs_and_are_taken_up_again(tmp_path: Path) -> None:
    boxed_store(tmp_path / "features.h5")
    row = made_row(tmp_path, "attention", attention="content")
    plain = made_row(tmp_path, "pooled", model="avg-pool")
    tests = [experiment.evaluation_of(run)["faithfulness"] for run in row.runs]
    for name in ("learned", "uniform", "pointing", "mass_frequent"):
        means = [float(np.nanmean(values)) for values in row.looks[name]]
        assert means == pytest.approx([test[name] for test in tests])
    assert row.hits.mean(axis=1) == pytest.approx([experiment.evaluation_of(run)["accuracy"] for run in row.runs])
    assert not plain.looks

    again = made_row(tmp_path, "attention", attention="content")
    assert [run.path for run in again.runs] == [run.path for run in row.runs]
    assert [run.manifest.finished_at for run in again.runs] == [run.manifest.finished_at for run in row.runs]

    lines = experiment.accuracy_table([plain, row]).splitlines()
    assert lines[0].endswith("| difference from pooled | with uniform attention | fall |")
    assert lines[2].startswith("| pooled |")
    assert lines[2].endswith("| | | |")
    summary = [line.split(" | ") for line in experiment.summary_table([plain, row]).splitlines()]
    assert [cells[0] for cells in summary[2:]] == [
        "| pooled",
        "| attention",
        "| centre of the frame",
        "| most frequent cell",
        "| uniform attention",
    ]
    assert summary[3][1:4] == [cell for i, cell in enumerate(lines[3].split(" | ")) if i in (1, 3, 5)]
    table = experiment.pointing_table([row])
    assert [cells[4].removesuffix(" |") for cells in summary[3:4]] == [table.splitlines()[2].split(" | ")[1]]
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| attention",
        "| centre of the frame",
        "| most frequent cell",
        "| uniform attention",
    ]
    assert "of 2)" in experiment.faithfulness_table([row])
