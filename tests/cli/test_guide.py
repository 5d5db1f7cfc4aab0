import json
import re
from pathlib import Path
from typing import get_args

import pytest
import typer
from fresh import run_fresh
from typer.testing import CliRunner

import attnrec
from attnrec.cli.app import app
from attnrec.cli.guide import Topic, all_guides, read_guide
from attnrec.settings import TrainConfig, settings_of

FOLDER = Path(attnrec.__file__).parent / "guide"
TOPICS = get_args(Topic)
ROOT = typer.main.get_command(app)


def read(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["guide", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_every_file_is_a_topic():
    assert {path.name for path in FOLDER.iterdir()} == {f"{topic}.md" for topic in TOPICS}


def test_topics_are_listed_with_what_they_are_about():
    lines = read().splitlines()
    assert [line.split()[0] for line in lines] == list(TOPICS)
    assert all(line.endswith(guide.summary) for line, guide in zip(lines, all_guides(), strict=True))
    assert [row["topic"] for row in json.loads(read("--json"))] == list(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_guide_is_printed_as_it_is_written(topic):
    written = (FOLDER / f"{topic}.md").read_text(encoding="utf-8")
    text = read(topic)
    assert text == re.sub(r"<!-- [a-z:-]+ -->\n", "", written)
    document = json.loads(read(topic, "--json"))
    assert document == {"topic": topic, "title": written.splitlines()[0].removeprefix("# "), "text": text}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_guide_begins_with_a_title_and_one_sentence(topic):
    guide = read_guide(topic)
    assert guide.text.startswith(f"# {guide.title}\n\n")
    assert re.fullmatch(r"[A-Z][^.]*\.", guide.summary)


def test_an_unknown_topic_is_refused_with_those_that_there_are():
    result = CliRunner().invoke(app, ["guide", "dance"])
    assert result.exit_code == 2
    error = result.stderr.splitlines()[-1]
    assert all(topic in error for topic in TOPICS)


def test_a_guide_in_a_pipe_loads_nothing_heavy():
    _, loaded = run_fresh([["guide"], ["guide", "training"]])
    assert not loaded & {"torch", "numpy", "rich", "h5py", "docutils", "markdown_it"}


@pytest.mark.parametrize("path", ["README.md", *(f"src/attnrec/guide/{topic}.md" for topic in TOPICS)])
def test_links_lead_to_files_and_headings(path):
    top = Path(__file__).resolve().parents[2]
    text = (top / path).read_text(encoding="utf-8")
    for address in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, heading = address.partition("#")
        target = (top / path).parent / name if name else top / path
        assert target.exists(), address
        if heading:
            titles = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, address


@pytest.mark.parametrize("topic", TOPICS)
def test_options_in_a_guide_exist(topic):
    known = {option for command in ROOT.commands.values() for parameter in command.params
             for option in (*parameter.opts, *parameter.secondary_opts)}  # fmt: skip
    text = re.sub(
        r"^(torchrun|python tests|tensorboard).*|`tests/bench.*?`|`tensorboard .*?`",
        "",
        read(topic),
        flags=re.MULTILINE,
    )
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) <= known | {"--full"}  # of the experiment's script


def test_settings_without_an_option_are_explained():
    unnamed = {name for name, setting in settings_of(TrainConfig).items() if not setting.has_option}
    section = read("training").partition("## Settings without an option")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == unnamed
