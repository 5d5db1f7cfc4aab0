"""Tests of attention on recognisers whose faithfulness is known by construction."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import clips
import h5py
import numpy as np
import pytest
import torch
from small_store import SPEC, quick, write_store
from torch import nn

from attnrec.errors import ConfigError, DataError, RunError, VideoError
from attnrec.evaluation.evaluate import evaluate, evaluate_runs
from attnrec.evaluation.measures import BOX_FIGURES
from attnrec.evaluation.perturb import Probe, donor_blocks, removal_curves, spread_blocks
from attnrec.evaluation.report import Faithfulness
from attnrec.features.boxes import Clip, boxes_of, placed_boxes, read_boxes
from attnrec.features.feed import CubeFeed
from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import stored_boxes
from attnrec.files import json_safe
from attnrec.training.run import Run
from attnrec.training.train import train

CLASSES = tuple("abcdefgh")
K, C = 4, len(CLASSES)
MARKER = C  # the channel that marks the one cell of a frame that says its class
REPLACEMENTS = {"uniform", "other_video", "time_shuffled", "untrained"}


def rewritten(run: Path, change: Callable[[nn.Module, float], None]) -> Path:
    """A run whose weights are made by hand; `change` also gets the factor on its features."""
    opened = Run(run)
    model = opened.load_model(torch.device("cpu"))
    with torch.no_grad():
        change(model, opened.manifest.feature_scale)
    opened.save_model(model)
    return run


@pytest.fixture(scope="module")
def marked_store(tmp_path_factory) -> Path:
    """Frames that show every class in as many cells; the one marked cell, at random, shows the video's own.

    The videos are there as well, for their size of 80 x 60 px, and a file of boxes around the marked cells.
    """
    folder = tmp_path_factory.mktemp("marked")
    spec = replace(SPEC, grid_size=K, feature_dim=C + 1)
    path = write_store(folder / "features.h5", classes=CLASSES, spec=spec, num_groups=6)
    store, rng = FeatureStore(path), np.random.default_rng(0)
    cubes = np.zeros((len(store.pts), K * K, C + 1), np.float16)
    rows = []
    for video, (label, first, count) in enumerate(
        zip(store.videos.label, store.videos.first_frame, store.videos.num_frames, strict=True)
    ):
        name = store.path_of(video)
        for frame in range(count):
            shown = rng.permutation(np.repeat(np.arange(C), K * K // C))
            marked = rng.choice(np.flatnonzero(shown == label))
            cubes[first + frame, np.arange(K * K), shown] = 1
            cubes[first + frame, marked, MARKER] = 1
            row, column = divmod(int(marked), K)
            rows.append([name, frame / 10, 20 * column, 15 * row, 20 * column + 20, 15 * row + 15])
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        clips.write(folder / "videos" / name, np.zeros((1, 60, 80, 3), np.uint8))
    with h5py.File(path, "r+") as file:
        file["features/features"][:] = cubes.reshape(-1, K, K, C + 1)
        file.attrs["videos_dir"] = np.bytes_(str(folder / "videos"))
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "seconds", "x0", "y0", "x1", "y1"], *rows])
    return path


def read_by_marker(model: nn.Module, scale: float) -> None:
    """An oracle: it looks at the marked cell alone, and says the class that it sees there."""
    for parameter in model.parameters():
        parameter.zero_()
    model.content_scorer.from_feature.weight[0, MARKER] = 5 / scale
    model.content_scorer.score.weight[0, 0] = 25
    H, own = model.cells[0].hidden_size, torch.arange(C)
    model.cells[0].bias_ih[:H] = model.cells[0].bias_ih[3 * H :] = 20  # the gates i and o are open,
    model.cells[0].bias_ih[H : 2 * H] = -20  # f is shut: no memory
    model.cells[0].weight_ih[2 * H + own, own] = 3 / scale
    model.head.hidden.weight[own, own] = 1
    model.head.logits.weight[own, own] = 20


@pytest.fixture(scope="module")
def oracle(marked_store, tmp_path_factory) -> Path:
    config = quick(attention="content", epochs=1)
    return rewritten(Path(train(marked_store, config, runs_dir=tmp_path_factory.mktemp("oracle")).run), read_by_marker)


@pytest.fixture(scope="module")
def oracle_report(oracle, marked_store):
    return evaluate(oracle, faithfulness=True, boxes=marked_store.parent / "boxes.csv")


@pytest.fixture(scope="module")
def tested(oracle_report) -> Faithfulness:
    return oracle_report.faithfulness


def ignore_attention(model: nn.Module, _: float) -> None:
    """The class comes from the initial state alone: what the glimpse holds reaches nothing; the scorer is sharp."""
    model.cells[0].weight_ih.zero_()
    model.location_scorer.weight.normal_(std=5, generator=torch.Generator().manual_seed(0))


def test_an_oracle_scores_near_one(tested):
    assert tested.learned == 1
    assert tested.differences.keys() == tested.intervals.keys()
    # A shuffled order of four steps leaves one in place on average, which says the class still.
    greatest_left = dict.fromkeys(REPLACEMENTS, 1 / C + 0.2) | {"time_shuffled": 0.8}
    for name, greatest in greatest_left.items():
        assert getattr(tested, name) < greatest
        assert tested.differences[name] == pytest.approx(1 - getattr(tested, name))
        assert tested.changed[name] == pytest.approx(1 - getattr(tested, name))
        low, high = tested.intervals[name]
        assert 0 < low <= tested.differences[name] <= high <= 1
        assert tested.shift[name] > 1 - greatest
    assert tested.other_class_share == 1


def test_an_oracle_falls_with_the_first_cells_and_stands_to_the_last(tested):
    # Two of sixteen cells go at a step: the areas are as near to the ends as that allows.
    assert tested.curve_shares == [k / 8 for k in range(9)]
    assert tested.deletion < 0.07
    assert tested.insertion == pytest.approx(1 - 1 / 16, abs=0.01)
    # At random the marked cell is gone with the chance of its share, which makes a straight line.
    assert tested.random == pytest.approx(0.5, abs=0.1)
    assert tested.differences["deletion"] == pytest.approx(tested.random - tested.deletion)
    assert tested.differences["insertion"] == pytest.approx(tested.insertion - tested.random)
    for curve in tested.curves.values():
        assert curve[0] > 0.99
        assert curve[-1] == pytest.approx(1 / C, abs=0.05)


def test_an_oracle_looks_into_the_boxes(tested):
    assert tested.pointing == 1
    assert tested.mass > 0.99
    assert tested.mass_uniform == pytest.approx(1 / 16)
    assert tested.pointing_uniform == pytest.approx(1 / 16)
    assert tested.pointing_centre < 0.2
    assert tested.num_boxed_videos > C
    for name in ("pointing_uniform", "pointing_centre", "mass_uniform", "mass_centre"):
        assert tested.intervals[name][0] > 0.7


def test_figures_of_boxes_are_kept_of_each_video(oracle, oracle_report, marked_store, tmp_path):
    by_video, tested = oracle_report.faithfulness.by_video, oracle_report.faithfulness
    assert {name: len(values) for name, values in by_video.items()} == dict.fromkeys(
        BOX_FIGURES, oracle_report.num_videos
    )
    for name, values in by_video.items():
        assert np.mean(values) == pytest.approx(getattr(tested, name))
    chosen = oracle_report.videos[1].path
    (tmp_path / "boxes.csv").write_text(f"path,seconds,x,y\n{chosen},0,1,1\n")
    run = shutil.copytree(oracle, tmp_path / "run")
    found = evaluate(run, marked_store, faithfulness=True, boxes=tmp_path / "boxes.csv")
    pointing = found.faithfulness.by_video["pointing"]
    assert [i for i, value in enumerate(pointing) if value is not None] == [1]
    assert evaluate(run, marked_store).faithfulness.by_video == found.faithfulness.by_video


def test_the_most_frequent_cell_of_the_training_boxes_is_a_baseline(tested, marked_store):
    store = FeatureStore(marked_store)
    marked = np.asarray(store.features())[..., MARKER].reshape(-1, K * K).argmax(axis=1)  # the boxed cell of each frame

    def cells(part: str) -> list:
        return [
            marked[store.videos.first_frame[v] : store.videos.first_frame[v] + store.videos.num_frames[v]]
            for v in store.split_members("default", part)
        ]

    frequent = np.bincount(np.concatenate(cells("train")), minlength=K * K).argmax()
    hits = [(own == frequent).mean() for own in cells("test")]  # blocks of four show all twelve frames alike
    assert tested.pointing_frequent == tested.mass_frequent == pytest.approx(np.mean(hits))
    for name in ("pointing_frequent", "mass_frequent"):
        assert tested.differences[name] == pytest.approx(getattr(tested, name.split("_")[0]) - getattr(tested, name))
        assert tested.intervals[name][0] > 0.7


@pytest.fixture(scope="module")
def boxed_store(marked_store, tmp_path_factory) -> Path:
    """The same store, with the boxes in it and the videos gone."""
    store = FeatureStore(marked_store)
    paths = [store.path_of(video) for video in range(len(store.videos))]
    table, _ = boxes_of(read_boxes(marked_store.parent / "boxes.csv"), paths, "")
    clips_of = [Clip(video, path, 10.0, False) for video, path in enumerate(paths)]
    path = tmp_path_factory.mktemp("boxed") / "s.h5"
    shutil.copy(marked_store, path)
    with h5py.File(path, "r+") as file:
        file.attrs["videos_dir"] = np.bytes_(b"/gone")
        for name, column in vars(placed_boxes(table, clips_of, len(paths), lambda clip: (80, 60))).items():
            file[f"boxes/{name}"] = column
    return path


def test_the_boxes_of_the_store_serve_by_themselves(oracle, boxed_store, oracle_report, tmp_path):
    run, seen = Path(shutil.copytree(oracle, tmp_path / "run")), []
    report = evaluate(run, boxed_store, faithfulness=True, on_progress=seen.append)
    assert report.faithfulness == oracle_report.faithfulness
    assert f"boxes: those in {boxed_store}, of 48 videos" in [event.message for event in seen]
    assert evaluate(run, boxed_store, part="validation", faithfulness=True).faithfulness.num_boxed_videos


def test_a_file_of_boxes_takes_the_place_of_the_stores(oracle, boxed_store, tmp_path):
    run, store = Path(shutil.copytree(oracle, tmp_path / "run")), FeatureStore(boxed_store)
    name = store.path_of(int(store.split_members("default", "test")[0]))
    (tmp_path / "boxes.csv").write_text(f"path,seconds,x,y\n{name},0,1,1\n")
    # The store knows the size of the video, which is gone; no box is of a training video.
    found = evaluate(run, boxed_store, faithfulness=True, boxes=tmp_path / "boxes.csv").faithfulness
    assert (found.num_boxed_frames, found.pointing_frequent, found.mass_frequent) == (1, None, None)
    assert "pointing_frequent" not in found.differences


def test_boxes_of_other_videos_in_the_store_are_no_error(oracle, boxed_store, tmp_path):
    run, store = Path(shutil.copytree(oracle, tmp_path / "run")), tmp_path / "s.h5"
    shutil.copy(boxed_store, store)
    trained = FeatureStore(store).split_members("default", "train")
    boxes = stored_boxes([(int(trained[0]), 0.0, (0, 0, 9, 9))], {int(trained[0]): (80, 60)}, 48)
    with h5py.File(store, "r+") as file:
        del file["boxes"]
        for name, column in vars(boxes).items():
            file[f"boxes/{name}"] = column
    assert evaluate(run, store, faithfulness=True).faithfulness.pointing is None


def test_a_test_from_before_the_most_frequent_cell_is_kept(oracle_report, tmp_path):
    run = Path(shutil.copytree(oracle_report.run, tmp_path / "run"))
    document = json.loads((run / "evaluation-test.json").read_text())
    for name in ("pointing_frequent", "mass_frequent"):
        del document["faithfulness"][name]
    (run / "evaluation-test.json").write_text(json.dumps(document))
    found = evaluate(run).faithfulness
    assert (found.pointing, found.pointing_frequent) == (oracle_report.faithfulness.pointing, None)


def test_a_recogniser_that_ignores_its_attention_scores_zero(tiny_store, tmp_path):
    run = Path(train(tiny_store, quick(epochs=12), runs_dir=tmp_path).run)
    report = evaluate(rewritten(run, ignore_attention), faithfulness=True)
    found = report.faithfulness
    assert report.attention_entropy < 0.9  # it does look at some places more than at others
    assert report.accuracy > report.chance  # and it does know something
    assert found.learned == report.accuracy
    assert set(found.changed) == set(found.shift) == REPLACEMENTS
    for name in REPLACEMENTS:
        assert found.differences[name] == found.changed[name] == found.shift[name] == 0
        assert found.intervals[name] == (0, 0)
    assert found.pointing is found.mass is found.num_boxed_videos is None
    # The order in which the cells go is no matter, but for which cells the random orders happen to take.
    assert abs(found.differences["deletion"]) < 0.1
    assert abs(found.differences["insertion"]) < 0.1


def test_where_nothing_falls_there_is_no_area(tiny_run):
    found = evaluate(rewritten(tiny_run, lambda model, _: model.head.logits.weight.zero_()), faithfulness=True)
    assert found.faithfulness.deletion is found.faithfulness.insertion is found.faithfulness.random is None
    assert not {"deletion", "insertion"} & found.faithfulness.differences.keys()
    assert set(found.faithfulness.curves) == {"deletion", "insertion", "random"}


def test_curves_are_those_of_a_literal_loop(trained):
    run = Run(trained)
    store = FeatureStore(run.manifest.store["path"])
    model, scale = run.load_model(torch.device("cpu")), run.manifest.feature_scale
    frames = np.arange(8).reshape(2, 4) + np.array([[0], [30]])
    filler = np.linspace(-1, 1, 6, dtype=np.float32)
    probe = Probe(model, CubeFeed([store.features()], [scale], torch.device("cpu")), False, 3, 0)
    curves = removal_curves(probe, frames, filler, lambda _: None)
    assert {name: curve.shape for name, curve in curves.items()} == dict.fromkeys(
        ("deletion", "insertion", "random"), (2, 5)
    )
    for block, rows in enumerate(frames):
        cube = torch.from_numpy(store.features()[rows].astype(np.float32)).reshape(1, 4, 4, 6) * scale

        def probs(altered):
            with torch.no_grad():
                return model(altered).frame_logits.softmax(dim=-1)[0, 1:].mean(dim=0)

        attention, predicted = model(cube).attention[0].detach(), int(probs(cube).argmax())
        for kind, descending in (("deletion", True), ("insertion", False)):
            expected = []
            for count in range(5):
                altered = cube.clone()
                for t in range(4):
                    for cell in attention[t].argsort(descending=descending)[:count]:
                        altered[0, t, cell] = torch.from_numpy(filler)
                expected.append(float(probs(altered)[predicted]))
            np.testing.assert_allclose(curves[kind][block], expected, atol=1e-5)
        np.testing.assert_allclose(curves["random"][block, [0, -1]], curves["deletion"][block, [0, -1]])


def test_blocks_take_the_attention_of_blocks_as_far_on():
    videos = np.array([3, 3, 3, 3, 5, 5, 9])
    chosen = donor_blocks(videos, {3: 5, 5: 9, 9: 3})
    assert chosen.tolist() == [4, 4, 5, 5, 6, 6, 0]
    assert donor_blocks(videos, {3: 9, 5: 3, 9: 5}).tolist() == [6, 6, 6, 6, 0, 2, 4]


def test_the_curves_are_of_few_blocks_of_each_video():
    videos = np.repeat([2, 7, 8], [1, 4, 31])
    assert spread_blocks(videos).tolist() == [0, 1, 2, 3, 4, 5, 15, 25, 35]


def test_the_file_holds_the_test_and_testing_again_gives_the_same(oracle, oracle_report, marked_store):
    written = json.loads((oracle / "evaluation-test.json").read_text())
    assert written["faithfulness"] == json.loads(json.dumps(json_safe(asdict(oracle_report.faithfulness))))
    again = evaluate(oracle, faithfulness=True, boxes=marked_store.parent / "boxes.csv")
    assert asdict(again) | {"seconds": 0} == asdict(oracle_report) | {"seconds": 0}


def test_evaluating_without_the_test_keeps_what_an_earlier_call_found(oracle_report, tmp_path):
    run = Path(shutil.copytree(oracle_report.run, tmp_path / "run"))
    seen = []
    again = evaluate(run, on_progress=seen.append)
    assert asdict(again) | {"seconds": 0, "run": ""} == asdict(oracle_report) | {"seconds": 0, "run": ""}
    assert json.loads((run / "evaluation-test.json").read_text()) == json.loads(json.dumps(json_safe(asdict(again))))
    assert [event.message for event in seen][-1] == "run: the test of its attention is that of an earlier call"
    assert evaluate(run, part="validation").faithfulness is None
    assert evaluate(run, top_k=2).faithfulness == oracle_report.faithfulness


@pytest.mark.parametrize("settings", [{"reduction": "vote"}, {"last_steps": 1}, {"block_stride": 12}])
def test_the_test_of_other_settings_is_not_kept(oracle_report, tmp_path, settings):
    run = Path(shutil.copytree(oracle_report.run, tmp_path / "run"))
    assert evaluate(run, **settings).faithfulness is None
    assert json.loads((run / "evaluation-test.json").read_text())["faithfulness"] is None


def test_the_test_of_other_weights_is_not_kept(oracle_report, tmp_path):
    run = rewritten(Path(shutil.copytree(oracle_report.run, tmp_path / "run")), lambda model, _: model.reset_scorer())
    assert evaluate(run).faithfulness is None


@pytest.mark.parametrize("text", ["{", "[]", '{"faithfulness": 1}', '{"faithfulness": {}}'])
def test_a_damaged_report_of_an_earlier_call_is_replaced(oracle_report, tmp_path, text):
    run = Path(shutil.copytree(oracle_report.run, tmp_path / "run"))
    (run / "evaluation-test.json").write_text(text)
    assert evaluate(run).faithfulness is None


def test_a_test_by_another_attnrec_is_not_kept(oracle_report, tmp_path):
    run = Path(shutil.copytree(oracle_report.run, tmp_path / "run"))
    document = json.loads((run / "evaluation-test.json").read_text())
    document["faithfulness"]["unheard_of"] = 1.0
    (run / "evaluation-test.json").write_text(json.dumps(document))
    assert evaluate(run).faithfulness is None


def test_videos_of_several_labels_are_tested_by_map(tmp_path):
    store = write_store(tmp_path / "s.h5", multilabel=True, num_groups=6)
    run = train(store, quick(epochs=12), runs_dir=tmp_path).run
    report = evaluate(run, faithfulness=True)
    assert report.faithfulness.metric == "map"
    assert report.faithfulness.learned == pytest.approx(report.map, abs=1e-6)
    assert set(report.faithfulness.changed) == REPLACEMENTS


def test_a_single_video_has_no_others_attention(tmp_path):
    store = write_store(tmp_path / "s.h5", num_groups=2, splits={"default": [0, 2, 0, 0, 0, 0]})
    run = train(store, quick(epochs=1), runs_dir=tmp_path).run
    found = evaluate(run, faithfulness=True).faithfulness
    assert repr(evaluate(run).faithfulness) == repr(found)  # NaN equals nothing
    assert found.other_video is found.other_class_share is None
    assert set(found.changed) == REPLACEMENTS - {"other_video"}
    assert all(np.isnan(interval).all() for interval in found.intervals.values())


def test_two_runs_agree_as_far_as_their_maps_do(oracle, tmp_path):
    same = Path(shutil.copytree(oracle, tmp_path / "same"))
    other = rewritten(Path(shutil.copytree(oracle, tmp_path / "other")), lambda model, _: model.reset_scorer())
    (first, second, third) = evaluate_runs([oracle, same, other], faithfulness=True).agreement
    assert first.runs == (str(oracle), str(same))
    assert first.jensen_shannon == pytest.approx(0, abs=1e-9)
    assert first.rank_correlation == pytest.approx(1)
    # The marked cells of different videos are the same one in sixteen times.
    assert first.other_jensen_shannon == pytest.approx(15 / 16, abs=0.06)
    for pair in (second, third):
        assert pair.runs[1] == str(other)
        assert 0.3 < pair.jensen_shannon < 1
        assert pair.rank_correlation < 0.9
    assert first.num_maps == 4 * evaluate(oracle).num_blocks


def test_runs_on_other_videos_do_not_compare(tiny_store, tmp_path):
    runs = [train(tiny_store, quick(epochs=1, split=f"cv3-{i}"), runs_dir=tmp_path).run for i in (1, 2)]
    assert evaluate_runs(runs, faithfulness=True).agreement == []


def test_a_baseline_has_no_attention_to_test(tiny_store, trained, tmp_path):
    run = train(tiny_store, quick(model="avg-pool", epochs=1), runs_dir=tmp_path).run
    with pytest.raises(RunError, match="avg-pool has no attention to test; name another by --run"):
        evaluate(run, faithfulness=True)
    (trained / "evaluation-test.json").unlink(missing_ok=True)
    with pytest.raises(RunError, match="avg-pool has no attention"):
        evaluate_runs([trained, run], faithfulness=True)
    assert not (trained / "evaluation-test.json").exists()


def test_boxes_that_do_not_fit_are_refused_before_any_work(oracle, marked_store, tmp_path):
    boxes, store = tmp_path / "boxes.csv", FeatureStore(marked_store)
    tested, trained = (store.path_of(int(store.split_members("default", part)[0])) for part in ("test", "train"))

    def refused(error, message: str, *rows: str, header: str = "path,seconds,x,y") -> None:
        boxes.write_text("\n".join([header, *rows]))
        seen = []
        with pytest.raises(error, match=message):
            evaluate(oracle, faithfulness=True, boxes=boxes, on_progress=seen.append)
        assert not seen

    refused(DataError, r"line 2: no video 'nowhere.mp4' among the dataset's", "nowhere.mp4,0,1,1")
    refused(DataError, r"line 2: 80,0 is outside of .*, which is 80 x 60 px", f"{tested},0,80,0")
    refused(DataError, r"boxes.csv: no box in a frame of the \d+ videos of this part", f"{trained},0,1,1")
    refused(DataError, r"boxes.csv: no box in a frame of the \d+ videos of this part", f"{tested},77,1,1")
    with pytest.raises(ConfigError, match="boxes are for --faithfulness; give that as well"):
        evaluate(oracle, boxes=boxes)


def test_a_video_that_is_gone_is_named(oracle, marked_store, tmp_path):
    store = tmp_path / "s.h5"
    shutil.copy(marked_store, store)
    with h5py.File(store, "r+") as file:
        file.attrs["videos_dir"] = np.bytes_(str(tmp_path / "gone"))
    with pytest.raises(VideoError, match=r"gone/.*mp4: unreadable: No such file"):
        evaluate(oracle, store, faithfulness=True, boxes=marked_store.parent / "boxes.csv")


def test_numbers_of_frames_tell_no_time_at_a_variable_rate(oracle, marked_store, tmp_path):
    store, boxes = tmp_path / "s.h5", tmp_path / "boxes.csv"
    shutil.copy(marked_store, store)
    with h5py.File(store, "r+") as file:
        file["videos/is_variable_rate"][:] = 1
    opened = FeatureStore(store)
    name = opened.path_of(int(opened.split_members("default", "test")[0]))
    boxes.write_text(f"path,frame,x,y\n{name},0,1,1\n")
    with pytest.raises(DataError, match="is of variable rate, numbers of frames tell no time; give `seconds`"):
        evaluate(oracle, store, faithfulness=True, boxes=boxes)
    assert evaluate(oracle, faithfulness=True, boxes=boxes).faithfulness.num_boxed_frames == 1


@pytest.mark.cuda
def test_cuda_gives_what_the_cpu_gives(oracle, marked_store, oracle_report):
    found = evaluate(oracle, faithfulness=True, boxes=marked_store.parent / "boxes.csv", device="cuda").faithfulness
    for name, value in oracle_report.faithfulness.differences.items():
        assert found.differences[name] == pytest.approx(value, abs=1e-3)
