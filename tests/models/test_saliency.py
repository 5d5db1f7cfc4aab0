"""What stands out in a block, by hand and by the literal equations."""

import math

import paper_equations
import pytest
import torch
from helpers import assert_close, make_cubes

from attnrec.models.saliency import SaliencyScorer, saliency


@pytest.mark.parametrize(("B", "T", "L", "D"), [(1, 1, 2, 1), (2, 3, 4, 5), (3, 7, 49, 8)])
def test_equals_the_literal_equations(B, T, L, D):
    cubes = make_cubes(B, T, L, D)
    expected = torch.stack([torch.as_tensor(paper_equations.saliency(X)) for X in cubes.numpy()])
    assert_close(saliency(cubes, torch.float64), expected)


def test_the_strong_cell_and_the_changing_cell_stand_out():
    cubes = torch.ones(1, 4, 9, 6)
    cubes[:, :, 2] = 3  # strong, and still
    cubes[:, ::2, 5] = 2  # changes, between this and the others' strength
    strength, change = saliency(cubes, torch.float32).unbind(-1)
    assert strength.argmax(dim=-1).tolist() == [[2, 2, 2, 2]]
    assert change.argmax(dim=-1).tolist() == [[5, 5, 5, 5]]


def test_scale_does_not_matter():
    cubes = make_cubes()
    assert_close(saliency(1000 * cubes, torch.float64), saliency(cubes, torch.float64))


def test_a_black_and_still_block_is_looked_at_evenly():
    assert not saliency(torch.zeros(1, 3, 4, 5), torch.float32).any()
    cubes = torch.rand(1, 1, 4, 8, generator=torch.Generator().manual_seed(0)).expand(1, 3, 4, 8)
    change = saliency(cubes, torch.float32)[..., 1]
    assert change.abs().max() < 1e-2  # rounding alone differs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_short_cubes_are_summed_in_full(dtype):
    cubes = make_cubes(2, 5, 9, 64).float().abs()
    scorer = SaliencyScorer()
    expected = scorer(cubes)
    with torch.autocast("cpu", torch.bfloat16):
        actual = scorer(cubes.to(dtype))
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()


def test_starts_alike_whatever_the_seed():
    torch.manual_seed(1)
    weights = SaliencyScorer().weight.tolist()
    torch.manual_seed(2)
    assert weights == SaliencyScorer().weight.tolist() == list(SaliencyScorer.START)
    assert all(math.isfinite(weight) for weight in weights)
