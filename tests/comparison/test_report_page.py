import base64
import dataclasses
import io
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from chromium import visit
from pages import HOSTILE, Page, assert_self_contained, assert_usable
from PIL import Image

from attnrec.comparison.plots import COLOURS, Line, confusion, differences, intervals, lines, maps
from attnrec.comparison.report_page import Cell, Curve, GalleryClip, ReportData, ReportTable, RowDetail, report_page


@dataclass(frozen=True)
class Row:
    name: str = "attention"
    model: str = "attention"
    attention: str | None = "location"
    attention_penalty: float | None = 0.0
    fps: float = 30.0
    figure: float | None = 0.75
    interval: tuple[float, float] | None = (0.6, 0.9)
    settings: dict[str, object] = field(default_factory=dict)


ROWS = [
    Row(),
    Row("attention, lambda 1", attention_penalty=1.0, figure=0.9),
    Row("avg-pool", "avg-pool", None, None, figure=None, interval=None),
]
MEANINGS = {"row": "What it is.", "%": "How good it is.", "note": "What to know."}
PUBLISHED = [["attention", "ucf11", "0", "accuracy", "84.96", "Table 1"]]


def gif(frames: int = 3) -> bytes:
    pictures = [Image.new("RGB", (16, 12), (80 * k, 0, 200 - 80 * k)) for k in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    return buffer.getvalue()


def cell_of(figure: float | None) -> Cell:
    return Cell("", None) if figure is None else Cell(f"{100 * figure:.1f}", figure)


def made_table(classes: list[str], rows: list[Row], **changes) -> ReportTable:
    C = len(classes)
    rng = np.random.default_rng(0)
    curve = Curve([1, 2], [3.0, 1.0], [2.0, None], [0.5, 0.6], [None, None], [0.9, 0.8])
    details = [
        RowDetail(
            row=row,
            curves=[curve],
            confusion=rng.integers(0, 9, (C, C)),
            class_figures=rng.random(C),
            class_attention=rng.dirichlet(np.ones(9), C).reshape(C, 3, 3) if row.attention else None,
            step_attention=rng.dirichlet(np.ones(9), 30).reshape(30, 3, 3) if row.attention else None,
            commands=["attnrec train 'out.h5'"],
        )
        for row in rows
    ]
    table = ReportTable(
        heading="ucf11, split default, 24 test videos",
        headings=list(MEANINGS),
        cells=[[Cell(row.name, row.name), cell_of(row.figure), Cell("", None)] for row in rows],
        metric="accuracy",
        against=rows[0].name,
        warnings=[],
        notes=["No pictures: the videos are not there."],
        classes=classes,
        class_counts=[6] * C,
        rows=details,
        gallery=[GalleryClip("v_a.mp4", "jump", "run", 0.7, False, gif())],
        gallery_of=rows[0].name,
    )
    return dataclasses.replace(table, **changes)


def made_data(classes: list[str] | None = None, rows: list[Row] | None = None, **changes) -> ReportData:
    table = made_table(classes or ["jump", "run"], rows or ROWS, **changes)
    headings = ["model", "dataset", "lambda", "metric", "published %", "source"]
    return ReportData([("Made by", "attnrec")], [table], MEANINGS, PUBLISHED, headings, "Sharma et al.")


def bare_page(table: ReportTable) -> Page:
    """A page of a table and nothing else."""
    return Page(report_page(ReportData([], [table], MEANINGS, [], [], "")))


@pytest.fixture(scope="module")
def report() -> str:
    """A page whose plots are drawn once."""
    return report_page(made_data())


def svg_of(address: str | None) -> ET.Element:
    kind, content = str(address).removeprefix("data:").split(",", 1)
    assert kind == "image/svg+xml;base64"
    return ET.fromstring(base64.b64decode(unquote_to_bytes(content)))


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter("{http://www.w3.org/2000/svg}text")]


def test_a_report_holds_all_it_shows(report):
    page = Page(report)
    assert_self_contained(page)
    assert_usable(page)
    headings = [text for _, text in page.all("h3")]
    expected = ["Results", "Where it looked: attention", "By class", "Where it looks on average", "Training"]
    assert headings == [*expected, "How each run was made"]
    captions = [text for _, text in page.all("figcaption")]
    assert {"Accuracy by lambda", "Accuracy on validation videos"} <= set(captions)
    assert "accuracy by frames a second" not in captions  # there is one rate
    assert "Penalty above its floor" not in captions  # nobody measured it
    assert {"Entropy of the attention", "attention, lambda 1 less attention", "Confusion: avg-pool"} <= set(captions)
    assert len([caption for caption in captions if caption.startswith(("By class:", "By step:"))]) == 4
    assert "No pictures: the videos are not there." in page.text
    assert "attnrec train 'out.h5'" in page.text
    assert "84.96" in page.text


def test_the_table_has_the_cells_and_what_its_columns_mean(report):
    page = Page(report)
    shown = [text for _, text in page.all("button") if text != "Hold the pictures still"]
    assert shown == list(MEANINGS)
    cells = [(has.get("data-key"), "".join(parts)) for tag, has, parts in page.elements if tag == "td"]
    assert cells[:6] == [("0.75", "75.0"), (None, ""), ("0.9", "90.0"), (None, ""), (None, ""), (None, "")]
    meanings = dict(zip([t for _, t in page.all("dt")][1:], [t for _, t in page.all("dd")][1:], strict=True))
    assert meanings == MEANINGS
    assert cells[-5:] == [(None, text) for text in PUBLISHED[0][1:]]
    assert page.all("th", scope="row")[-1][1] == PUBLISHED[0][0]


def test_lines_join_rows_that_differ_in_one_setting_alone():
    def row(name: str, hidden: int, penalty: float, fps: float, figure: float) -> Row:
        settings = {"hidden_dim": hidden, "attention_penalty": penalty, "fps": fps}
        return Row(name, attention_penalty=penalty, fps=fps, figure=figure, settings=settings)

    rows = [row("a", 8, 1, 6, 0.5), row("b", 8, 0, 6, 0.4), row("c", 16, 0, 6, 0.6), row("d", 16, 2, 6, 0.7),
            row("e", 32, 4, 6, 0.9), row("f", 32, 0, 30, 0.8), row("g", 8, 1, 30, 0.3)]  # fmt: skip
    details = [RowDetail(each, [], None, None, None, None, []) for each in rows]
    table = dataclasses.replace(made_table(["jump"], ROWS[:1]), rows=details, gallery=[], gallery_of=None, against=None)
    drawn = [str(has["alt"]) for has, _ in bare_page(table).all("img")]
    by_lambda, by_rate = (
        next(words for words in drawn if f" by {of}: " in words) for of in ("lambda", "frames a second")
    )
    assert by_lambda.partition(": ")[2].split("; ") == [
        "attention (location), 6 a second, with b from 40 at 0 to 50 at 1",
        "attention (location), 6 a second, with c from 60 at 0 to 70 at 2",
    ]
    assert by_rate.partition(": ")[2] == "attention (location), lambda 1 from 50 at 6 to 30 at 30"


def test_names_are_text_whatever_they_say():
    rows = [dataclasses.replace(ROWS[0], name=HOSTILE), ROWS[1]]
    hostile = {
        "heading": HOSTILE,
        "notes": [HOSTILE],
        "gallery": [GalleryClip(HOSTILE, HOSTILE, HOSTILE, 0.5, False, gif())],
    }
    html = report_page(made_data([HOSTILE, "run"], rows, **hostile))
    html.encode("utf-8")
    page = Page(html)
    assert_self_contained(page)
    assert len(page.all("script")) == 1
    shown = HOSTILE.replace("\n", "?").replace("\udcff", "?")
    assert shown in [text for _, text in page.all("h2")]
    for attributes, _ in page.all("img"):
        if str(attributes["src"]).startswith("data:image/svg"):
            tags = {element.tag.rpartition("}")[2] for element in svg_of(attributes["src"]).iter()}
            assert not tags & {"script", "foreignObject", "a"}


def test_runs_without_figures_have_a_page():
    bare = RowDetail(ROWS[2], [], None, None, None, None, [])
    table = dataclasses.replace(made_table(["jump"], ROWS[:1]), rows=[bare], gallery=[], gallery_of=None, against=None)
    page = bare_page(table)
    assert_usable(page)
    assert page.all("img") == []


def test_long_names_are_told_apart_and_look_the_same_in_every_plot():
    names = [f"attention-content-lambda0-fps{rate}-stride2-epochs60-learningrate0.005" for rate in (6, 30)]
    drawn = [Line(name, [1, 2], [0.5, 0.25]) for name in names]
    both, one = (svg_of(lines(each, "epoch", "loss", names=names).address) for each in (drawn, drawn[1:]))
    assert len({text for text in texts(both) if "…" in text}) == 2
    strokes = [{colour for colour in COLOURS if colour in ET.tostring(svg, encoding="unicode")} for svg in (both, one)]
    assert strokes == [set(COLOURS[:2]), {COLOURS[1]}]
    dots = svg_of(intervals(names, [0.5, 0.25], [None, None]).address)
    assert len({text for text in texts(dots) if "…" in text}) == 2


def test_a_confusion_has_the_counts_where_they_belong():
    plot = confusion(np.array([[5, 1, 0], [0, 4, 0], [2, 0, 3]]), ["a", "b", "$x$"])
    svg = svg_of(plot.address)
    assert [text for text in texts(svg) if text.isdigit()] == ["5", "1", "4", "2", "3"]
    assert texts(svg).count("$x$") == 2
    assert plot.words == "12 of 15 right; most often $x$ taken for a, 2 times"


def test_plots_take_letters_that_the_font_lacks_and_values_that_are_missing():
    drawn = texts(svg_of(differences(np.array([0.1, np.nan]), ["腕", "leg"], [3, 0]).address))
    assert "腕 (3)" in drawn
    assert "leg (0)" not in drawn
    plot = lines([Line("a", [1, 2, 3], [None, 0.5, 0.25])], "epoch", "loss")
    assert plot.words == "loss by epoch: a from 0.5 at 2 to 0.25 at 3"
    attention = np.full((2, 3, 3), np.nan)
    attention[0] = np.eye(3) / 3
    assert maps(attention, ["a", "none"]).words == "Peaks: a 3.0 x uniform in row 1, column 1"


def test_a_browser_shows_the_page_in_the_colours_that_are_preferred(report, tmp_path):
    (tmp_path / "report.html").write_text(report, encoding="utf-8")
    seen = visit(f"file://{tmp_path}/report.html", tmp_path, size=(390, 1400), picture=True, dark=True)
    assert seen.console == []
    assert seen.fetched == []
    assert seen.picture is not None
    brightness = seen.picture.mean(axis=2)
    assert np.median(brightness) == pytest.approx(20, abs=12)
    assert (brightness > 225).mean() > 0.003  # text


def test_a_browser_sorts_by_the_column_that_is_asked_for(report, tmp_path):
    (tmp_path / "report.html").write_text(report, encoding="utf-8")
    seen = visit(f"file://{tmp_path}/report.html#sort=1.2", tmp_path)
    assert seen.console == []
    assert seen.fetched == []
    page = Page(seen.dom)
    assert [text for has, text in page.all("th", scope="row") if "data-key" in has] == [
        "attention, lambda 1",
        "attention",
        "avg-pool",
    ]
    assert len(page.all("th", **{"aria-sort": "descending"})) == 1
