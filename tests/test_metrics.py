import math

import numpy as np
import pytest
from sklearn import metrics as reference

from attnrec.errors import ConfigError
from attnrec.metrics import (
    accuracy,
    attention_entropy,
    average_precision,
    binary_log_loss,
    confusion,
    is_nearly_uniform,
    log_loss,
    mean_average_precision,
    per_class_accuracy,
    reduce_blocks,
    require_fitting,
    top_k_hits,
)


def random_probs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


BLOCKS = np.array(
    [
        [[0.8, 0.2], [0.6, 0.4]],  # video 5: mean 0.7
        [[0.1, 0.9], [0.3, 0.7]],  # video 5: mean 0.2
        [[0.6, 0.4], [0.6, 0.4]],  # video 5: mean 0.6
        [[0.0, 1.0], [1.0, 0.0]],  # video 2: mean 0.5
    ],
    np.float32,
)
OWNERS = np.array([5, 5, 5, 2])


def test_mean_over_steps_and_then_over_blocks():
    np.testing.assert_allclose(reduce_blocks(BLOCKS, OWNERS, "mean"), [[0.5, 0.5], [0.5, 0.5]], atol=1e-7)
    np.testing.assert_allclose(reduce_blocks(BLOCKS[:2], OWNERS[:2], "mean"), [[0.45, 0.55]], atol=1e-7)


def test_vote_is_the_share_of_blocks_that_a_class_wins():
    np.testing.assert_allclose(reduce_blocks(BLOCKS, OWNERS, "vote")[0], [2 / 3, 1 / 3])
    np.testing.assert_allclose(reduce_blocks(BLOCKS, OWNERS, "vote").sum(axis=1), 1)


def test_an_unknown_reduction():
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'vote', got 'median'"):
        reduce_blocks(BLOCKS, OWNERS, "median")


@pytest.mark.parametrize("reduction", ["mean", "vote"])
@pytest.mark.parametrize("owners", [[0], [3, 3, 3], [0, 1, 2], [2, 2, 0, 1, 1, 1], [-1, 0, 0], [7, 7, 7, 3, 9, 9]])
def test_reduction_equals_a_loop(reduction, owners):
    probs = random_probs(len(owners), 4, 3)
    expected = []
    for owner in dict.fromkeys(owners):
        blocks = [probs[i].mean(axis=0) for i in range(len(owners)) if owners[i] == owner]
        if reduction == "vote":
            blocks = [np.eye(3)[block.argmax()] for block in blocks]
        expected.append(np.mean(blocks, axis=0))
    actual = reduce_blocks(probs.astype(np.float32), np.array(owners), reduction)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, atol=1e-6)


LABELS = np.array([0, 0, 1, 1, 3])
PROBS = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.1, 0.8, 0.1, 0.0], [0.0, 0.9, 0.1, 0.0], [0.5, 0.2, 0.2, 0.1]]
)


def test_a_worked_example():
    assert accuracy(LABELS, PROBS) == pytest.approx(3 / 5)
    matrix = confusion(LABELS, PROBS)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(per_class_accuracy(matrix), [0.5, 1, np.nan, 0])
    expected = -sum(math.log(p) for p in (0.7, 0.2, 0.8, 0.9, 0.1)) / 5
    assert log_loss(LABELS, PROBS) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_with_sklearn(seed):
    labels, probs = np.random.default_rng(seed).integers(0, 5, 60), random_probs(60, 5, seed=seed)
    predicted = probs.argmax(axis=1)
    assert accuracy(labels, probs) == pytest.approx(reference.accuracy_score(labels, predicted))
    matrix = confusion(labels, probs)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(labels, predicted))
    np.testing.assert_allclose(per_class_accuracy(matrix), reference.recall_score(labels, predicted, average=None))
    assert log_loss(labels, probs) == pytest.approx(reference.log_loss(labels, probs, labels=np.arange(5)))
    assert matrix.sum() == 60


def test_a_class_thought_impossible_costs_much_but_not_everything():
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(1e-12))
    assert log_loss(np.array([1]), np.array([[0.0, 1.0]])) == pytest.approx(0)


def test_attention_entropy():
    assert attention_entropy(np.full((2, 3, 49), 1 / 49, np.float32)) == pytest.approx(1, abs=1e-5)
    assert attention_entropy(np.eye(7, dtype=np.float32)) == pytest.approx(0, abs=1e-5)
    halves = np.array([0.5, 0.5, 0, 0], np.float32)
    assert attention_entropy(halves) == pytest.approx(0.5, abs=1e-6)
    assert attention_entropy(np.stack([halves, np.full(4, 0.25, np.float32)])) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(("ratio", "is_nearly_uniform_"), [(1, True), (2.8, True), (3, False), (20, False)])
def test_attention_is_nearly_uniform_up_to_a_ratio_of_its_halves(ratio, is_nearly_uniform_):
    halves = np.repeat([ratio, 1], [25, 24]).astype(np.float32)
    assert is_nearly_uniform(attention_entropy(halves / halves.sum())) is is_nearly_uniform_


# Last steps, top k, several labels


def test_only_the_last_steps_count():
    np.testing.assert_allclose(reduce_blocks(BLOCKS, OWNERS, "mean", 1), [[0.5, 0.5], [1, 0]], atol=1e-7)
    np.testing.assert_allclose(reduce_blocks(BLOCKS, OWNERS, "vote", 1), [[2 / 3, 1 / 3], [1, 0]])
    np.testing.assert_array_equal(reduce_blocks(BLOCKS, OWNERS, "mean", 2), reduce_blocks(BLOCKS, OWNERS, "mean"))


@pytest.mark.parametrize("last_steps", [0, 3, -1])
def test_last_steps_out_of_range(last_steps):
    with pytest.raises(
        ValueError, match=f"last_steps must be from 1 to 2, the time-steps of a block, got {last_steps}"
    ):
        reduce_blocks(BLOCKS, OWNERS, "mean", last_steps)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("last_steps", [16, 30])
def test_votes_as_the_authors_count_them(seed, last_steps):
    """Sum of the last steps' probabilities, argmax for each block, majority; ties go to the lowest label."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(12), rng.integers(1, 6, 12))
    probs = rng.integers(0, 3, (len(owners), 30, 4)).astype(np.float32)  # small integers tie often
    expected = []
    for video in range(12):
        ballots = [0] * 4
        for block in probs[owners == video]:
            sums = [sum(float(step[c]) for step in block[-last_steps:]) for c in range(4)]
            ballots[sums.index(max(sums))] += 1
        expected.append(ballots.index(max(ballots)))
    assert reduce_blocks(probs, owners, "vote", last_steps).argmax(axis=1).tolist() == expected


def test_top_k_by_hand():
    # Ranks of the labels: first; second; first; first; fourth of 0.5 0.2 0.2 0.1.
    assert [top_k_hits(LABELS, PROBS, k).mean() for k in (1, 2, 3, 4)] == [3 / 5, 4 / 5, 4 / 5, 1]
    ties = np.full((2, 3), 1 / 3)
    assert [top_k_hits(np.array([0, 2]), ties, k).mean() for k in (1, 2, 3)] == [0.5, 0.5, 1]


@pytest.mark.parametrize("k", [0, 5])
def test_top_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to 4, the number of classes, got {k}"):
        top_k_hits(LABELS, PROBS, k)


@pytest.mark.parametrize("seed", range(3))
def test_top_k_agrees_with_sklearn(seed):
    labels, probs = np.random.default_rng(seed).integers(0, 6, 80), random_probs(80, 6, seed=seed)
    for k in range(1, 6):
        expected = reference.top_k_accuracy_score(labels, probs, k=k, labels=np.arange(6))
        assert top_k_hits(labels, probs, k).mean() == pytest.approx(expected)


TARGETS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], np.uint8)
SCORES = np.array([[0.9, 0.8, 0.1], [0.8, 0.5, 0.2], [0.7, 0.5, 0.3], [0.1, 0.1, 0.4]])


def test_average_precision_by_hand():
    # Class 0: ranks 1 and 3, (1/1 + 2/3) / 2. Class 1: both at the tied ranks 2 and 3, 2/3. Class 2: no video.
    np.testing.assert_allclose(average_precision(TARGETS, SCORES), [5 / 6, 2 / 3, np.nan])
    assert mean_average_precision(TARGETS, SCORES) == pytest.approx(3 / 4)
    assert math.isnan(mean_average_precision(TARGETS[:, 2:], SCORES[:, 2:]))


@pytest.mark.parametrize("seed", range(3))
def test_mean_average_precision_agrees_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    targets, scores = (rng.random((60, 12)) < 0.2).astype(np.uint8), rng.random((60, 12)).round(1)
    targets[0] = 1
    expected = reference.average_precision_score(targets, scores, average=None)
    np.testing.assert_allclose(average_precision(targets, scores), expected)
    assert mean_average_precision(targets, scores) == pytest.approx(expected.mean())


@pytest.mark.parametrize(("name", "other"), [("top_k_accuracy", "map"), ("vote", "mean")])
def test_what_does_not_fit_several_labels_is_refused_by_name(name, other):
    message = f"{name} is for videos of one label each, and these have several; use {other}"
    with pytest.raises(ConfigError, match=message):
        require_fitting(name, multilabel=True)
    require_fitting(name, multilabel=False)
    for multilabel in (False, True):
        require_fitting("mean", multilabel=multilabel)


def test_binary_log_loss_is_scikit_learns():
    rng = np.random.default_rng(5)
    targets, probs = rng.integers(0, 2, (7, 4)).astype(np.uint8), rng.random((7, 4))
    expected = reference.log_loss(targets.ravel(), probs.ravel(), labels=[0, 1])
    assert binary_log_loss(targets, probs) == pytest.approx(expected)
    assert binary_log_loss(np.ones((1, 1), np.uint8), np.zeros((1, 1))) == pytest.approx(-np.log(1e-12))
