"""The attention of several layers as one map, against a loop over the smallest parts that all grids share."""

import math

import numpy as np
import pytest

from attnrec.evaluation.on_frame import layer_maps, on_frame

GRIDS = [(2, 4), (4, 2), (7, 13), (14, 7, 7), (1, 3), (5,)]


def grids_of(sides):
    return [(f"layer{m}", K, 8) for m, K in enumerate(sides)]


def maps_of(sides, shape=(2, 3)):
    """Location probabilities over all layers."""
    values = np.random.default_rng(0).random((*shape, sum(K * K for K in sides)))
    return values / values.sum(axis=-1, keepdims=True)


def by_parts(attention, sides):
    """One map (L,) on the finest grid: every part of the frame, so small that no cell's edge cuts it, by itself."""
    finest, side = max(sides), math.lcm(*sides)
    seen = np.zeros((finest, finest))
    for y in range(side):
        for x in range(side):
            first = 0
            for K in sides:
                own = attention[first + (y * K // side) * K + x * K // side]
                seen[y * finest // side, x * finest // side] += own * (K / side) ** 2
                first += K * K
    return seen.ravel()


@pytest.mark.parametrize("sides", GRIDS)
def test_equals_the_loop_over_parts(sides):
    attention = maps_of(sides)
    seen = on_frame(attention, grids_of(sides))
    expected = [[by_parts(each, sides) for each in row] for row in attention]
    np.testing.assert_allclose(seen, expected, atol=1e-12)
    np.testing.assert_allclose(seen.sum(axis=-1), 1, atol=1e-12)


def test_a_single_layer_is_left_as_it_is():
    attention = maps_of((3,)).astype(np.float32)
    assert on_frame(attention, grids_of((3,))) is attention


def test_the_type_stays():
    assert on_frame(maps_of((2, 3)).astype(np.float32), grids_of((2, 3))).dtype == np.float32


def test_even_attention_is_even_on_the_frame():
    sides = (7, 13)
    attention = np.concatenate([np.full(K * K, 0.5 / K**2) for K in sides])
    np.testing.assert_allclose(on_frame(attention, grids_of(sides)), 1 / 169, atol=1e-15)


def test_classes_without_a_map_stay_without_one():
    attention = maps_of((2, 4), (3,))
    attention[1] = np.nan
    seen = on_frame(attention, grids_of((2, 4)))
    assert np.isnan(seen[1]).all()
    assert np.isfinite(seen[[0, 2]]).all()


@pytest.mark.parametrize("sides", GRIDS)
def test_each_layer_keeps_its_own_map(sides):
    attention = maps_of(sides)
    first = 0
    for K, own in zip(sides, layer_maps(attention, grids_of(sides)), strict=True):
        assert own.shape == (2, 3, K, K)
        for row in range(K):
            start = first + row * K
            np.testing.assert_array_equal(own[..., row, :], attention[..., start : start + K])
        first += K * K
