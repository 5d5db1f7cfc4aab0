import dataclasses

import pytest
from compared import BARE, FULL, PAPERS, made_table

from attnrec.cli.compare_tables import show_comparison, write_csv, write_markdown
from attnrec.comparison.columns import COLUMNS, PUBLISHED, csv_names, csv_values, published_texts, shown_columns
from attnrec.comparison.results import ComparedRow, CompareReport


def shown(*rows: ComparedRow, metric: str = "accuracy") -> dict[str, list[str | None]]:
    """Texts of each column that is shown, by its heading on the page."""
    table = made_table(*rows, metric=metric)
    return {
        column.headed_on_page(table): [column.said(table, row) for row in rows]
        for column in shown_columns(COLUMNS, table)
    }


def test_every_column_that_people_see_has_its_own_heading_and_a_meaning():
    table = made_table(FULL)
    seen = [column for column in COLUMNS if column.heading]
    assert len({column.headed_on_page(table) for column in seen}) == len(seen)
    assert all(column.meaning for column in seen)
    assert all(column.csv or column.heading for column in COLUMNS)
    assert len(set(csv_names())) == len(csv_names()) == len(csv_values(table, FULL))


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("row", "attention"),
        ("seeds", "2"),
        ("acc %", "75.0"),
        ("sd", "2.1"),
        ("95 %", "60.0-90.0"),
        ("difference, points", "+15.0"),
        ("difference, 95 %", "+1.0 to +30.0"),
        ("p", "<0.001"),
        ("p corrected", "0.001"),
        ("parameters", "1234567"),
        ("trained", "1.5 min"),
        ("blocks/s", "393"),
        ("paper %", "84.96"),
        ("shuffled", "12.5"),
        ("peak in box", "50.0"),
        ("peak in box, 95 %", "40.0-60.0"),
        ("over centre", "-25.0"),
        ("over centre, 95 %", "-30.0 to +10.0"),
        ("mass in box, centre", "50.0"),
        ("unlike the paper", "backbone; split"),
        ("note", "a; b"),
    ],
)
def test_a_column_says_its_value(heading, text):
    assert shown(FULL)[heading] == [text]


def test_a_column_is_shown_where_a_row_has_something_to_say():
    assert set(shown(BARE)) == {"row", "seeds", "trained"}
    assert set(shown(BARE, FULL)) == set(shown(FULL)) == {
        column.headed_on_page(made_table(FULL)) for column in COLUMNS if column.heading
    }  # fmt: skip
    assert shown(BARE, FULL)["sd"] == [None, "2.1"]
    assert "mAP %" in shown(FULL, metric="map")
    assert "sd" not in shown(dataclasses.replace(FULL, sd=float("nan")))


def test_terminal_markdown_and_csv_have_every_column(tmp_path, capsys):
    table = made_table(FULL, BARE)
    report = CompareReport([table], None, [PAPERS], "Sharma et al.")
    show_comparison(report)
    write_markdown(tmp_path / "t.md", report, False)
    write_csv(tmp_path / "t.csv", report, False)
    terminal, markdown = capsys.readouterr().out, (tmp_path / "t.md").read_text(encoding="utf-8")
    for column in COLUMNS:
        if column.heading and column.csv not in (("differs",), ("flags",)):
            assert f" {column.headed(table)} " in markdown.replace("|", " ")
            assert f" {column.headed(table)} " in terminal.replace("\n", " ")
            assert f"| {column.said(table, FULL)} |".replace("<", "&lt;") in markdown
    for line in ("attention: a", "attention: b", "attention differs from the paper's: backbone; split"):
        assert line in terminal
        assert line in markdown
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(csv_names())


def test_csv_has_unrounded_values_and_both_ends_of_an_interval():
    row = dict(zip(csv_names(), csv_values(made_table(FULL), FULL), strict=True))
    assert (row["figure"], row["low"], row["high"], row["p_value"]) == (0.75, 0.6, 0.9, 0.0004)
    assert (row["seeds"], row["splits"], row["flags"]) == ("0 1", "cv3-1 cv3-2", "a; b")
    assert (row["time_shuffled"], row["pointing_over_centre_high"]) == (0.125, 0.1)
    bare = dict(zip(csv_names(), csv_values(made_table(BARE), BARE), strict=True))
    assert (bare["row"], bare["low"], bare["high"], bare["figure"]) == ("softmax", None, None, None)


def test_the_papers_figures_have_one_table():
    no_lambda = dataclasses.replace(PAPERS, attention_penalty=None)
    texts = published_texts([PAPERS, no_lambda])
    assert dict(zip(PUBLISHED, texts[0], strict=True))["published %"] == "84.96"
    assert [row[2] for row in texts] == ["0", "-"]
