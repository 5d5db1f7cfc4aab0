"""The kinds of plots in pages and runs.

Legend: C classes, K grid side, T time-steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnrec.drawing.figure import INK, Plot, figure_of
from attnrec.drawing.text import printable

# Colours with a contrast of at least 3 on white and on near black.
COLOURS = ("#2f7ce0", "#d06a00", "#0a9460", "#db2777", "#8b5cf6", "#7c7f86", "#0891b2", "#c2410c")
DASHES = ("-", "--", "-.", ":")


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
    with figure_of(width=6.6, height=0.9 + 0.32 * len(dots)) as (figure, ((axes,),)):
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
    return Plot(figure, f"Percent by row: {words}")


def lines(
    drawn: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    names: Sequence[str] = (),
    marked: bool = False,
    percent: bool = False,
    upright: float | None = None,
) -> Plot:
    """Plot lines, told apart by colour and dash; their names are shown if there are several.

    Args:
        drawn: The lines; those of one name look alike.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        names: Names of the lines of all plots that belong together, so that a name looks the same in each.
        marked: Draw a dot at each point.
        percent: Show values, which are shares, in percent.
        upright: Where on the x axis to draw an upright line; None for nowhere.
    """
    order = list(dict.fromkeys((*names, *(line.name for line in drawn))))
    told = len({line.name for line in drawn}) if len(order) > 1 else 0
    with figure_of(width=5.2, height=3.2 + 0.2 * told) as (figure, ((axes,),)):
        _draw_lines(axes, drawn, order, marked=marked, factor=_factor(percent))
        axes.set(xlabel=x_label, ylabel=y_label)
        if upright is not None:
            axes.axvline(upright, color=INK, linewidth=1, linestyle=":")
        if told:
            figure.legend(loc="outside lower center", ncols=1)
    return Plot(figure, f"{y_label} by {x_label}: {_line_words(drawn, _factor(percent))}")


def panels(plots: Sequence[tuple[str, Sequence[Line], str, bool]], x_label: str, upright: float | None = None) -> Plot:
    """Plot lines in panels with titles, two beside each other.

    Args:
        plots: Title, lines, label of the y axis, and whether values are shares to be shown in percent, of each panel.
        x_label: Label of the x axes.
        upright: Where on the x axes to draw an upright line; None for nowhere.
    """
    columns = min(2, len(plots))
    rows = -(-len(plots) // columns)
    with figure_of(width=4.4 * columns, height=3.0 * rows, rows=rows, columns=columns) as (figure, grid):
        for axes in grid.ravel()[len(plots) :]:
            axes.set_visible(False)
        for axes, (title, drawn, y_label, percent) in zip(grid.ravel(), plots, strict=False):
            _draw_lines(axes, drawn, [line.name for line in drawn], marked=False, factor=_factor(percent))
            axes.set(title=title, xlabel=x_label, ylabel=y_label)
            if upright is not None:
                axes.axvline(upright, color=INK, linewidth=1, linestyle=":")
    said = [f"{title}: {_line_words(drawn, _factor(percent))}" for title, drawn, _, percent in plots]
    return Plot(figure, "; ".join(said))


def _factor(percent: bool) -> float:
    return 100 if percent else 1


def _draw_lines(axes: Any, drawn: Sequence[Line], order: Sequence[str], *, marked: bool, factor: float) -> None:
    """Draw lines, whose look follows the order of their names; a line of a single point is a dot."""
    labels, named = dict(zip(order, _shortened(order), strict=True)), set[str]()
    for line in drawn:
        k = order.index(line.name)
        y = [np.nan if point.y is None else factor * point.y for point in line.points]
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k // len(COLOURS) % len(DASHES)]}
        marker = "o" if marked or len(line.points) == 1 else ""
        label = None if line.name in named else labels[line.name]
        named.add(line.name)
        axes.plot([point.x for point in line.points], y, marker=marker, label=label, **style)
        for x, _, bounds in line.points:
            if bounds is not None:
                axes.plot([x, x], [factor * end for end in bounds], color=style["color"], alpha=0.6)
    if marked:
        axes.set_xticks(sorted({point.x for line in drawn for point in line.points}))
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Plot:
    """Plot a confusion matrix, true classes as rows: the darker, the larger the share of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    C = len(classes)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    clear = LinearSegmentedColormap.from_list("clear", [(0.18, 0.49, 0.88, 0.0), (0.18, 0.49, 0.88, 0.85)])
    names = _shortened(classes)
    letters = 10 if C <= 25 else 6
    side, beside = 1.0 + 0.3 * min(C, 40), 0.0085 * letters * max(map(len, names))
    with figure_of(width=side + beside + 0.6, height=side + beside) as (figure, ((axes,),)):
        axes.imshow(shares, cmap=clear, vmin=0, vmax=1, interpolation="none")
        if C <= 25:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                axes.text(column, row, str(matrix[row, column]), ha="center", va="center")
        axes.set_xticks(range(C), names, rotation=90)
        axes.set_yticks(range(C), names)
        axes.tick_params(labelsize=letters, length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.grid(visible=False)
    return Plot(figure, _confusion_words(matrix, classes))


def differences(values: NDArray[np.float64], classes: Sequence[str], counts: Sequence[int]) -> Plot:
    """Plot differences in accuracy by class, in points; classes with NaN, without videos, are left out."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-values[known], kind="stable")]
    with figure_of(width=5.2, height=0.9 + 0.28 * max(1, len(order))) as (figure, ((axes,),)):
        colours = [COLOURS[0] if values[i] >= 0 else COLOURS[1] for i in order]
        axes.barh(-np.arange(len(order)), 100 * values[order], color=colours, height=0.7)
        axes.set_yticks(-np.arange(len(order)), [f"{_short(classes[i])} ({counts[i]})" for i in order])
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlabel("points; number of videos beside each class")
        axes.grid(visible=False, axis="y")
    words = ", ".join(f"{printable(classes[i])} {100 * values[i]:+.0f}" for i in order)
    return Plot(figure, f"Difference by class in points: {words}")


def maps(attention: NDArray[np.float64], names: Sequence[str]) -> Plot:
    """Plot maps of mean attention in multiples of uniform, on one scale.

    Args:
        attention: Mean attention, shape (N, K, K), each map summing to 1; a map of NaN is left empty.
        names: Names of the maps.
    """
    N, K, _ = attention.shape
    values = attention * K**2
    titles = [_short(name, 30) for name in names]
    cell = max(1.15, 0.095 * max(map(len, titles)))  # a map is at least as wide as its name
    columns = min(N, max(1, int(5.75 / cell)))
    rows = -(-N // columns)
    with figure_of(width=cell * columns + 1.0, height=1.35 * rows + 0.3, rows=rows, columns=columns) as (figure, grid):
        top = max(2.0, float(np.nanmax(values)))
        for axes in grid.ravel()[N:]:
            axes.set_visible(False)
        for axes, cells, title in zip(grid.ravel(), values, titles, strict=False):
            drawn = axes.imshow(cells, cmap="inferno", vmin=0, vmax=top, interpolation="none")
            axes.set_title(title, fontsize=9)
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
    return Plot(figure, f"Peaks: {peaks}")


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
