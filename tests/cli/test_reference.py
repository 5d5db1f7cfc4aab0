import re
import shutil
from pathlib import Path

import pytest
import typer

from attnrec.cli.app import app
from attnrec.cli.reference import main, reference_files

TOP = Path(__file__).resolve().parents[2]
ROOT = typer.main.get_command(app)


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The generated files in a folder of a test's own."""
    for folder in ("man", "completions"):
        shutil.copytree(TOP / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_are_up_to_date():
    files = reference_files()
    assert {path for folder in ("man", "completions") for path in (TOP / folder).iterdir()} == {TOP / p for p in files}
    for path, text in files.items():
        assert (TOP / path).read_text(encoding="utf-8") == text, f"{path}: run python -m attnrec.cli.reference"


def test_check_is_content_with_them(copy, capsys):
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["man/attnrec-train.1", "completions/_attnrec"])
def test_check_names_a_file_that_differs(copy, capsys, name):
    path = copy / name
    path.write_text(path.read_text() + ".\n")
    before = path.read_text()
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == f"{name} is not up to date; run python -m attnrec.cli.reference\n"
    assert path.read_text() == before


def test_check_names_a_file_that_is_missing_and_one_too_many(copy, capsys):
    (copy / "man/attnrec.1").unlink()
    (copy / "man/attnrec-dance.1").write_text("")
    assert main(["--check"]) == 1
    assert re.findall(r"^\S+", capsys.readouterr().err, re.MULTILINE) == ["man/attnrec.1", "man/attnrec-dance.1"]


def test_writing_brings_a_stale_file_up_to_date(copy, capsys):
    (copy / "man/attnrec-train.1").write_text("old")
    shutil.rmtree(copy / "completions")
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_other_arguments_are_wrong_usage(copy, capsys):
    assert main(["--chek"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(ROOT.commands))
def test_a_page_names_every_option_and_argument(name):
    page = reference_files()[Path("man", f"attnrec-{name}.1")].replace("\\-", "-")
    for parameter in ROOT.commands[name].params:
        if parameter.param_type_name == "argument":
            assert parameter.name.upper() in page
        else:
            for option in parameter.opts:
                assert re.search(rf"^\.B .*(?<![-\w]){re.escape(option)}(?![-\w])", page, re.MULTILINE), option
        assert parameter.help.split(".")[0] in page
    assert ".SH EXAMPLES" in page
    assert f"attnrec {name}" in page.partition(".SH EXAMPLES")[2]


def test_the_first_page_names_every_command():
    page = reference_files()[Path("man", "attnrec.1")]
    for name in ROOT.commands:
        assert f".B {name}\n" in page


def test_pages_state_exit_codes_and_environment():
    for path, page in reference_files().items():
        if path.parts[0] == "man":
            codes = page.partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
            assert re.findall(r"^\.B (\d+)$", codes, re.MULTILINE) == ["0", "1", "2", "130"]
            assert "ATTNREC_DEBUG" in page


def test_no_line_is_taken_for_a_macro_by_accident():
    macros = {"TH", "SH", "TP", "B", "PP", "nf", "fi"}
    for path, page in reference_files().items():
        if path.parts[0] == "man":
            found = {line[1:].split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
            assert found <= macros
