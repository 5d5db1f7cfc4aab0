"""The tests of attention over two layers of different grids: boxes are those of the picture, fillers of each layer."""

from dataclasses import replace

import numpy as np
import pytest
from small_store import FINER, SPEC

from attnrec.evaluation.faithfulness import mean_slices
from attnrec.evaluation.localization import Targets, block_sums
from attnrec.evaluation.on_frame import on_frame
from attnrec.features.store import FeatureStore

GRIDS = replace(FINER, grid_size=4).grids + SPEC.grids  # 4 x 4 and 2 x 2


def targets_of(*covered):
    """Boxes that cover whole cells of the finest grid, in as many stored frames; the last frame has none."""
    coverage = np.zeros((len(covered), 16), np.float32)
    for row, cells in zip(coverage, covered, strict=True):
        row[list(cells)] = 1
    return Targets(np.array([*range(len(covered)), -1]), coverage, None, [], GRIDS)


def attention_on(*shares):
    """Attention (1, T, L) on given locations, by step: those of the 4 x 4 grid are 0 to 15, of the 2 x 2 16 to 19."""
    attention = np.zeros((1, len(shares), 20), np.float32)
    for step, of in enumerate(shares):
        for location, share in of.items():
            attention[0, step, location] = share
    return attention


def test_attention_of_both_layers_falls_into_the_boxes_of_the_picture():
    # Cell 0 of the 2 x 2 grid covers the cells 0, 1, 4 and 5 of the 4 x 4 one; the boxes cover 0 and 1, then 15.
    targets = targets_of([0, 1], [15])
    attention = attention_on({16: 0.6, 0: 0.4}, {19: 0.5, 0: 0.3, 3: 0.2}, {0: 1.0})
    sums = block_sums(attention, np.array([[0, 1, 2]]), targets)
    assert sums["steps"].tolist() == [2]  # the third has no box
    # Of step 0, 0.4 and half of 0.6; of step 1, a quarter of 0.5.
    assert sums["mass"] == pytest.approx([0.4 + 0.3 + 0.125])
    assert sums["pointing"].tolist() == [1]  # at step 1 the peak is cell 0, with 0.3 against 0.2 and 0.125
    assert sums["mass_uniform"] == pytest.approx([2 / 16 + 1 / 16])


def test_what_both_layers_say_of_a_place_adds_up():
    attention, frames = attention_on({5: 0.3, 15: 0.3, 16: 0.4}), np.array([[0]])  # cell 5: 0.3 + 0.4 / 4
    assert on_frame(attention, GRIDS)[0, 0, [5, 15]] == pytest.approx([0.4, 0.3])
    assert block_sums(attention, frames, targets_of([5]))["pointing"].tolist() == [1]
    assert block_sums(attention, frames, targets_of([15]))["pointing"].tolist() == [0]


def test_a_removed_cell_is_filled_with_its_own_layers_mean(layered_store):
    store = FeatureStore(layered_store, "finer+features")
    videos, scales = np.array([1, 4]), (0.5, 3.0)
    filler = mean_slices(store, videos, scales)
    rows = np.concatenate([np.arange(12) + store.videos.first_frame[video] for video in videos])
    finer, coarse = (layer[rows].astype(np.float64).mean(axis=(0, 1, 2)) for layer in store.layer_features())
    assert (filler.shape, filler.dtype) == ((9 + 4, 6), np.float32)
    for location in range(9):
        np.testing.assert_allclose(filler[location], [*(0.5 * finer), 0, 0], rtol=1e-5)
    for location in range(9, 13):
        np.testing.assert_allclose(filler[location], 3 * coarse, rtol=1e-5)


def test_the_filler_of_one_layer_is_its_mean(tiny_store):
    store = FeatureStore(tiny_store)
    mean = store.features()[:12].astype(np.float64).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean_slices(store, np.array([0]), (2.0,)), np.tile(2 * mean, (4, 1)), rtol=1e-5)
