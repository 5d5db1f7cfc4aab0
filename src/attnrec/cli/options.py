"""Options of the commands: those made from the settings of a config, and the few that are not settings."""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from attnrec.checks import annotations_of
from attnrec.settings import LAYER_SEPARATOR, Setting, SplitPart, TrainConfig, settings_of

CSV_SUFFIXES = (".csv", ".tsv", ".txt")  # suffixes of the tables that --force replaces
HTML_SUFFIXES = (".html", ".htm")  # and of the pages
_SET = "set_"


def option(setting: Setting, **changes: Any) -> Any:
    """The command-line option of a setting. The config itself checks ranges with an open end."""
    limits = setting.range and ({"min": setting.range.low, "max": setting.range.high})
    if setting.range and setting.range.open:
        limits = {"max": setting.range.high} if setting.range.open == "low" else {"min": setting.range.low}
    values = {"help": setting.help, "metavar": setting.metavar} | (limits or {}) | changes
    return typer.Option(*setting.flags, **values)


RunsDirOption = Annotated[Path, typer.Option("--runs", help="Folder of runs.", metavar="DIR")]
RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run to use; default: the newest finished one.", metavar="DIR")
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(help="Feature store of the run; default: the one it was trained on.", metavar="STORE"),
]
DeviceOption = Annotated[str, option(settings_of(TrainConfig)["device"])]
SeedOption = Annotated[int, option(settings_of(TrainConfig)["seed"])]
JobsOption = Annotated[int | None, option(settings_of(TrainConfig)["jobs"])]
SamplesOption = Annotated[
    int,
    typer.Option(
        help="Hard attention: average over N passes that draw where they look, by the run's seed; 0 looks at the most "
        "probable locations, once.",
        min=0,
        max=10_000,
        metavar="N",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, sizes and estimates, and stop.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")]
VideosOption = Annotated[
    Path | None,
    typer.Option(help="Folder of videos for --html; default: the one they were extracted from.", metavar="DIR"),
]
PartOption = Annotated[SplitPart, typer.Option(help="Part of the split to use.")]


def takes(
    cls: type, parameter: str, *, options: Collection[str] | None = None, reserved: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's config parameter by one option for each setting of the config.

    Settings without an option are given by `--set NAME=VALUE`.

    Args:
        cls: The config, a dataclass whose fields are annotated with `Setting`.
        parameter: Name of the command's parameter that takes the config.
        options: Names of the settings that get options; None for all with `has_option`.
        reserved: Names of the settings that the command sets itself, and the user cannot.
    """
    settings = {name: setting for name, setting in settings_of(cls).items() if name not in reserved}
    chosen = [name for name in settings if (settings[name].has_option if options is None else name in options)]
    parameters = [_parameter(cls, name, settings[name]) for name in chosen]
    if unnamed := {name: settings[name] for name in settings if name not in chosen}:
        parameters.append(_set_parameter(unnamed))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            asked = {name: _value(cls, name, values.pop(name)) for name in chosen}
            asked |= _assigned(cls, list(unnamed), values.pop(_SET, None) or ())
            given = {name: value for name, value in asked.items() if value != ()}  # () is an empty list's default
            command(**{parameter: cls(**given)}, **values)

        own = inspect.signature(command)
        merged = [new for each in own.parameters.values() for new in (parameters if each.name == parameter else [each])]
        run.__signature__ = own.replace(parameters=merged)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in merged}
        return run

    return decorate


def _parameter(cls: type, name: str, setting: Setting) -> inspect.Parameter:
    hint, default = annotations_of(cls)[name][0], cls.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    changes: dict[str, Any] = {}
    if get_origin(hint) is tuple or setting.joined:
        hint, default = list[str] | None, None
    elif setting.takes_native:
        changes["parser"] = _rate
    return _keyword(name, Annotated[hint, option(setting, **changes)], default)


def _set_parameter(settings: dict[str, Setting]) -> inspect.Parameter:
    text = f"Give a setting that has no option of its own: {', '.join(settings)}. See `attnrec guide training`."
    hint = Annotated[list[str] | None, typer.Option("--set", help=text, metavar="NAME=VALUE")]
    return _keyword(_SET, hint, None)


def _keyword(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=hint)


def _value(cls: type, name: str, value: Any) -> Any:
    """Convert a value from the command line to the type of the config's field."""
    hint = annotations_of(cls)[name][0]
    if settings_of(cls)[name].joined:
        return LAYER_SEPARATOR.join(listed(value)) or None
    if get_origin(hint) is not tuple:
        return value
    option = (settings_of(cls)[name].flags or (f"--{name}",))[0]
    return listed_numbers(value, option) if get_args(hint)[0] is float else listed(value)


def _assigned(cls: type, names: Sequence[str], assignments: Sequence[str]) -> dict[str, Any]:
    """Parse the settings given by `--set NAME=VALUE`."""
    found = {}
    for item in listed(assignments):
        name, _, text = (part.strip() for part in item.partition("="))
        if name not in names:
            known = name in settings_of(cls)
            why = f"{name} has an option of its own, see --help" if known else f"there is no setting {name!r}"
            raise typer.BadParameter(f"{why}; settings: {', '.join(names)}", param_hint="--set")
        hint = annotations_of(cls)[name][0]
        kinds = [kind for kind in (int, float) if kind in (hint, *get_args(hint))]
        try:
            found[name] = kinds[0](text) if kinds else text
        except ValueError:
            raise typer.BadParameter(f"{name} must be a number, got {text!r}", param_hint="--set") from None
    return found


def _rate(text: str) -> float | None:
    try:
        return None if text == "native" else float(text)
    except ValueError:
        raise typer.BadParameter("must be a number, or native", param_hint="--fps") from None


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """The items of a list option, which may be repeated and may hold several comma-separated items."""
    return tuple(item for value in values or () for item in (part.strip() for part in value.split(",")) if item)


def listed_numbers(values: Sequence[str] | None, option: str) -> tuple[float, ...]:
    """The numbers of a list option."""
    items = listed(values)
    try:
        numbers = tuple(float(item) for item in items)
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"must be numbers, got {', '.join(items)}", param_hint=option)
    return numbers


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given on the command line, whatever its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def given_settings(context: typer.Context, cls: type) -> set[str]:
    """Names of the settings given on the command line, as options or by `--set`."""
    assigned = {item.partition("=")[0].strip() for item in listed(context.params.get(_SET))}
    return assigned | {name for name in settings_of(cls) if is_given(context, name)}


def examples(*lines: str) -> str:
    """Epilog of a command's help: the examples, one per line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
