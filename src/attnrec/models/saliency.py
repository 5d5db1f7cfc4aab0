"""What stands out in the frames of a block, before anything is learned of its class.

Legend: B blocks in a batch, T time-steps, L = K * K locations, D feature channels.
"""

import torch
from torch import Tensor, nn

# Cells that stand still differ by rounding alone, which a logarithm would blow up: as much change counts as none, as a
# share of the mean square norm.
_STILL = 1e-4
_LEAST_SPREAD = 0.1  # of the logarithms: cells that are as good as alike are not told apart at full strength


class SaliencyScorer(nn.Module):
    """Location scores of what stands out in a block: cells of strong features, and cells that change over time.

    Two measures of a cell, each as its logarithm and standardised over the locations of its time-step: the norm of
    X_{t,i}, and the norm of the standard deviation of X_{.,i} over the block's time-steps. Two weights are learned.
    Neither the paper nor its code has it. A scorer that must first find out where anything happens does not do so on
    frozen features of a few hundred videos; this points at the actor from the start, and has too little to learn to
    lose sight of it. It looks at the whole block, as Eq. 6 does, and the LSTM has no say in it.
    """

    # Of norm and change; set on J-HMDB's training videos by how often the peak is on the person.
    START = (1.0, 2.0)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as `START`, whatever the seed."""
        with torch.no_grad():
            self.weight.copy_(torch.tensor(self.START))

    def forward(self, cubes: Tensor) -> Tensor:
        """Score the locations of all time-steps.

        Args:
            cubes: Feature cubes, shape (B, T, L, D).

        Returns:
            Location scores, shape (B, T, L), of the parameters' type.
        """
        # Not as a product of matrices, which autocast would round.
        return (saliency(cubes, self.weight.dtype) * self.weight).sum(dim=-1)


def saliency(cubes: Tensor, dtype: torch.dtype) -> Tensor:
    """How much each cell stands out by the norm of its features and by that of their change over the block.

    Args:
        cubes: Feature cubes, shape (B, T, L, D).
        dtype: Of the result, and of the sums.

    Returns:
        Logarithms of both, standardised over locations, shape (B, T, L, 2).
    """
    squares = torch.linalg.vector_norm(cubes, dim=-1, dtype=dtype).square()  # (B, T, L)
    mean = cubes.mean(dim=1, dtype=dtype)  # (B, L, D)
    change = (squares.mean(dim=1) - mean.square().sum(dim=-1)).clamp_min(0)  # (B, L)
    both = torch.stack([squares, change.unsqueeze(1).expand_as(squares)], dim=-1)  # (B, T, L, 2)
    still = _STILL * squares.mean(dim=(1, 2)) + torch.finfo(dtype).tiny  # (B,), over zero in black blocks as well
    logs = torch.log(both + still[:, None, None, None]) / 2
    centred = logs - logs.mean(dim=2, keepdim=True)
    return centred / logs.std(dim=2, correction=0, keepdim=True).clamp_min(_LEAST_SPREAD)
