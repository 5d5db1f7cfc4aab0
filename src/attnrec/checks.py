"""Checks values from users and files against the expected types, choices and ranges."""

import dataclasses
import functools
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from attnrec.errors import ConfigError

_MOST_SHOWN = 40  # most characters of a value shown in an error
MAX_GRID = 64
MAX_CHANNELS = 16384

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """Allowed numbers: limits far beyond what makes sense, and far below what would fill a machine's memory."""

    low: float
    high: float
    open: Literal["low", "high"] | None = None  # end that is excluded

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open == "low" else value >= self.low
        return above and (value < self.high if self.open == "high" else value <= self.high)

    def __str__(self) -> str:
        if self.open == "low":
            return f"over {self.low} and at most {self.high}"
        return f"in [{self.low}, {self.high})" if self.open == "high" else f"from {self.low} to {self.high}"


@functools.cache
def annotations_of(cls: type) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """The plain type and the annotations of each field of a dataclass."""
    found, plain = {}, get_type_hints(cls)
    for name, hint in get_type_hints(cls, include_extras=True).items():
        annotated = [part for part in (hint, *get_args(hint)) if get_origin(part) is Annotated]
        found[name] = (plain[name], tuple(note for part in annotated for note in part.__metadata__))
    return found


def range_of(notes: Iterable[Any]) -> Range | None:
    """The range among a field's annotations, or that of its `Setting`."""
    ranges = (note if isinstance(note, Range) else getattr(note, "range", None) for note in notes)
    return next((found for found in ranges if found is not None), None)


def check(config: Any) -> None:
    """Check the fields of a dataclass against their choices and ranges; None only if the type allows it.

    Raises:
        ConfigError: A value is not among its choices, out of its range, or not given.
    """
    for name, (hint, notes) in annotations_of(config.__class__).items():
        value, options = getattr(config, name), get_args(hint)
        if value is None:
            if hint is not type(None) and type(None) not in options:
                raise ConfigError(f"{name} is not given")
            continue
        kind = next((part for part in (hint, *options) if get_origin(part) is Literal), None)
        if kind is not None:
            for item in value if isinstance(value, tuple) else (value,):
                if item not in get_args(kind):
                    raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, got {item!r}")
        limits = range_of(notes)
        for item in value if isinstance(value, tuple) else (value,):
            if limits is not None and item not in limits:
                raise ConfigError(f"{name} must be {limits}, got {shortened(item)}")


def config_from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Rebuild a dataclass from its JSON fields.

    Raises:
        ConfigError: A field is missing, unknown, of another type or out of its range.
    """
    hints = {name: hint for name, (hint, _) in annotations_of(cls).items()}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(hints)):
        raise ConfigError(f"{cls.__name__}: unknown field {unknown[0]!r}; was it made by a newer attnrec?")
    for name, value in values.items():
        require_type(hints[name], value, f"{cls.__name__}: {name}")
    try:
        return cls(**{name: _tupled(hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from None


def _tupled(hint: Any, value: Any) -> Any:
    """A value of JSON with tuples where its type has them."""
    if get_origin(hint) in (Union, types.UnionType) and isinstance(value, list | tuple):
        hint = next((part for part in get_args(hint) if get_origin(part) is tuple), hint)
    if get_origin(hint) is not tuple:
        return value
    return tuple(_tupled(part, item) for part, item in zip(_parts_of(hint, value), value, strict=True))


def _parts_of(hint: Any, value: Any) -> list[Any]:
    """The types of a tuple's items, for one of any length as many as the value has."""
    parts = list(get_args(hint))
    return parts[:1] * len(value) if parts[1:] == [Ellipsis] else parts


def require_type(hint: Any, value: Any, name: str) -> None:
    """Check a value from JSON against a type; integers count as floats, and NaN and infinity are refused.

    Args:
        hint: A plain type, `Any`, a literal, a union, a list, tuple or dict of types, a typed dict or a dataclass; for
            the last two, a mapping may have additional keys.
        value: The value to check.
        name: Name of the value, for the message.

    Raises:
        ConfigError: The value is of another type; names the part that is.
    """
    fault = _fault(hint, value, name)
    if fault is not None:
        raise ConfigError(fault)


def shortened(value: Any) -> str:
    """A value for a message, shortened; for a container only its type."""
    text = repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _fault(hint: Any, value: Any, name: str) -> str | None:
    """What is wrong with a value, or None."""
    kind, parts = get_origin(hint), get_args(hint)
    pairs: Iterable[tuple[Any, Any, str]] = ()
    fits = True
    if hint is Any:
        pass
    elif kind in (Union, types.UnionType):
        faults = [_fault(part, value, name) for part in parts]
        return None if None in faults else faults[0]
    elif kind is Literal:
        fits = isinstance(value, str) and value in parts
    elif kind is list:
        fits = isinstance(value, list)
        pairs = ((parts[0], item, name) for item in value) if fits else ()
    elif kind is tuple:
        fits = isinstance(value, list | tuple) and len(value) == len(_parts_of(hint, value))
        pairs = ((part, item, name) for part, item in zip(_parts_of(hint, value), value, strict=True)) if fits else ()
    elif kind is dict:
        fits = isinstance(value, dict)
        pairs = ((parts[1], item, f"{name}: {key}") for key, item in value.items()) if fits else ()
    elif is_typeddict(hint) or (dataclasses.is_dataclass(hint) and isinstance(value, Mapping)):
        fits = isinstance(value, Mapping)
        if fits and (missing := sorted(_required(hint) - value.keys())):
            return f"{name}: {missing[0]} is missing"
        hints = get_type_hints(hint)
        pairs = ((hints[key], value[key], f"{name}: {key}") for key in hints if key in value) if fits else ()
    elif hint in (int, float):
        number = int | float if hint is float else int
        fits = isinstance(value, number) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    else:
        fits = isinstance(value, type(None) if hint is None else hint)
    if not fits:
        return f"{name} cannot be {shortened(value)}"
    return next((fault for pair in pairs if (fault := _fault(*pair)) is not None), None)


def _required(hint: Any) -> frozenset[str]:
    """The required keys of a typed dict or a dataclass."""
    if is_typeddict(hint):
        required: frozenset[str] = hint.__required_keys__
        return required
    missing = dataclasses.MISSING
    fields = dataclasses.fields(hint)
    return frozenset(f.name for f in fields if f.default is missing and f.default_factory is missing)
