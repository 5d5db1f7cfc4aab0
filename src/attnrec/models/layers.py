"""Several layers' cubes in one list of locations: the multi-resolution attention that the paper proposes (section 4).

The cubes of M layers stand side by side in one tensor, (B, T, L, D) with L the sum of all L_m, and the channels of each
layer filled up with zeros to the D of the deepest. An affine map P_m brings each layer to the D of the last one, which
needs no map of its own; from there on Eqs. 1-7 are those of one layer.

Legend: N rows (blocks, or frames of blocks), L_m locations and D_m channels of layer m, D those of the last layer.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layer_parts(cubes: Tensor, layers: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """The slices of each layer, shape (..., L_m, D_m), of cubes (..., L, channels)."""
    first = 0
    for num_locations, channels in layers:
        yield cubes[..., first : first + num_locations, :channels]
        first += num_locations


class LayerMaps(nn.Module):
    """The affine maps P_m of all layers but the last.

    Attention sums slices before anything else is done with them, and a sum goes through an affine map as a whole: so
    the maps are applied to sums wherever possible, not to every slice.

    Args:
        layers: L_m and D_m of each layer.
    """

    def __init__(self, layers: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.feature_dim = self.layers[-1][1]  # D
        self.maps = nn.ModuleList(nn.Linear(channels, self.feature_dim) for _, channels in self.layers[:-1])

    def weighted(self, weights: Tensor, cubes: Tensor) -> Tensor:
        """Weighted sums of mapped slices: of P_m X_{m,i} over all m and i.

        Args:
            weights: K weights of every location, shape (N, K, L), of the cubes' type.
            cubes: Cubes of the layers, shape (N, L, channels).

        Returns:
            Sums, shape (N, K, D).
        """
        sums, first = [], 0
        for part in layer_parts(cubes, self.layers):
            own = weights[..., first : first + part.shape[-2]]
            with torch.autocast(cubes.device.type, enabled=False):  # to cast all cubes takes longer than it saves
                sums.append((torch.bmm(own, part), own.sum(dim=-1, keepdim=True)))
            first += part.shape[-2]
        return self._mapped_sums(sums)

    def means(self, cubes: Tensor, dtype: torch.dtype) -> Tensor:
        """Means of the mapped slices over locations, shape (..., D), of cubes (..., L, channels)."""
        sums = [
            (part.sum(dim=-2, dtype=dtype) / cubes.shape[-2], part.new_full((), part.shape[-2] / cubes.shape[-2]))
            for part in layer_parts(cubes, self.layers)
        ]
        return self._mapped_sums(sums)

    def mapped(self, cubes: Tensor) -> Tensor:
        """Every slice mapped, shape (..., L, D), of cubes (..., L, channels)."""
        *parts, last = layer_parts(cubes, self.layers)
        return torch.cat([*(own(part) for own, part in zip(self.maps, parts, strict=True)), last], dim=-2)

    def projected(self, projection: nn.Linear, cubes: Tensor) -> Tensor:
        """A linear map without bias of every mapped slice, as one product for each layer: shape (..., L, outputs)."""
        *parts, last = layer_parts(cubes, self.layers)
        weight = projection.weight
        joint = []
        for own, part in zip(self.maps, parts, strict=True):
            assert isinstance(own, nn.Linear)
            joint.append(F.linear(part, weight @ own.weight, weight @ own.bias))
        return torch.cat([*joint, projection(last)], dim=-2)

    def _mapped_sums(self, sums: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Map each layer's sum of slices, given with the sum of its weights, and add the layers up."""
        *others, (total, _) = sums
        for own, (values, weight) in zip(self.maps, others, strict=True):
            assert isinstance(own, nn.Linear)
            # In the parameters' precision, or autocast's; only the products of all slices are in the cubes'.
            total = total + F.linear(values.to(own.weight.dtype), own.weight) + weight * own.bias
        return total
