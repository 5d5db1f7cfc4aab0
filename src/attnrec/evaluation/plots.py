"""Plots of what an evaluation found.

Legend: C classes, K grid side, T time-steps.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnrec.drawing.figure import Plot, Shown
from attnrec.drawing.plots import Line, Point, confusion, lines, maps
from attnrec.evaluation.report import Faithfulness

MOST_STEPS = 10  # most maps of the mean attention by step
_REMOVED = {"deletion": "most attended first", "insertion": "least attended first", "random": "in random order"}


def confusion_plot(matrix: Sequence[Sequence[int]] | None, classes: Sequence[str]) -> Plot | None:
    """Plot the confusion matrix of an evaluation; None without one, where videos may have several labels."""
    return None if matrix is None else confusion(np.array(matrix), classes)


def removal_plot(found: Faithfulness) -> Plot | None:
    """Plot the probability of the predicted class as cells are removed; None where that could not be tested."""
    if found.deletion is None:
        return None
    drawn = [
        Line(label, [Point(100 * share, y) for share, y in zip(found.curve_shares, found.curves[name], strict=True)])
        for name, label in _REMOVED.items()
    ]
    return lines(drawn, "cells removed, %", "probability of the predicted class, %", percent=True)


def attention_plots(
    by_class: NDArray[np.float64] | None, by_step: NDArray[np.float64] | None, classes: Sequence[str], of: str = ""
) -> list[Shown]:
    """Plot the `averages.mean_attention` of runs.

    Args:
        by_class: Mean of each class, shape (C, K, K); None for no plot of it.
        by_step: Mean at each step, shape (T, K, K); None for no plot of it.
        classes: Names of the classes.
        of: What to append to the headings.
    """
    shown = [] if by_class is None else [Shown(f"By class{of}", maps(by_class, classes))]
    if by_step is not None:
        steps = np.unique(np.linspace(0, len(by_step) - 1, min(MOST_STEPS, len(by_step))).round().astype(int))
        shown.append(Shown(f"By step{of}", maps(by_step[steps], [f"step {step + 1}" for step in steps])))
    return shown
