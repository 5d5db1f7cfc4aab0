"""Plots of a report as SVG, for light and dark pages.

Legend: C classes, K grid side, T time-steps.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.drawing.document import data_uri
from attnrec.drawing.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours with a contrast of at least 3 on white and on near black.
COLOURS = ("#2f7ce0", "#d06a00", "#0a9460", "#db2777", "#8b5cf6", "#7c7f86", "#0891b2", "#c2410c")
DASHES = ("-", "--", "-.", ":")
# Placeholders for the theme's colours of text and rules, which the SVG's own style sets.
_INK, _RULE = "#010203", "#020304"
_THEME = (
    "<style>:root{--ink:#1b1c1e;--rule:#d5d6d9}"
    "@media (prefers-color-scheme:dark){:root{--ink:#ecedef;--rule:#3a3d42}}</style>"
)
_RC: Any = {
    "svg.fonttype": "none",  # letters are drawn by the browser, with its fonts
    "svg.hashsalt": "attnrec",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a class named $x$ is no formula
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), _RULE),
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
    """A plot as a data URI, its size in px, and a text alternative."""

    address: str
    width: int
    height: int
    words: str


class Dot(NamedTuple):
    """A row's figure with the ends of its 95 % interval."""

    name: str
    value: float
    bounds: tuple[float, float] | None


class Point(NamedTuple):
    """A point of a line; None or NaN as `y` leaves a gap, and bounds draw an error bar."""

    x: float
    y: float | None
    bounds: tuple[float, float] | None = None


class Line(NamedTuple):
    """A line of a plot."""

    name: str
    points: Sequence[Point]


def intervals(dots: Sequence[Dot]) -> Plot:
    """Plot each row's figure as a dot with its 95 % interval, in percent; the first row on top."""
    with _plot(width=6.6, height=0.9 + 0.32 * len(dots)) as (figure, ((axes,),)):
        places = -np.arange(len(dots))
        for place, (_, value, bounds) in zip(places, dots, strict=True):
            if bounds is not None:
                axes.plot([100 * bounds[0], 100 * bounds[1]], [place, place], color=COLOURS[0], linewidth=2.5)
            axes.plot([100 * value], [place], "o", color=COLOURS[0], markersize=7)
        axes.set_yticks(places, _shortened([dot.name for dot in dots]))
        axes.set_ylim(places[-1] - 0.6, 0.6)
        axes.set_xlabel("percent, with 95 % interval")
        axes.grid(visible=False, axis="y")
    words = ", ".join(f"{printable(dot.name)} {100 * dot.value:.1f}" for dot in dots)
    return _finished(figure, f"Percent by row: {words}")


def lines(
    drawn: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    names: Sequence[str] = (),
    marked: bool = False,
    percent: bool = False,
) -> Plot:
    """Plot lines, told apart by colour and dash.

    Args:
        drawn: The lines; those of one name look alike.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        names: Names of the lines of all plots that belong together, so that a name looks the same in each.
        marked: Draw a dot at each point.
        percent: Show values, which are shares, in percent.
    """
    factor = 100 if percent else 1
    with _plot(width=5.2, height=3.2 + 0.2 * len({line.name for line in drawn})) as (figure, ((axes,),)):
        order = list(dict.fromkeys((*names, *(line.name for line in drawn))))
        labels = dict(zip(order, _shortened(order), strict=True))
        named: set[str] = set()
        for line in drawn:
            k = order.index(line.name)
            y = [np.nan if point.y is None else factor * point.y for point in line.points]
            label = None if line.name in named else labels[line.name]
            named.add(line.name)
            style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k // len(COLOURS) % len(DASHES)]}
            axes.plot([point.x for point in line.points], y, marker="o" if marked else "", label=label, **style)
            for x, _, bounds in line.points:
                if bounds is not None:
                    axes.plot([x, x], [factor * end for end in bounds], color=style["color"], alpha=0.6)
        if marked:
            axes.set_xticks(sorted({point.x for line in drawn for point in line.points}))
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        figure.legend(loc="outside lower center", ncols=1)
    return _finished(figure, f"{y_label} by {x_label}: {_line_words(drawn, factor)}")


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Plot:
    """Plot a confusion matrix, true classes as rows: the darker, the larger the share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    C = len(classes)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    clear = LinearSegmentedColormap.from_list("clear", [(0.18, 0.49, 0.88, 0.0), (0.18, 0.49, 0.88, 0.85)])
    side = 2.0 + 0.3 * min(C, 40)
    with _plot(width=side + 0.6, height=side) as (figure, ((axes,),)):
        axes.imshow(shares, cmap=clear, vmin=0, vmax=1, interpolation="none")
        if C <= 25:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center")
        names = [_short(name, 16) for name in classes]
        axes.set_xticks(range(C), names, rotation=90)
        axes.set_yticks(range(C), names)
        axes.tick_params(labelsize=10 if C <= 25 else 6, length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.grid(visible=False)
    return _finished(figure, _confusion_words(matrix, classes))


def differences(values: NDArray[np.float64], classes: Sequence[str], counts: Sequence[int]) -> Plot:
    """Plot differences in accuracy by class, in points; classes with NaN, without videos, are left out."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-values[known], kind="stable")]
    with _plot(width=5.2, height=0.9 + 0.28 * max(1, len(order))) as (figure, ((axes,),)):
        colours = [COLOURS[0] if values[i] >= 0 else COLOURS[1] for i in order]
        axes.barh(-np.arange(len(order)), 100 * values[order], color=colours, height=0.7)
        axes.set_yticks(-np.arange(len(order)), [f"{_short(classes[i])} ({counts[i]})" for i in order])
        axes.axvline(0, color=_INK, linewidth=1)
        axes.set_xlabel("points; number of videos beside each class")
        axes.grid(visible=False, axis="y")
    words = ", ".join(f"{printable(classes[i])} {100 * values[i]:+.0f}" for i in order)
    return _finished(figure, f"Difference by class in points: {words}")


def maps(attention: NDArray[np.float64], names: Sequence[str]) -> Plot:
    """Plot maps of mean attention in multiples of uniform, on one scale.

    Args:
        attention: Mean attention, shape (N, K, K), each map summing to 1; a map of NaN is left empty.
        names: Names of the maps.
    """
    N, K, _ = attention.shape
    values = attention * K**2
    columns = min(N, 5)
    rows = -(-N // columns)
    with _plot(width=1.15 * columns + 1.0, height=1.35 * rows + 0.3, rows=rows, columns=columns) as (figure, grid):
        top = max(2.0, float(np.nanmax(values)))
        for axes in grid.ravel()[N:]:
            axes.set_visible(False)
        for axes, cells, name in zip(grid.ravel(), values, names, strict=False):
            drawn = axes.imshow(cells, cmap="inferno", vmin=0, vmax=top, interpolation="none")
            axes.set_title(_short(name, 14), fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        figure.colorbar(drawn, ax=grid, label="x uniform", shrink=0.9)
    peaks = ", ".join(
        f"{printable(name)} {np.nanmax(cells):.1f} x uniform in row {i // K + 1}, column {i % K + 1}"
        for name, cells in zip(names, values, strict=True)
        if np.isfinite(cells).all()
        for i in [int(cells.argmax())]
    )
    return _finished(figure, f"Peaks: {peaks}")


@contextmanager
def _plot(*, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple["Figure", Any]]:
    """A matplotlib figure of a size in inches, and its axes, shape (rows, columns)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes: Any = figure.subplots(rows, columns, squeeze=False)
        yield figure, axes


def _finished(figure: "Figure", words: str) -> Plot:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode("utf-8")
    text = re.sub("(<svg [^>]*>)", lambda opening: opening[1] + _THEME, text, count=1)
    text = text.replace(_INK, "var(--ink)").replace(_RULE, "var(--rule)")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Plot(data_uri(text.encode("utf-8"), "image/svg+xml"), width, height, words)


def _short(name: str, most: int = 44) -> str:
    name = printable(name)
    return name if len(name) <= most else f"{name[: most * 2 // 3]}…{name[-(most // 3) :]}"


def _shortened(names: Sequence[str], most: int = 44) -> list[str]:
    """Shortened names, long enough to tell them apart."""
    told_apart = len({printable(name) for name in names})
    while len({_short(name, most) for name in names}) < told_apart:
        most += 4
    return [_short(name, most) for name in names]


def _line_words(drawn: Sequence[Line], factor: float) -> str:
    ends = []
    for line in drawn:
        known = [(x, y) for x, y, _ in line.points if y is not None and np.isfinite(y)]
        if known:
            (x0, y0), (x1, y1) = known[0], known[-1]
            ends.append(f"{printable(line.name)} from {factor * y0:.4g} at {x0:g} to {factor * y1:.4g} at {x1:g}")
    return "; ".join(ends)


def _confusion_words(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    wrong = matrix - np.diag(matrix.diagonal())
    words = f"{matrix.trace()} of {matrix.sum()} right"
    if wrong.any():
        row, column = divmod(int(wrong.argmax()), len(classes))
        taken = f"{printable(classes[row])} taken for {printable(classes[column])}"
        words += f"; most often {taken}, {wrong.max()} times"
    return words
