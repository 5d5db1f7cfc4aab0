"""Shell completions and man pages, generated from the commands and the guides.

`python -m attnrec.cli.reference` writes `completions/` and `man/` in the current folder; `--check` only says which
files are out of date. docutils and markdown-it-py come with `pip install -e ".[dev]"`.
"""

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from attnrec.cli.app import COMMANDS, app
from attnrec.cli.guide import Guide, all_guides
from attnrec.cli.manpage import definitions, literal, page, paragraph, section, sections_of

PROGRAM = "attnrec"
_SHELLS = {"bash": "attnrec.bash", "zsh": "_attnrec", "fish": "attnrec.fish"}
_EXIT_CODES = (
    (0, "Done."),
    (1, "An error, reported on stderr; or some inputs of a batch were skipped, and are listed there."),
    (2, "Wrong usage."),
    (130, "Interrupted."),
)
_ENVIRONMENT = (
    ("ATTNREC_DEBUG", "If set to 1, errors show their traceback."),
    ("IMAGEIO_FFMPEG_EXE", "The ffmpeg program to use instead of the bundled one."),
    ("ATTNREC_CUDA_GRAPHS", "1 to record the work on a GPU as CUDA graphs, see `attnrec guide speed`."),
)


def reference_files() -> dict[Path, str]:
    """Content of every generated file, by its path relative to the repository."""
    root, guides = typer.main.get_command(app), all_guides()
    readable = definitions("GUIDES", [(f"{PROGRAM}-{guide.topic}(7)", guide.summary) for guide in guides])
    see_also = [section("SEE ALSO", [paragraph(f"{PROGRAM}(1), which lists the other commands and the guides")])]
    pages = {Path("man", f"{PROGRAM}.1"): command_page(PROGRAM, root, readable)}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        pages[Path("man", f"{PROGRAM}-{name}.1")] = command_page(f"{PROGRAM} {name}", command, see_also)
    for guide in guides:
        pages[Path("man", f"{PROGRAM}-{guide.topic}.7")] = guide_page(guide)
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    for shell, file_name in _SHELLS.items():
        script = get_completion_script(prog_name=PROGRAM, complete_var=variable, shell=shell)
        pages[Path("completions", file_name)] = script.strip() + "\n"
    return pages


def command_page(title: str, command: Any, last: Iterable[nodes.Node]) -> str:
    """The man page of a command, in section 1.

    Args:
        title: The program and the command, as typed.
        command: The command object, from typer.
        last: Sections at the end of the page.

    Returns:
        The page, in the man macros of roff.
    """
    summary, *rest = (" ".join(text.split()) for text in inspect.cleandoc(command.help or "").split("\n\n"))
    synopsis = nodes.paragraph("", "", nodes.strong("", title), nodes.Text(f" {_synopsis(command)}"))
    example_lines = [line.strip() for line in (command.epilog or "").splitlines()[2:]]
    sections = [
        section("SYNOPSIS", [synopsis]),
        section("DESCRIPTION", [paragraph(text) for text in (summary, *rest)]),
        *_parameters(command),
        *definitions("COMMANDS", COMMANDS.items() if hasattr(command, "commands") else ()),
        *([section("EXAMPLES", [literal("\n".join(example_lines))])] if example_lines else []),
        *definitions("EXIT STATUS", [(str(code), text) for code, text in _EXIT_CODES]),
        *definitions("ENVIRONMENT", _ENVIRONMENT),
        *(each.deepcopy() for each in last),
    ]
    return page(title.replace(" ", "-"), 1, summary, sections)


def guide_page(guide: Guide) -> str:
    """The man page of a guide, in section 7."""
    return page(f"{PROGRAM}-{guide.topic}", 7, guide.summary, sections_of(guide.text))


def _synopsis(command: Any) -> str:
    if hasattr(command, "commands"):
        return "[OPTIONS] COMMAND [ARGS]..."
    return " ".join(["[OPTIONS]", *(_argument_name(p) for p in command.params if p.param_type_name == "argument")])


def _argument_name(parameter: Any) -> str:
    name = f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"
    return name if parameter.required else f"[{name}]"


def _parameters(command: Any) -> list[nodes.Node]:
    arguments = [(_argument_name(p), p.help or "") for p in command.params if p.param_type_name == "argument"]
    context = typer.Context(command)
    records = [p.get_help_record(context) for p in command.params if p.param_type_name == "option" and not p.hidden]
    records.append(("-h, --help", "Show a summary and exit."))
    return [*definitions("ARGUMENTS", arguments), *definitions("OPTIONS", records)]


def _stale(pages: dict[Path, str]) -> Iterator[Path]:
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield path
    expected = set(pages)
    for folder in ("man", "completions"):
        yield from (path for path in sorted(Path(folder).glob("*")) if path not in expected)


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` list those that are out of date. Returns the exit code."""
    pages = reference_files()
    if arguments == ["--check"]:
        stale = list(_stale(pages))
        for path in stale:
            print(f"{path} is not up to date; run python -m attnrec.cli.reference", file=sys.stderr)
        return 1 if stale else 0
    if arguments:
        print("usage: python -m attnrec.cli.reference [--check]", file=sys.stderr)
        return 2
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
