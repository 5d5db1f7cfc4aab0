import math
import os
import time
from collections.abc import Callable

import numpy as np
import pytest
from resamples import row_statistic
from sklearn.metrics import recall_score

from attnrec.evaluation.intervals import (
    Statistic,
    accuracy_statistic,
    bootstrap_interval,
    class_accuracy_statistic,
    map_statistic,
    of_all,
)
from attnrec.metrics import accuracy, mean_average_precision, top_k_hits


def random_probs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


def class_mean(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean over the classes that are there of the share of their videos that is recognised."""
    return recall_score(labels, probs.argmax(axis=1), labels=np.unique(labels), average="macro")


def statistics_of(seed: int) -> dict[str, tuple[Statistic, Callable[[np.ndarray], float]]]:
    """Each statistic with the function of videos that it stands for."""
    rng = np.random.default_rng(seed)
    labels, probs = rng.integers(0, 5, 40), random_probs(40, 5, seed=seed).round(1)
    targets = (rng.random((40, 5)) < 0.15).astype(np.uint8)
    return {
        "accuracy": (accuracy_statistic(labels, probs), lambda i: accuracy(labels[i], probs[i])),
        "top 3": (accuracy_statistic(labels, probs, k=3), lambda i: top_k_hits(labels[i], probs[i], 3).mean()),
        "class": (class_accuracy_statistic(labels, probs), lambda i: class_mean(labels[i], probs[i])),
        "map": (map_statistic(targets, probs), lambda i: mean_average_precision(targets[i], probs[i])),
    }


@pytest.mark.parametrize("name", ["accuracy", "top 3", "class", "map"])
@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_weights_are_those_of_repeated_videos(name, seed):
    statistic, figure = statistics_of(seed)[name]
    weights = np.random.default_rng(seed).integers(0, 4, (20, 40)).astype(np.float64)
    weights[0] = 1
    weights[1, 5:] = 0  # some classes have no video left
    expected = row_statistic(figure, 40)(weights)
    np.testing.assert_allclose(statistic(weights), expected, atol=1e-12)
    assert expected[0] == pytest.approx(figure(np.arange(40))) == of_all(statistic, 40)


def test_map_of_nothing_is_not_a_number():
    statistic = map_statistic(np.array([[1], [0]], np.uint8), np.array([[0.9], [0.8]]))
    assert np.isnan(statistic(np.array([[0.0, 1]]))).tolist() == [True]


def test_intervals_resample_groups():
    hits = np.repeat([1, 0, 1, 1, 0, 1, 0, 1], 25)  # eight groups that stand or fall together
    labels, probs = np.zeros(200, np.int64), np.eye(2)[1 - hits]
    statistic = accuracy_statistic(labels, probs)
    groups = [f"g{i // 25}" for i in range(200)]
    low, high = bootstrap_interval(statistic, groups, seed=0)
    assert (low, high) == (pytest.approx(0.25, abs=0.01), pytest.approx(0.875, abs=0.01))  # of Binomial(8, 5/8) / 8
    alone = bootstrap_interval(statistic, [str(i) for i in range(200)], seed=0)
    assert alone[1] - alone[0] == pytest.approx(2 * 1.96 * math.sqrt(5 / 8 * 3 / 8 / 200), rel=0.1)
    assert bootstrap_interval(statistic, groups, seed=0) == (low, high)
    wide, narrow = (bootstrap_interval(statistic, groups, seed=0, level=level) for level in (0.99, 0.5))
    assert wide[0] <= low < narrow[0] < narrow[1] < high <= wide[1]


def test_intervals_do_not_depend_on_how_they_are_computed():
    statistic, figure = statistics_of(0)["map"]
    groups = [os.fsdecode(b"\xe9") + str(i // 3) for i in range(40)]
    expected = bootstrap_interval(statistic, groups, seed=3, num_resamples=150)
    assert bootstrap_interval(row_statistic(figure, 40), groups, seed=3, num_resamples=150) == pytest.approx(expected)
    assert expected[0] < figure(np.arange(40)) < expected[1]


@pytest.mark.parametrize("groups", [[], ["a"], ["a"] * 4])
def test_no_interval_of_a_single_group(groups):
    statistic = accuracy_statistic(np.zeros(len(groups), np.int64), np.ones((len(groups), 1)))
    assert np.isnan(bootstrap_interval(statistic, groups, seed=0)).all()


def test_resamples_without_a_figure_are_left_out():
    statistic = map_statistic(np.array([[1], [0], [0]], np.uint8), np.array([[0.5], [0.9], [0.1]]))
    low, high = bootstrap_interval(statistic, list("abc"), seed=0)
    assert 0 < low < high <= 1
    nothing = map_statistic(np.zeros((3, 1), np.uint8), np.zeros((3, 1)))
    assert np.isnan(bootstrap_interval(nothing, list("abc"), seed=0)).all()


def test_intervals_of_thousands_of_videos_take_a_moment():
    labels, probs = np.random.default_rng(0).integers(0, 101, 3783), random_probs(3783, 101)
    started = time.monotonic()
    bootstrap_interval(class_accuracy_statistic(labels, probs), [str(i // 5) for i in range(3783)], seed=0)
    assert time.monotonic() - started < 10
