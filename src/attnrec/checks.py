"""Values from files that anybody may have written, against the types that the program expects of them."""

import dataclasses
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from attnrec.errors import ConfigError

_MOST_SHOWN = 40  # letters of a value, in an error


def require_type(hint: Any, value: Any, name: str) -> None:
    """Check a value that JSON gave against a type; whole numbers are floats as well, and no float is NaN or infinite.

    Args:
        hint: A plain type, `Any`, a literal, a union, a list, tuple or dict of types, a typed dict or a dataclass; a
            mapping may have more than the last two ask for.
        value: To be checked.
        name: Of the value, for the message.

    Raises:
        ConfigError: It is of another type; says which part of it.
    """
    fault = _fault(hint, value, name)
    if fault is not None:
        raise ConfigError(fault)


def shortened(value: Any) -> str:
    """A value for a message; of what may be large the type alone."""
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
        fits = isinstance(value, list | tuple) and len(value) == len(parts)
        pairs = ((part, item, name) for part, item in zip(parts, value, strict=True)) if fits else ()
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
    """Keys that a mapping must have for a typed dict or a dataclass."""
    if is_typeddict(hint):
        required: frozenset[str] = hint.__required_keys__
        return required
    missing = dataclasses.MISSING
    fields = dataclasses.fields(hint)
    return frozenset(f.name for f in fields if f.default is missing and f.default_factory is missing)
