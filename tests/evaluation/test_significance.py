import itertools

import numpy as np
import pytest
import scipy.stats
from resamples import row_statistic

from attnrec.evaluation.intervals import map_statistic, mean_of_statistics, mean_statistic
from attnrec.evaluation.significance import holm, paired_difference
from attnrec.metrics import mean_average_precision


def names(count: int, each: int = 1) -> list[str]:
    """Groups of so many videos each."""
    return [f"g{i // each}" for i in range(count * each)]


def compared(first, second, groups=None, **options):
    """Two rows by a number of each video."""
    one, two = (mean_statistic(np.asarray(values, np.float64)) for values in (first, second))
    return paired_difference(one, two, groups or names(len(first)), **options)


def test_the_interval_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.3, 1, 80), rng.normal(0, 1, 80)
    ours = compared(first, second)
    theirs = scipy.stats.bootstrap(
        (first, second), lambda a, b, axis: (a - b).mean(axis), paired=True, method="percentile", rng=1
    )
    assert ours.difference == pytest.approx((first - second).mean())
    spread = theirs.standard_error
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * spread)


@pytest.mark.parametrize("shift", [0.02, 0.05, 0.1, 0.15])
def test_the_p_value_of_many_groups_is_that_of_a_normal_mean(shift):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, 400)
    differences = (noise - noise.mean()) / noise.std() + shift
    expected = 2 * scipy.stats.norm.sf(shift * 20)  # the standard error of 400 groups is 1 / 20
    assert compared(differences, np.zeros(400)).p_value == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("differences", [[1, 1, 1, -1], [2, 1, 0, -1], [1, 0, 0, 0, 0], [3, -1, 1, 1, -2]])
def test_the_p_value_of_few_groups_is_that_of_all_their_draws(differences):
    draws = [sum(draw) for draw in itertools.product(differences, repeat=len(differences))]
    share = 2 * min(np.mean([total <= 0 for total in draws]), np.mean([total >= 0 for total in draws]))
    expected = min(1, max(share, 2 / 2 ** len(differences)))
    assert compared(differences, [0] * len(differences)).p_value == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("num_groups", [2, 3, 6, 40])
def test_few_groups_cannot_give_a_small_p_value(num_groups):
    rng = np.random.default_rng(num_groups)
    better = compared(rng.uniform(0.1, 1, num_groups), [0] * num_groups, num_resamples=999)
    assert better.interval[0] > 0
    exact = scipy.stats.permutation_test(
        (np.ones(min(num_groups, 8)), np.zeros(min(num_groups, 8))), lambda a, b: (a - b).mean(),
        permutation_type="samples", n_resamples=np.inf,
    ).pvalue  # fmt: skip
    assert better.p_value == pytest.approx(max(exact if num_groups <= 8 else 0, 2 / 1000))


def test_equal_rows_do_not_differ():
    thirds = np.array([1 / 3, 2 / 3, 1.0] * 4)
    one, two = mean_statistic(thirds), mean_of_statistics([mean_statistic(thirds * 3), mean_statistic(thirds * -1)])
    found = paired_difference(one, two, names(12))  # equal but for rounding
    assert found.difference == pytest.approx(0)
    assert found.interval == pytest.approx((0, 0))
    assert found.p_value == 1


def test_the_other_way_round_is_as_sure():
    rng = np.random.default_rng(3)
    first, second = rng.random(30), rng.random(30)
    there, back = compared(first, second), compared(second, first)
    assert there.p_value == back.p_value
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_groups_are_what_is_drawn():
    rng = np.random.default_rng(4)
    first, second = rng.random(12), rng.random(12)
    few = compared(first, second)
    repeated = compared(np.repeat(first, 50), np.repeat(second, 50), names(12, 50))
    assert (repeated.p_value, repeated.interval) == (few.p_value, pytest.approx(few.interval))
    alone = compared(np.repeat(first, 50), np.repeat(second, 50))
    assert np.diff(alone.interval) < 0.3 * np.diff(few.interval)


def test_what_rows_share_says_nothing_about_their_difference():
    rng = np.random.default_rng(5)
    hard = rng.random(200)
    paired = compared(hard + 0.01, hard)
    assert paired.interval == pytest.approx((0.01, 0.01))
    assert paired.p_value == pytest.approx(2 / 10_000)


def test_map_is_made_anew_of_each_resample():
    rng = np.random.default_rng(6)
    targets = (rng.random((30, 4)) < 0.3).astype(np.uint8)
    scores = [targets * weight + rng.random((30, 4)) for weight in (0.5, 0.1)]
    fast = paired_difference(*(map_statistic(targets, of) for of in scores), names(10, 3), num_resamples=60)
    slow = paired_difference(
        *(row_statistic(lambda i, of=of: mean_average_precision(targets[i], of[i]), 30) for of in scores),
        names(10, 3),
        num_resamples=60,
    )
    assert (fast.difference, fast.p_value) == (pytest.approx(slow.difference), slow.p_value)
    assert fast.interval == pytest.approx(slow.interval)


def test_no_differences_are_rarely_found():
    rng = np.random.default_rng(7)
    found = [compared(rng.random(40), rng.random(40), num_resamples=199).p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(found) < 0.1


def test_one_group_says_nothing():
    found = compared([1, 1, 0], [0, 1, 0], ["a"] * 3)
    assert found.difference == pytest.approx(1 / 3)
    assert np.isnan([*found.interval, found.p_value]).all()


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm's procedure as what it is short for: no set of hypotheses that holds one may pass Bonferroni's test."""
    indices = range(len(p_values))
    sets = [of for size in range(1, len(p_values) + 1) for of in itertools.combinations(indices, size)]
    return [max(min(1, len(of) * min(p_values[j] for j in of)) for of in sets if i in of) for i in indices]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_closed_testing(seed):
    rng = np.random.default_rng(seed)
    p_values = (rng.random(rng.integers(1, 9)) ** 3).round(2).tolist()
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holm_by_hand_and_without_what_is_unknown():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    first, unknown, second = holm([0.5, float("nan"), 0.02])
    assert (first, second) == (0.5, 0.04)
    assert np.isnan(unknown)
    assert holm([]) == []
