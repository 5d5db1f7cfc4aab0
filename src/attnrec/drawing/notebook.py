"""HTML that a notebook shows in place of an object's text: tables, plots and pictures, on any background."""

import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnrec.drawing.document import data_uri
from attnrec.drawing.figure import Plot
from attnrec.drawing.tables import TextTable
from attnrec.drawing.text import printable

_LEFT, _RIGHT = "text-align:left;padding:0.1em 0.6em", "text-align:right;padding:0.1em 0.6em"
_BAR_PX = 160


def heading_html(text: str) -> str:
    """A heading."""
    return f"<b>{_safe(text)}</b>"


def line_html(text: str) -> str:
    """A line of plain text."""
    return f"<div>{_safe(text)}</div>"


def table_html(table: TextTable) -> str:
    """A table with its title and notes."""
    head = _row_html("th", table.columns, table.words)
    rows = "".join(_row_html("td", row, table.words) for row in table.rows)
    title = heading_html(table.title) if table.title else ""
    notes = "".join(map(line_html, table.notes))
    return f"<div>{title}<table><thead>{head}</thead><tbody>{rows}</tbody></table>{notes}</div>"


def bars_html(shares: Sequence[tuple[str, float]]) -> str:
    """Names with shares as bars."""
    rows = "".join(
        f'<tr><td style="{_LEFT}">{_safe(name)}</td><td style="{_LEFT}"><div style="display:inline-block;'
        f'height:0.7em;width:{round(_BAR_PX * share)}px;background:#2f7ce0"></div> {100 * share:.1f} %</td></tr>'
        for name, share in shares
    )
    return f"<table><tbody>{rows}</tbody></table>"


def plot_html(plot: Plot) -> str:
    """A plot, on white."""
    address = data_uri(plot.svg(), "image/svg+xml")
    return f'<img src="{address}" width="{plot.width}" style="max-width:100%" alt="{_safe(plot.words)}">'


def image_html(picture: NDArray[np.uint8], words: str) -> str:
    """An RGB picture, shape (H, W, 3), with a text alternative."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return media_html(buffer.getvalue(), "image/png", words)


def media_html(content: bytes, kind: str, words: str) -> str:
    """A picture or video of a media type, with a text alternative."""
    address = data_uri(content, kind)
    if kind.startswith("video/"):
        return f'<video controls loop muted src="{address}" style="max-width:100%" aria-label="{_safe(words)}"></video>'
    return f'<img src="{address}" style="max-width:100%" alt="{_safe(words)}">'


def _row_html(tag: str, cells: Sequence[str], words: Sequence[int]) -> str:
    sides = (_LEFT if column in words else _RIGHT for column in range(len(cells)))
    shown = (f'<{tag} style="{side}">{_safe(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True))
    return f"<tr>{''.join(shown)}</tr>"


def _safe(text: str) -> str:
    return escape(printable(text))
