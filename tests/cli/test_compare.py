import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fresh import run_fresh
from small_store import write_store
from typer.testing import CliRunner

from attnrec.cli.app import app
from attnrec.cli.compare_tables import write_csv, write_markdown
from attnrec.comparison.compare import compare
from attnrec.training.run import Run, find_runs

TINY = (
    "--block-frames", "4", "--stride", "4", "--hidden", "8", "--layers", "1", "--epochs", "1", "--fps", "10", "--jobs",
    "1",
)  # fmt: skip
GRID = ("compare", "--models", "attention,avg-pool", "--lambdas", "0,1", "--splits", "cv3-1,cv3-2", *TINY)


def attnrec(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store, and a grid over two folds that is there."""
    folder = tmp_path_factory.mktemp("grid")
    write_store(folder / "out.h5", classes=("a|b", "<script>"), dataset="<b>tiny</b>|")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = attnrec(*GRID, "--quiet")
        assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_second_call_trains_nothing_and_the_finished_runs_are_the_same(folder):
    before = {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = attnrec(*GRID)
    assert again.exit_code == 0
    assert again.stderr.splitlines()[-1] == "6 runs: trained 0, evaluated 0"
    assert {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    for name in ("attention-lambda0", "attention-lambda1", "avg-pool"):
        assert re.search(rf"^ {name} +1 ", again.stdout, re.MULTILINE)
        assert name in attnrec("compare").stdout
    assert "splits cv3-1, cv3-2" in again.stdout
    assert re.search(r"^Differences from attention-lambda0 *$", again.stdout, re.MULTILINE)
    assert "Paired bootstrap over 6 groups of videos" in again.stdout


def test_the_json_is_the_librarys_report(folder):
    document = json.loads(attnrec("compare", "--json").stdout)
    report = compare(runs_dir="runs")
    (table,), (expected,) = document["tables"], report.tables
    assert [row["figure"] for row in table["rows"]] == [row.figure for row in expected.rows]
    assert [row["p_value"] for row in table["rows"]] == [row.p_value for row in expected.rows]
    assert document["grid"] is None


@pytest.mark.parametrize(
    "options", [[], ["--json"], ["--csv", "t.csv", "--markdown", "t.md", "--force"], ["--dry-run"]]
)
def test_finished_runs_are_compared_without_what_trained_them(options):
    text, loaded = run_fresh([["compare", *options]])
    assert "attention-" in text
    assert not loaded & {"torch", "torchvision", "h5py", "sklearn", "scipy", "PIL"}


def test_the_csv_has_every_row_unrounded(tmp_path):
    path = tmp_path / "table.csv"
    assert attnrec("compare", "--against", "avg-pool", "--csv", path).exit_code == 0
    (table,) = compare(runs_dir="runs", against="avg-pool").tables
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [row.name for row in table.rows]
    assert [float(row["figure"]) for row in rows] == [row.figure for row in table.rows]
    assert {row["splits"] for row in rows} == {"cv3-1 cv3-2"}
    assert [row["lambda"] for row in rows] == [
        "" if row.attention_penalty is None else str(row.attention_penalty) for row in table.rows
    ]
    differences = {row["row"]: row["difference"] for row in rows}
    assert differences["avg-pool"] == ""
    assert float(differences["attention-lambda0"]) == next(
        row.difference for row in table.rows if row.name == "attention-lambda0"
    )
    assert "exists; use --force" in attnrec("compare", "--csv", path).stderr
    assert attnrec("compare", "--csv", path, "--force").exit_code == 0


def test_the_markdown_has_the_tables_and_no_markup_of_others(tmp_path):
    path = tmp_path / "table.md"
    assert attnrec("compare", "--markdown", path).exit_code == 0
    text = path.read_text()
    assert text.startswith("### &lt;b&gt;tiny&lt;/b&gt;\\|, splits cv3-1, cv3-2")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(lines) for lines in tables] == [2 + 3, 2 + 2, 2 + 3]
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
        assert re.fullmatch(r"\| ---( \| ---:)+ \|", lines[1])
    assert "<" not in text


def test_no_name_breaks_a_line_of_the_markdown(tmp_path):
    report = compare(runs_dir="runs")
    odd = "a\n# b\udcff"
    (table,) = [dataclasses.replace(table, dataset=odd, apart=f"features of {odd}") for table in report.tables]
    write_markdown(tmp_path / "table.md", dataclasses.replace(report, tables=[table]), False)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(r"### a\n# b\udcff, splits")
    assert r"A table of its own: features of a\n# b\udcff." in lines
    assert not [line for line in lines if line.startswith("# ")]


def test_the_csv_has_what_was_found_of_the_attention(tmp_path):
    report = compare(runs_dir="runs")
    (table,) = report.tables
    rows = [dataclasses.replace(table.rows[0], faithfulness={"uniform": 0.25, "mass": 0.5}), *table.rows[1:]]
    tested = dataclasses.replace(report, tables=[dataclasses.replace(table, rows=rows)])
    write_csv(tmp_path / "table.csv", tested, False)
    with (tmp_path / "table.csv").open(newline="") as file:
        first, *others = csv.DictReader(file)
    assert (first["uniform"], first["mass"], first["deletion"]) == ("0.25", "0.5", "")
    assert {row["uniform"] for row in others} == {""}


def test_the_store_of_a_report_of_named_runs_may_have_moved(folder, tmp_path, monkeypatch):
    run, moved = next((folder / "runs").glob("attention*")), tmp_path / "stores" / "moved.h5"
    moved.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    (folder / "out.h5").rename(moved)
    try:
        for page, store in {"lacking.html": [], "whole.html": ["--features", moved]}.items():
            result = attnrec("compare", run, "--html", page, *store, "--jobs", "1")
            assert result.exit_code == 0, result.stderr
    finally:
        moved.rename(folder / "out.h5")
    said = "No mean attention of attention"
    assert [said in Path(page).read_text(encoding="utf-8") for page in ("lacking.html", "whole.html")] == [True, False]
    assert attnrec("compare", run, "--features", moved).exit_code == 2


def test_a_row_is_named_by_a_folder_with_a_slash_as_well(folder):
    run = next((folder / "runs").glob("avg-pool*"))
    result = attnrec("compare", "--against", f"runs/{run.name}/")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"^Differences from avg-pool *$", result.stdout, re.MULTILINE)


def test_the_dry_run_shows_the_grid_and_trains_nothing(folder):
    before = sorted(folder.rglob("*"))
    result = attnrec(*GRID, "--seeds", "2", "--dry-run")
    assert result.exit_code == 0
    assert "12 runs: 6 done, 6 to train" in result.stdout
    assert re.search(r"takes about [\d.]+ s at most", result.stdout)
    plan = json.loads(attnrec(*GRID, "--dry-run", "--json").stdout)
    assert {cell["state"] for cell in plan["cells"]} == {"done"}
    assert "has test figures" in attnrec("compare", "--dry-run").stdout
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lambdas", "0,much"], ["--fps", "six"], ["runs/x", "--models", "attention"], ["runs/x", "--hidden", "8"],
        ["--seeds", "0"], ["--seeds", "1001"], ["--lambdas", "nan"], ["--fps", "6,inf"], ["--jobs", "100000"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(arguments):
    result = attnrec("compare", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_lists_may_be_repeated(folder):
    split = [word for word in GRID if word not in ("attention,avg-pool", "--models")]
    plan = attnrec(*split, "--model", "attention", "--model", "avg-pool", "--dry-run", "--json")
    assert {cell["state"] for cell in json.loads(plan.stdout)["cells"]} == {"done"}


def test_a_failed_run_is_exit_code_1_and_is_named(folder):
    run = Run(compare(runs_dir="runs").tables[0].rows[0].runs[0].path)
    finished_at = run.manifest.finished_at
    run.update(finished_at=None)
    (run.path / "checkpoint").mkdir()
    (run.path / "checkpoint" / "state.pt").write_text("no checkpoint")
    result = attnrec(*GRID)
    shutil.rmtree(run.path / "checkpoint")
    run.update(finished_at=finished_at)
    assert result.exit_code == 1
    assert "warning: 1 run failed; the same command tries again:" in result.stderr
    assert "state.pt: cannot be used (" in result.stderr.splitlines()[-1]
    assert "has no figures on" in result.stdout


@pytest.mark.slow
def test_a_grid_that_is_killed_again_and_again_ends_in_the_same_table(folder, tmp_path):
    arguments = [sys.executable, "-m", "attnrec", *GRID, "--json", "--runs", tmp_path / "runs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for seconds in (4, 6, 8):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        time.sleep(seconds)
        process.kill()
        process.wait()
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    names = ("name", "figure", "sd", "interval", "difference", "p_value", "corrected_p_value")
    tables = [json.loads(text)["tables"][0]["rows"] for text in (done.stdout, attnrec(*GRID, "--json").stdout)]
    assert [[row[name] for name in names] for row in tables[0]] == [[row[name] for name in names] for row in tables[1]]
    assert len(find_runs(tmp_path / "runs")) == 6
