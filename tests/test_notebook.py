"""The notebook guide: its code runs as it stands, and what its cells end in shows itself."""

import ast
import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import write_actions
from pages import Page
from PIL import Image

import attnrec
from attnrec.cli.guide import read_guide
from attnrec.training.run import Run

CELLS = re.findall(r"^```python\n(.*?)^```$", read_guide("notebook").text, re.DOTALL | re.MULTILINE)


def run_cell(code: str, names: dict[str, object]) -> object:
    """Run a cell as a notebook does; returns the value of its last line, if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the cells of the guide end in, and the names that they define."""
    folder = tmp_path_factory.mktemp("notebook")
    write_actions(folder / "videos", num_groups=5, num_frames=12, fps=6, width=80, height=60)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        values = [run_cell(cell, names) for cell in CELLS]
        # What follows reads the same files.
        pages = {type(value).__name__: html_of(value) for value in values if hasattr(value, "_repr_html_")}
    return values, names, pages, folder


def html_of(value: object) -> Page:
    return Page(f"<!DOCTYPE html><html><body>{value._repr_html_()}</body></html>")


def image_of(address: str) -> np.ndarray:
    kind, content = address.split(",", 1)
    assert kind in ("data:image/png;base64", "data:image/gif;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_every_cell_runs_and_shows_something(shown):
    values, names, _, _ = shown
    assert len(CELLS) == 10
    assert all(value is not None for value in values)
    assert names["losses"]
    assert values[5] is True


def test_texts_are_short(shown):
    for value in shown[0]:
        assert len(repr(value)) < 1500, repr(value)
        assert "object at 0x" not in repr(value)


def test_a_run_shows_its_settings_and_curves(shown):
    page = shown[2]["TrainReport"]
    assert {"fps", "epochs", "best epoch"} <= {text for _, text in page.all("td")}
    (picture,) = page.all("img")
    assert picture[0]["src"].startswith("data:image/svg+xml")
    assert "Loss in training" in picture[0]["alt"]


def test_an_evaluation_shows_figures_classes_and_confusion(shown):
    _, names, pages, _ = shown
    figures, page = names["figures"], pages["EvaluationReport"]
    cells = {text for _, text in page.all("td")}
    assert {of.name for of in figures.classes} <= cells
    assert any(cell.startswith(f"{100 * figures.accuracy:.1f} %") for cell in cells)
    assert [has for has, _ in page.all("img") if f" of {figures.num_videos} right" in has["alt"]]


def test_a_clip_shows_its_prediction_and_where_the_model_looks(shown, monkeypatch):
    _, names, pages, folder = shown
    monkeypatch.chdir(folder)
    attended, page = names["attended"], pages["AttendedClip"]
    assert f"{100 * attended.prediction.probability:.1f} %" in page.text
    picture = image_of(page.all("img")[0][0]["src"])
    height, width = picture.shape[0] // 2, picture.shape[1] // min(6, len(attended))
    steps = np.unique(np.linspace(0, len(attended) - 1, 6).round().astype(int)).tolist()
    np.testing.assert_array_equal(picture[:height, :width], attended.pictures(steps[:1], width=160)[0])
    np.testing.assert_array_equal(picture[height:, :width], attended.overlays(steps[:1], width=160)[0])


def test_a_comparison_shows_its_rows(shown):
    _, names, pages, _ = shown
    table = names["table"].tables[0]
    cells = [text for _, text in pages["CompareReport"].all("td")]
    for row in table.rows:
        assert row.name in cells
        assert f"{100 * row.figure:.1f}" in " ".join(cells)
    assert html_of(table).all("table")


def test_a_picture_shows_itself(shown):
    _, _, pages, folder = shown
    ((has, _),) = pages["VisualizeReport"].all("img")
    assert base64.b64decode(has["src"].split(",", 1)[1]) == (folder / "where.gif").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".png", ".html"])
def test_every_kind_of_picture_shows_itself(shown, tmp_path, suffix):
    _, names, _, folder = shown
    report = attnrec.visualize(names["recognizer"], folder / names["clip"], tmp_path / f"where{suffix}")
    page = html_of(report)
    (tag,) = {"video", "img", "iframe"} & {tag for tag, _, _ in page.elements}
    assert tag == {".mp4": "video", ".png": "img", ".html": "iframe"}[suffix]


def test_hostile_names_and_damage_are_shown_as_text():
    from attnrec.evaluation.attended import Prediction

    name = "<script>alert(1)</script>\n\x1b"
    html = Prediction(name, name, 0.5, [name], {name: 0.5}, 1, "truncated")._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html
    assert "truncated" in html


def test_runs_are_taken_as_reports_folders_and_themselves(shown, monkeypatch):
    _, names, _, folder = shown
    monkeypatch.chdir(folder)
    report = names["report"]
    figures = [attnrec.evaluate(run).accuracy for run in (report, report.run, Path(report.run), Run(report.run))]
    assert len(set(figures)) == 1
    assert repr(attnrec.load_run(names["figures"])) == repr(names["recognizer"])


def test_a_run_without_epochs_shows_no_curves(shown, tmp_path):
    _, names, _, folder = shown
    bare = shutil.copytree(folder / names["report"].run, tmp_path / "bare")
    (bare / "training.jsonl").unlink()
    assert html_of(Run(bare)).all("img") == []


def test_a_gallery_is_made_of_a_report_and_shows_itself(shown, tmp_path, monkeypatch):
    _, names, _, folder = shown
    monkeypatch.chdir(folder)
    page = html_of(attnrec.gallery(names["report"], "test", str(tmp_path / "gallery.png"), num_right=1, num_wrong=1))
    assert image_of(page.all("img")[0][0]["src"]).size > 0


def test_pictures_come_in_the_order_of_the_steps(shown, monkeypatch):
    _, names, _, folder = shown
    monkeypatch.chdir(folder)
    attended = names["attended"]
    for of in (attended.pictures, attended.overlays):
        np.testing.assert_array_equal(of([3, 0, 3], width=64), of(width=64)[[3, 0, 3]])
        assert of([], width=64).shape[0] == 0
