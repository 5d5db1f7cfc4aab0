from itertools import product

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics

from attnrec.evaluation.intervals import mean_of_statistics, mean_statistic
from attnrec.evaluation.measures import (
    area_statistic,
    centre_prior,
    changed_share,
    curve_area,
    donors,
    jensen_shannon,
    mass_inside,
    most_frequent_cell,
    pointing_hits,
    prediction_shift,
    rank_correlation,
    removal_ranks,
)


def maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)


@pytest.mark.parametrize(
    "counts", [*product(range(1, 5), repeat=2), *product(range(1, 4), repeat=3), (7,), (2,), (1, 9, 1), (5, 1, 1, 1)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_video_gets_another_of_another_kind_wherever_possible(counts, seed):
    kinds = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = donors(kinds, np.random.default_rng(seed))
    assert sorted(chosen) == list(range(len(kinds)))
    assert not (chosen == np.arange(len(kinds))).any()
    # The largest kind can give no more away than there are others.
    unavoidable = max(0, 2 * max(counts) - sum(counts))
    assert (kinds[chosen] == kinds).sum() == unavoidable


def test_donors_are_drawn():
    kinds = np.arange(12) % 3
    drawn = {tuple(donors(kinds, np.random.default_rng(seed))) for seed in range(5)}
    assert len(drawn) == 5
    assert tuple(donors(kinds, np.random.default_rng(3))) in drawn
    with pytest.raises(ValueError, match="on its own"):
        donors(np.zeros(1, np.int64), np.random.default_rng(0))


def test_the_most_attended_cell_goes_first():
    attention = maps(3, 4, 7)
    ranks = removal_ranks(attention, np.random.default_rng(0))
    for row, ranked in zip(attention.reshape(-1, 7), ranks.reshape(-1, 7), strict=True):
        assert [row[list(ranked).index(k)] for k in range(7)] == sorted(row, reverse=True)


def test_equally_attended_cells_go_in_random_order():
    ranks = removal_ranks(np.full((4000, 5), 0.2, np.float32), np.random.default_rng(0))
    assert (np.sort(ranks, axis=-1) == np.arange(5)).all()
    np.testing.assert_allclose(ranks.mean(axis=0), 2, atol=0.1)


def test_areas_are_those_of_scikit_learn_between_the_ends():
    shares = np.array([0, 0.2, 0.5, 1])
    curves = np.array([[0.9, 0.8, 0.3, 0.1], [0.7, 0.9, 0.5, 0.2]])
    expected = [sklearn.metrics.auc(shares, (row - row[-1]) / (row[0] - row[-1])) for row in curves]
    np.testing.assert_allclose(curve_area(curves, shares), expected)
    assert curve_area(curves[0], shares) == pytest.approx(expected[0])
    weights = np.array([[1.0, 1.0], [3.0, 1.0]])
    means = [np.average(curves, axis=0, weights=row) for row in weights]
    np.testing.assert_allclose(area_statistic(curves, shares)(weights), [curve_area(mean, shares) for mean in means])


@pytest.mark.parametrize("curve", [[0.5, 0.2, 0.5], [0.2, 0.5, 0.9], [0.505, 0.5, 0.5]])
def test_a_curve_that_does_not_fall_has_no_area(curve):
    assert np.isnan(curve_area(np.array(curve), np.array([0, 0.5, 1])))


def test_divergence_and_correlation_are_scipys():
    one, other = maps(20, 3, 9), maps(20, 3, 9, seed=1)
    one[0, 0] = np.eye(9)[2]  # zeros, and ties
    divergence, correlation = jensen_shannon(one, other), rank_correlation(one, other)
    for p, q, d, r in zip(
        one.reshape(-1, 9), other.reshape(-1, 9), divergence.ravel(), correlation.ravel(), strict=True
    ):
        assert d == pytest.approx(scipy.spatial.distance.jensenshannon(p, q, base=2) ** 2, abs=1e-6)
        assert r == pytest.approx(scipy.stats.spearmanr(p, q).statistic)


def test_divergence_and_correlation_at_their_ends():
    p = maps(6)
    eye = np.eye(4)
    assert jensen_shannon(p, p) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(p, np.nextafter(p, 1)) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(eye[0], eye[1]) == pytest.approx(1)
    assert rank_correlation(p, p) == pytest.approx(1)
    assert rank_correlation(p, -p) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.full(6, 1 / 6), p))


@pytest.mark.parametrize("K", [1, 2, 6, 7, 13])
def test_the_centre_prior_is_a_gaussian_in_the_middle(K):
    prior = centre_prior(K).reshape(K, K)
    assert prior.sum() == pytest.approx(1)
    assert (prior == prior[::-1]).all()
    assert (prior == prior.T).all()
    middle = prior == prior.max()
    assert middle.sum() == (1 if K % 2 else 4)
    assert middle[K // 2, K // 2]
    rows, columns = np.indices((K, K))
    expected = scipy.stats.norm.pdf(np.hypot(rows - (K - 1) / 2, columns - (K - 1) / 2) / K, scale=0.25)
    np.testing.assert_allclose(prior, expected / expected.sum())


def test_a_hit_is_a_peak_that_touches_the_target():
    coverage = np.array([0, 0.1, 1, 0])
    attention = np.array([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.3, 0], [0.4, 0.4, 0.1, 0.1], [0.25] * 4])
    assert pointing_hits(attention, coverage).tolist() == [1, 0, 0.5, 0.5]
    np.testing.assert_allclose(mass_inside(attention, coverage), [0.26, 0.33, 0.14, 0.275])


def test_the_most_frequent_cell_is_touched_most_often_then_covered_most():
    often = np.array([[0.1, 1, 0, 0], [0.1, 0, 1, 0], [0, 0, 0, 1]])
    assert most_frequent_cell(often).tolist() == [1, 0, 0, 0]
    assert most_frequent_cell(np.array([[0.1, 1, 0, 0], [0.1, 0.1, 1, 0]])).tolist() == [0, 1, 0, 0]
    assert most_frequent_cell(np.ones((2, 3))).tolist() == [1, 0, 0]


def test_how_far_predictions_move():
    one = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3]])
    other = np.array([[0.3, 0.7, 0.0], [0.1, 0.6, 0.3]])
    assert changed_share(one, other) == 0.5
    assert prediction_shift(one, other, multilabel=False) == pytest.approx(0.25)
    assert prediction_shift(one, other, multilabel=True) == pytest.approx(1 / 6)
    assert changed_share(one, one) == prediction_shift(one, one, multilabel=False) == 0


def test_the_mean_of_resamples():
    values = np.array([1.0, 2.0, 6.0])
    weights = np.array([[1.0, 1, 1], [0, 2, 1]])
    assert mean_statistic(values)(weights).tolist() == [3, 10 / 3]
    assert mean_of_statistics([mean_statistic(values), mean_statistic(-2 * values)])(weights).tolist() == [-1.5, -5 / 3]
