"""Tables of text, for the terminal, for pages and for notebooks."""

from collections.abc import Sequence
from typing import NamedTuple


class TextTable(NamedTuple):
    """A table of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)  # columns that hold words; the others hold figures
    notes: Sequence[str] = ()  # lines below it
