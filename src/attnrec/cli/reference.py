"""Shell completions and man pages, generated from the commands themselves.

`python -m attnrec.cli.reference` writes `completions/` and `man/` of the current folder; `--check` only says whether
they are what it would write.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from attnrec.cli.app import app

PROGRAM = "attnrec"
_SHELLS = {"bash": "attnrec.bash", "zsh": "_attnrec", "fish": "attnrec.fish"}
_EXIT_CODES = (
    (0, "Done."),
    (1, "An error, said on stderr in a line or two; or a batch that ended with some inputs skipped, which are listed."),
    (2, "Wrong usage."),
    (130, "Interrupted."),
)
_ENVIRONMENT = (
    ("ATTNREC_DEBUG", "Set to 1, shows the traceback of an error."),
    ("IMAGEIO_FFMPEG_EXE", "The ffmpeg program to use in place of the one that comes along."),
)


def reference_files() -> dict[Path, str]:
    """Content of every generated file, by its path from the top of the repository."""
    root = typer.main.get_command(app)
    pages = {Path("man", f"{PROGRAM}.1"): man_page(PROGRAM, root)}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        pages[Path("man", f"{PROGRAM}-{name}.1")] = man_page(f"{PROGRAM} {name}", command)
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    for shell, file_name in _SHELLS.items():
        script = get_completion_script(prog_name=PROGRAM, complete_var=variable, shell=shell)
        pages[Path("completions", file_name)] = script.strip() + "\n"
    return pages


def man_page(title: str, command: Any) -> str:
    """A command as a page for man(1).

    Args:
        title: The command with its program, as typed.
        command: Its command object, of typer.

    Returns:
        Text in the man macros of roff.
    """
    summary, _, rest = inspect.cleandoc(command.help or "").partition("\n\n")
    summary = " ".join(summary.split())
    lines = [
        f'.TH "{title.upper().replace(" ", "-")}" "1" "" "{PROGRAM}" "User commands"',
        ".SH NAME",
        f"{_escaped(title.replace(' ', '-'))} \\- {_escaped(summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escaped(title)}",
        _escaped(_synopsis(command)),
        ".SH DESCRIPTION",
        _escaped(summary),
    ]
    for paragraph in filter(None, rest.split("\n\n")):
        lines += [".PP", _escaped(" ".join(paragraph.split()))]
    lines += _parameters(command) + _subcommands(command) + _examples(command)
    lines += _definitions("EXIT STATUS", [(str(code), text) for code, text in _EXIT_CODES])
    lines += _definitions("ENVIRONMENT", _ENVIRONMENT)
    return "\n".join(lines) + "\n"


def _synopsis(command: Any) -> str:
    if hasattr(command, "commands"):
        return "[OPTIONS] COMMAND [ARGS]..."
    return " ".join(["[OPTIONS]", *(_argument_name(p) for p in command.params if p.param_type_name == "argument")])


def _argument_name(parameter: Any) -> str:
    name = f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"
    return name if parameter.required else f"[{name}]"


def _parameters(command: Any) -> list[str]:
    arguments = [(_argument_name(p), p.help or "") for p in command.params if p.param_type_name == "argument"]
    context = typer.Context(command)
    records = [p.get_help_record(context) for p in command.params if p.param_type_name == "option" and not p.hidden]
    records.append(("-h, --help", "Show a summary and exit."))
    return _definitions("ARGUMENTS", arguments) + _definitions("OPTIONS", records)


def _subcommands(command: Any) -> list[str]:
    commands = getattr(command, "commands", {})
    rows = [(name, inspect.cleandoc(sub.help).partition("\n\n")[0]) for name, sub in commands.items()]
    return _definitions("COMMANDS", [(name, " ".join(text.split())) for name, text in rows])


def _examples(command: Any) -> list[str]:
    lines = (command.epilog or "").splitlines()[2:]
    return [".SH EXAMPLES", ".nf", *(_escaped(line.strip()) for line in lines), ".fi"] if lines else []


def _definitions(title: str, rows: Any) -> list[str]:
    pairs = [line for term, text in rows for line in (".TP", f".B {_escaped(term)}", _escaped(text))]
    return [f".SH {title}", *pairs] if pairs else []


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _stale(pages: dict[Path, str]) -> Iterator[Path]:
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield path
    expected = set(pages)
    for folder in ("man", "completions"):
        yield from (path for path in sorted(Path(folder).glob("*")) if path not in expected)


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ. Returns the exit code."""
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
