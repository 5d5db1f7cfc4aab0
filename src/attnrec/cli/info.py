"""`attnrec info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.options import JsonOption, QuietOption, examples
from attnrec.cli.output import Output, say, table

EXAMPLES = examples(
    "attnrec info",
    "attnrec info out.h5",
    "attnrec info runs/attention-1 --json",
    "attnrec info clip.mp4",
    "attnrec info --backbones",
)


def info(
    path: Annotated[
        Path | None, typer.Argument(help="A feature store, a run or a video; default: this machine.")
    ] = None,
    backbones: Annotated[
        bool, typer.Option("--backbones", help="List the networks that extract can compute features by.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Describe a feature store, a run, a video or, without a path, this machine."""
    from attnrec.info import describe, describe_backbones

    if backbones and path is not None:
        raise typer.BadParameter("give either a path or --backbones", param_hint="--backbones")
    with Output(json=json, quiet=quiet) as output:
        output.begin()
        if backbones:
            listed = describe_backbones(output.progress)
            output.result(listed, lambda: _show_backbones(listed["backbones"]))
            return
        document = describe(path)
        output.result(document, lambda: _show(document))


def _show_backbones(backbones: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["name"],
            each["layer"],
            " x ".join(map(str, each["map"])),
            " x ".join(map(str, each["cube"])),
            f"{each['num_params'] / 1e6:.1f}",
            each["weights"].rpartition(".")[2],
            "-" if each["weights_megabytes"] is None else f"{each['weights_megabytes']:.0f}",
        )
        for each in backbones
    ]
    columns = ("backbone", "layer", "map at 224 px", "cube", "M weights", "ImageNet weights", "MB")
    table("", columns, rows)


def _show(document: dict[str, Any], indent: str = "") -> None:
    width = max(len(str(name)) for name in document)
    for name, value in document.items():
        label = f"{indent}{name:<{width}}"
        if isinstance(value, dict) and value:
            say(label.rstrip())
            _show(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], tuple):
            say(label.rstrip())
            for item, reason in value:
                say(f"{indent}  {item}: {reason}")
        else:
            say(f"{label}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None or value == {} else str(value)
