"""Figures as SVG for light and dark pages, and as SVG and PNG files for print."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from attnrec.drawing.document import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, RULE = "#1b1c1e", "#d5d6d9"  # text, and axes and grid
PRINT_DPI = 200
_THEME = (
    f"<style>:root{{--ink:{INK};--rule:{RULE}}}"
    "@media (prefers-color-scheme:dark){:root{--ink:#ecedef;--rule:#3a3d42}}</style>"
)
_RC: Any = {
    "svg.fonttype": "none",  # letters are drawn by the viewer, with its fonts
    "svg.hashsalt": "attnrec",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a class named $x$ is no formula
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), RULE),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Plot:
    """A drawn figure with its text alternative."""

    figure: "Figure"
    words: str

    @property
    def width(self) -> int:
        """Width in px of a page."""
        return round(96 * float(self.figure.get_size_inches()[0]))

    @property
    def height(self) -> int:
        """Height in px of a page."""
        return round(96 * float(self.figure.get_size_inches()[1]))

    @property
    def address(self) -> str:
        """The figure as a data URI, in the colours that the reader prefers."""
        text = self._saved("svg", transparent=True).decode("utf-8")
        text = re.sub("(<svg [^>]*>)", lambda opening: opening[1] + _THEME, text, count=1)
        text = text.replace(f": {INK}", ": var(--ink)").replace(f": {RULE}", ": var(--rule)")
        return data_uri(text.encode("utf-8"), "image/svg+xml")

    def svg(self) -> bytes:
        """The figure as an SVG file on white."""
        return self._saved("svg")

    def png(self) -> bytes:
        """The figure as a PNG file on white."""
        return self._saved("png", dpi=PRINT_DPI)

    def _saved(self, kind: str, **settings: Any) -> bytes:
        import matplotlib

        buffer, metadata = io.BytesIO(), {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
        with matplotlib.rc_context(_RC), warnings.catch_warnings():
            # A browser has the letters that matplotlib's own font lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(buffer, format=kind, metadata=metadata, **settings)
        return buffer.getvalue()


class Shown(NamedTuple):
    """A plot under a heading."""

    heading: str
    plot: Plot


@contextmanager
def figure_of(*, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple["Figure", Any]]:
    """A matplotlib figure of a size in inches, and its axes, shape (rows, columns)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes: Any = figure.subplots(rows, columns, squeeze=False)
        yield figure, axes
