"""Saliency: what stands out in the frames of a block, before anything is learnt of its class.

Legend: B blocks in a batch, T time-steps, L = K * K locations, D feature channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Cells without motion differ by rounding only, which a logarithm would amplify: this much change counts as none, as a
# share of the mean square norm.
_STILL = 1e-4
_LEAST_SPREAD = 0.1  # least deviation of the logarithms, so that nearly equal cells are not told far apart


class SaliencyScorer(nn.Module):
    """Location scores by what stands out in a block: cells with strong features, and cells that change over time.

    Two measures of a cell are weighted by two learnt weights, each as its logarithm, standardised over the locations of
    its time-step: the norm of X_{t,i}, and the norm of the standard deviation of X_{.,i} over the block's time-steps.
    This is not in the paper or its code. A scorer that must first learn where anything happens does not do so on
    frozen features of a few hundred videos; this one points at the actor from the start, and has too few weights to
    unlearn it. It sees the whole block, as Eq. 6 does, and does not depend on the LSTM's state.

    Args:
        locations: Number of locations of each of several layers, within each of which the measures are standardised;
            empty for one layer.
    """

    # Weights of norm and change; chosen on J-HMDB's training videos by how often the peak is on the person.
    START = (1.0, 2.0)

    def __init__(self, locations: Sequence[int] = ()) -> None:
        super().__init__()
        self.locations = list(locations)
        self.weight = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weights to `START`, whatever the seed."""
        with torch.no_grad():
            self.weight.copy_(torch.tensor(self.START))

    def forward(self, cubes: Tensor) -> Tensor:
        """Score the locations of all time-steps.

        Args:
            cubes: Feature cubes, shape (B, T, L, D).

        Returns:
            Location scores, shape (B, T, L), of the parameters' type.
        """
        layers = torch.split(cubes, self.locations, dim=2) if self.locations else (cubes,)
        measures = torch.cat([saliency(layer, self.weight.dtype) for layer in layers], dim=2)
        # Not as a matrix product, which autocast would round.
        return (measures * self.weight).sum(dim=-1)


def saliency(cubes: Tensor, dtype: torch.dtype) -> Tensor:
    """Measure how much each cell stands out: the norm of its features, and of their change over the block.

    Args:
        cubes: Feature cubes, shape (B, T, L, D).
        dtype: Type of the result and of sums.

    Returns:
        Logarithms of both norms, standardised over locations, shape (B, T, L, 2).
    """
    squares = torch.linalg.vector_norm(cubes, dim=-1, dtype=dtype).square()  # (B, T, L)
    mean = cubes.mean(dim=1, dtype=dtype)  # (B, L, D)
    change = (squares.mean(dim=1) - mean.square().sum(dim=-1)).clamp_min(0)  # (B, L)
    both = torch.stack([squares, change.unsqueeze(1).expand_as(squares)], dim=-1)  # (B, T, L, 2)
    still = _STILL * squares.mean(dim=(1, 2)) + torch.finfo(dtype).tiny  # (B,), positive even in black blocks
    logs = torch.log(both + still[:, None, None, None]) / 2
    centred = logs - logs.mean(dim=2, keepdim=True)
    return centred / logs.std(dim=2, correction=0, keepdim=True).clamp_min(_LEAST_SPREAD)
