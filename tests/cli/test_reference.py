import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from attnrec.cli.app import app
from attnrec.cli.guide import all_guides
from attnrec.cli.manpage import page, sections_of
from attnrec.cli.reference import main, reference_files

# What docutils writes, the macros for indentation at the top of each page included.
MACROS = {".TH", ".SH", ".TP", ".B", ".IP", ".sp", ".EX", ".EE", ".TS", ".TE", ".INDENT", ".UNINDENT"}
HEAD = {".", "..", ".de", ".de1", ".nr", ".in", '.\\"', "'\\\""}

TOP = Path(__file__).resolve().parents[2]
ROOT = typer.main.get_command(app)
MARKDOWN = r"""# Title

A test.

## One

`--fps 6` and *slanted*, **strong**, see [videos](videos.md#frames)
.hidden of [the paper](https://arxiv.org/abs).

- first
- second

| option | meaning |
|---|---|
| `--lambda` | weight |

```sh
.dot \ backslash
```
"""


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
    text = plain(reference_files()[Path("man", f"attnrec-{name}.1")])
    for parameter in ROOT.commands[name].params:
        if parameter.param_type_name == "argument":
            assert parameter.name.upper() in text
        else:
            for option in parameter.opts:
                assert re.search(rf"^\.B .*(?<![-\w]){re.escape(option)}(?![-\w])", text, re.MULTILINE), option
        assert parameter.help.split(".")[0] in text
    assert f"attnrec {name}" in text.partition(".SH EXAMPLES")[2]


def test_the_first_page_names_every_command_and_every_guide():
    text = plain(reference_files()[Path("man", "attnrec.1")])
    for name in ROOT.commands:
        assert f".B {name}\n" in text
    for guide in all_guides():
        assert f".B attnrec-{guide.topic}(7)\n{guide.summary}\n" in text


def test_pages_of_commands_state_exit_codes_and_environment():
    for path, text in reference_files().items():
        if path.suffix == ".1":
            codes = text.partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
            assert re.findall(r"^\.B (\d+)$", codes, re.MULTILINE) == ["0", "1", "2", "130"]
            assert "ATTNREC_DEBUG" in text


def test_every_guide_has_a_page_with_its_headings():
    for guide in all_guides():
        text = plain(reference_files()[Path("man", f"attnrec-{guide.topic}.7")])
        assert text.count(f"attnrec-{guide.topic} - {guide.summary.removesuffix('.')}\n") == 1
        headings = [line.removeprefix("## ").upper() for line in guide.text.splitlines() if line.startswith("## ")]
        assert re.findall(r"^\.SH (.*)", text, re.MULTILINE) == ["NAME", "DESCRIPTION", *headings]


def test_markdown_keeps_its_meaning():
    text = page("attnrec-test", 7, "A test.", sections_of(MARKDOWN))
    description, _, one = text.partition(".SH DESCRIPTION\n")[2].partition(".SH ONE\n")
    assert description == ".sp\nA test.\n"
    assert [line for line in one.splitlines() if "INDENT" not in line] == [
        ".sp",
        r"\fB\-\-fps 6\fP and \fIslanted\fP, \fBstrong\fP, see \fBattnrec\-videos\fP(7)",
        r"\&.hidden of the paper \%<https://\:arxiv\:.org/\:abs>\&.",
        r".IP \(bu 2", "first",
        r".IP \(bu 2", "second",
        ".TP", r".B \fB\-\-lambda\fP", "weight",
        ".sp", ".EX", r"\&.dot \e backslash", ".EE",
        r".\" End of generated man page.",
    ]  # fmt: skip


def test_what_no_page_can_show_is_refused():
    with pytest.raises(ValueError, match="no man page has blockquote"):
        sections_of("# Title\n\n> quoted\n")


def test_no_line_is_taken_for_a_macro_by_accident():
    for path, text in reference_files().items():
        if path.parts[0] == "man":
            found = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
            assert found <= MACROS | HEAD, path


def test_nothing_in_a_page_tells_the_day_or_the_version_of_docutils():
    for path, text in reference_files().items():
        if path.parts[0] == "man":
            assert "Docutils" not in text
            assert re.search(r'^\.TH "[a-z-]+" "[17]" "" "attnrec" "[\w ]+"$', text, re.MULTILINE), path


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here to typeset with")
def test_pages_are_typeset_with_every_word():
    for path, text in reference_files().items():
        if path.parts[0] == "man":
            done = subprocess.run(["groff", "-man", "-t", "-Tutf8", "-P-cbou", "-wmac", "-rLL=300n"], input=text,
                                  capture_output=True, text=True)  # fmt: skip
            assert done.returncode == 0
            assert "macro" not in done.stderr, done.stderr
            assert "INDENT" not in done.stdout
            for heading in re.findall(r"^\.SH (.*)", text, re.MULTILINE):
                assert f"\n{heading}\n" in done.stdout


def plain(page: str) -> str:
    """The text of a page without roff's escapes."""
    escapes = {"\\-": "-", "\\(aq": "'", "\\(ga": "`", "\\(dq": '"', "\\e": "\\"}
    return re.sub(r"\\-|\\\((aq|ga|dq)|\\e", lambda found: escapes[found[0]], page)
