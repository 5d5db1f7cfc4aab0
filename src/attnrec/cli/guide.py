"""`attnrec guide`, and the reader of the guides that it and the man pages show."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from attnrec.cli.options import JsonOption, QuietOption, examples
from attnrec.cli.output import Output, markdown, say

# In the order in which to read them.
Topic = Literal[
    "videos",
    "datasets",
    "training",
    "forms",
    "comparing",
    "faithfulness",
    "pictures",
    "notebook",
    "formats",
    "results",
    "speed",
]

EXAMPLES = examples("attnrec guide", "attnrec guide training", "attnrec guide --json")

_FOLDER = Path(__file__).parents[1] / "guide"
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)


@dataclass(frozen=True)
class Guide:
    """A guide, written in Markdown."""

    topic: str
    title: str
    summary: str  # its first paragraph, as plain text on one line
    text: str


def guide(
    topic: Annotated[Topic | None, typer.Argument(help="Guide to read; default: list the topics.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read a guide: videos, datasets, training, pictures and more.

    A guide is typeset on a terminal, and Markdown in a pipe or a file. The repository also has the guides as man
    pages, such as man/attnrec-training.7.
    """
    with Output(json=json, quiet=quiet) as output:
        if topic is None:
            found = all_guides()
            rows = [{"topic": each.topic, "title": each.title, "summary": each.summary} for each in found]
            output.result(rows, lambda: _list(found))
            output.note("next: attnrec guide TOPIC")
        else:
            one = read_guide(topic)
            output.result({"topic": one.topic, "title": one.title, "text": one.text}, lambda: markdown(one.text))


def all_guides() -> list[Guide]:
    """Every guide, in the order in which to read them."""
    return [read_guide(topic) for topic in get_args(Topic)]


def read_guide(topic: str) -> Guide:
    """Read the guide on a topic, without the comments that mark where figures are written."""
    text = _COMMENT.sub("", (_FOLDER / f"{topic}.md").read_text(encoding="utf-8"))
    title, summary, _ = text.split("\n\n", 2)
    return Guide(topic, title.removeprefix("# "), " ".join(summary.replace("`", "").split()), text)


def _list(found: list[Guide]) -> None:
    width = max(len(each.topic) for each in found)
    for each in found:
        say(f"{each.topic:<{width}}  {each.summary}")
