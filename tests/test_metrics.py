import math

import numpy as np
import pytest
from sklearn import metrics as reference

from attnrec.metrics import accuracy, attention_entropy, confusion, log_loss, per_class_accuracy, reduce_blocks


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
