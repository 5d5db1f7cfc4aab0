import base64
import dataclasses
import io
import xml.etree.ElementTree as ET
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from chromium import visit
from compared import BARE, PAPERS, made_table
from pages import HOSTILE, Page, assert_self_contained, assert_usable
from PIL import Image

from attnrec.comparison.columns import COLUMNS, published_texts
from attnrec.comparison.report_page import RowDetail, TableDetail, report_page
from attnrec.comparison.results import ComparedRow, CompareReport, PublishedFigure
from attnrec.drawing.plots import COLOURS, Dot, Line, Point, confusion, differences, intervals, lines, maps
from attnrec.pictures.examples import ExampleClip


def made_row(name: str = "attention", **changes) -> ComparedRow:
    looks = {"model": "attention", "attention": "location", "attention_penalty": 0.0}
    figures = {"fps": 30.0, "figure": 0.75, "interval": (0.6, 0.9)}
    return dataclasses.replace(BARE, name=name, **looks | figures | changes)


BASELINE = dataclasses.replace(BARE, name="avg-pool", model="avg-pool", flags=["is not evaluated"])
ROWS = [made_row(), made_row("attention, lambda 1", attention_penalty=1.0, figure=0.9), BASELINE]


def gif(frames: int = 3) -> bytes:
    pictures = [Image.new("RGB", (16, 12), (80 * k, 0, 200 - 80 * k)) for k in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=200, loop=0)
    return buffer.getvalue()


def made_detail(classes: list[str], rows: list[ComparedRow], **changes) -> TableDetail:
    C = len(classes)
    rng = np.random.default_rng(0)
    log = [
        {"epoch": 1, "loss": 3.0, "validation_loss": 2.0, "validation_accuracy": 0.5, "attention_entropy": 0.9},
        {"epoch": 2, "loss": 1.0, "validation_loss": None, "validation_accuracy": 0.6, "attention_entropy": 0.8},
    ]
    details = [
        RowDetail(
            row=row,
            logs=[log],
            confusion=rng.integers(0, 9, (C, C)),
            class_figures=rng.random(C),
            class_attention=rng.dirichlet(np.ones(9), C).reshape(C, 3, 3) if row.attention else None,
            step_attention=rng.dirichlet(np.ones(9), 30).reshape(30, 3, 3) if row.attention else None,
            commands=["attnrec train 'out.h5'"],
        )
        for row in rows
    ]
    detail = TableDetail(
        table=dataclasses.replace(made_table(*rows), against=rows[0].name),
        notes=["No pictures: the videos are not there."],
        classes=classes,
        class_counts=[6] * C,
        rows=details,
        gallery=[ExampleClip(video("v_a.mp4", "jump", "run"), False, gif())],
        gallery_of=rows[0].name,
    )
    return dataclasses.replace(detail, **changes)


def video(path: str, label: str, predicted: str) -> dict[str, object]:
    return {"path": path, "label": label, "predicted": predicted, "probability": 0.7}


def bare_detail(*rows: ComparedRow, details: list[RowDetail]) -> TableDetail:
    """A table with nothing to show but its rows."""
    table = dataclasses.replace(made_table(*rows), against=None)
    return TableDetail(table, [], ["jump"], [6], details, [], None)


def made_page(detail: TableDetail, published: list[PublishedFigure] | None = None) -> str:
    report = CompareReport([detail.table], None, published or [], "Sharma et al.")
    return report_page(report, [detail], [("Made by", "attnrec")])


@pytest.fixture(scope="module")
def report() -> str:
    """A page whose plots are drawn once."""
    return made_page(made_detail(["jump", "run"], ROWS), [PAPERS])


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
    headings = ["row", "seeds", "acc %", "95 %", "trained", "note"]
    assert [text for _, text in page.all("button") if text != "Hold the pictures still"] == headings
    cells = [(has.get("data-key"), "".join(parts)) for tag, has, parts in page.elements if tag == "td"]
    taken, none = [("90.0", "1.5 min")], (None, "")
    assert cells[:15] == [
        *[("0", "-"), ("0.75", "75.0"), ("0.6", "60.0-90.0"), *taken, none],
        *[("0", "-"), ("0.9", "90.0"), ("0.6", "60.0-90.0"), *taken, none],
        *[("0", "-"), none, none, *taken, ("is not evaluated", "is not evaluated")],
    ]
    meanings = dict(zip([t for _, t in page.all("dt")][1:], [t for _, t in page.all("dd")][1:], strict=True))
    assert meanings == {
        heading: next(column.meaning for column in COLUMNS if column.headed(made_table()) == heading)
        for heading in headings
    }
    (papers,) = published_texts([PAPERS])
    assert cells[-5:] == [(None, text) for text in papers[1:]]
    assert page.all("th", scope="row")[-1][1] == papers[0]


def test_lines_join_rows_that_differ_in_one_setting_alone():
    def row(name: str, hidden: int, penalty: float, fps: float, figure: float) -> ComparedRow:
        settings = {"hidden_dim": hidden, "attention_penalty": penalty, "fps": fps}
        return made_row(name, attention_penalty=penalty, fps=fps, figure=figure, settings=settings)

    rows = [row("a", 8, 1, 6, 0.5), row("b", 8, 0, 6, 0.4), row("c", 16, 0, 6, 0.6), row("d", 16, 2, 6, 0.7),
            row("e", 32, 4, 6, 0.9), row("f", 32, 0, 30, 0.8), row("g", 8, 1, 30, 0.3)]  # fmt: skip
    details = [RowDetail(each, [], None, None, None, None, []) for each in rows]
    drawn = [str(has["alt"]) for has, _ in Page(made_page(bare_detail(*rows, details=details))).all("img")]
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
    detail = made_detail(
        [HOSTILE, "run"],
        rows,
        notes=[HOSTILE],
        gallery=[ExampleClip(video(HOSTILE, HOSTILE, HOSTILE), False, gif())],
    )
    table = dataclasses.replace(detail.table, dataset=HOSTILE, splits=[HOSTILE])
    html = made_page(dataclasses.replace(detail, table=table))
    html.encode("utf-8")
    page = Page(html)
    assert_self_contained(page)
    assert len(page.all("script")) == 1
    shown = HOSTILE.replace("\n", "?").replace("\udcff", "?")
    assert f"{shown}, split {shown}, 24 test videos" in [text for _, text in page.all("h2")]
    for attributes, _ in page.all("img"):
        if str(attributes["src"]).startswith("data:image/svg"):
            tags = {element.tag.rpartition("}")[2] for element in svg_of(attributes["src"]).iter()}
            assert not tags & {"script", "foreignObject", "a"}


def test_runs_without_figures_have_a_page():
    bare = RowDetail(ROWS[2], [], None, None, None, None, [])
    page = Page(made_page(bare_detail(ROWS[2], details=[bare])))
    assert_usable(page)
    assert page.all("img") == []


def test_long_names_are_told_apart_and_look_the_same_in_every_plot():
    names = [f"attention-content-lambda0-fps{rate}-stride2-epochs60-learningrate0.005" for rate in (6, 30)]
    drawn = [Line(name, [Point(1, 0.5), Point(2, 0.25)]) for name in names]
    both, one = (svg_of(lines(each, "epoch", "loss", names=names).address) for each in (drawn, drawn[1:]))
    assert len({text for text in texts(both) if "…" in text}) == 2
    strokes = [{colour for colour in COLOURS if colour in ET.tostring(svg, encoding="unicode")} for svg in (both, one)]
    assert strokes == [set(COLOURS[:2]), {COLOURS[1]}]
    dots = svg_of(intervals([Dot(name, 0.5, None) for name in names]).address)
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
    plot = lines([Line("a", [Point(1, None), Point(2, 0.5), Point(3, 0.25)])], "epoch", "loss")
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
    seen = visit(f"file://{tmp_path}/report.html#sort=1.3", tmp_path)
    assert seen.console == []
    assert seen.fetched == []
    page = Page(seen.dom)
    assert [text for has, text in page.all("th", scope="row") if "data-key" in has] == [
        "attention, lambda 1",
        "attention",
        "avg-pool",
    ]
    assert len(page.all("th", **{"aria-sort": "descending"})) == 1


def test_the_page_begins_with_what_was_found():
    better = made_row("attention, lambda 1", figure=0.9, corrected_p_value=0.01)
    like = made_row("content", figure=0.7, corrected_p_value=0.4)
    detail = made_detail(["jump", "run"], [made_row(), better, like, BASELINE], class_counts=[9, 3])
    page = Page(made_page(detail))
    assert (
        "The highest accuracy is 90.0 % (60.0 to 90.0), of attention, lambda 1, on features of googlenet. Always "
        "naming the largest class would be right for 75.0 %. 1 of 2 rows can be told apart from attention."
    ) in page.text


def test_differences_that_are_none_are_not_drawn():
    detail = made_detail(["jump", "run"], [made_row(), made_row("content")])
    alike = [dataclasses.replace(each, class_figures=np.array([0.5, np.nan])) for each in detail.rows]
    for details, number in ((alike, 0), (detail.rows, 1)):
        page = Page(made_page(dataclasses.replace(detail, rows=details)))
        drawn = [has for has, _ in page.all("img") if str(has["alt"]).startswith("Difference by class")]
        assert len(drawn) == number
