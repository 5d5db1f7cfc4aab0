"""The paper's recogniser: an LSTM that chooses where to look next (Fig. 1, Eqs. 1-6).

Legend: B blocks in a batch, T time-steps, L = K * K locations, D feature channels, H hidden units, A attention
units, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnrec.models.hard import Looks, drawn_looks
from attnrec.models.head import ClassHead, RecognizerOutput
from attnrec.models.late import LateCell
from attnrec.models.layers import LayerMaps
from attnrec.models.recurrence import (
    LSTMState,
    MaskSource,
    init_mlps,
    initial_state,
    layer_input_masks,
    lstm_cells,
    stack_sequence,
    stack_step,
)
from attnrec.models.saliency import SaliencyScorer


class ContentScorer(nn.Module):
    """Location scores that also depend on the frame: u . tanh(Wc X_{t,i} + Wd h_{t-1} + b) + c.

    This form is in the authors' released code, and in the author's erratum to Eq. 1. For HMDB-51 that code has two
    more tanh layers between Wc X_{t,i} and the sum.
    """

    def __init__(self, *, feature_dim: int, hidden_dim: int, attention_dim: int, num_layers: int = 1) -> None:
        super().__init__()
        self.from_feature = nn.Linear(feature_dim, attention_dim, bias=False)
        self.deeper = nn.ModuleList(nn.Linear(attention_dim, attention_dim) for _ in range(num_layers - 1))
        self.from_hidden = nn.Linear(hidden_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1)

    def project(self, cubes: Tensor, maps: LayerMaps | None = None) -> Tensor:
        """Compute the part of the scores that depends on the frames only: Wc X, through any further layers.

        Args:
            cubes: Feature cubes, shape (B, T, L, D).
            maps: What brings several layers to the same D.

        Returns:
            Projected cubes, shape (B, T, L, A).
        """
        projected: Tensor = self.from_feature(cubes) if maps is None else maps.projected(self.from_feature, cubes)
        for layer in self.deeper:
            projected = torch.tanh(layer(projected))
        return projected

    def forward(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """Score the locations of one time-step.

        Args:
            projected: `project` of one time-step, shape (B, L, A).
            hidden: h_{t-1} of the top layer, shape (B, H).

        Returns:
            Location scores, shape (B, L).
        """
        scores: Tensor = self.score(torch.tanh(projected + self.from_hidden(hidden).unsqueeze(1))).squeeze(-1)
        return scores


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type to compute a softmax in: bfloat16 is too coarse for probabilities that must sum to one."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


class AttentionLSTM(nn.Module):
    """Attention LSTM recogniser: soft attention as in the paper, or hard as in Xu et al. (2015).

    Beyond the paper, `attention="saliency"` attends to what stands out in the frames, whatever the state; and with
    `add_mean` the LSTM's input is the mean slice and the glimpse's difference from it, instead of the glimpse: under
    uniform attention this is the average-pooled LSTM. With several `layers` one softmax chooses among the locations of
    all of them, as the paper's section 4 proposes, see `LayerMaps`.

    Args:
        feature_dim: D, channels of a feature slice; with several layers those of the deepest.
        num_locations: L, cells of a feature cube; with several layers those of all together.
        num_classes: C.
        hidden_dim: H, width of every LSTM layer and of the class head.
        num_layers: Number of LSTM layers.
        attention: `location` scores locations from h_{t-1} alone (Eq. 1); `content` from the frame as well; `saliency`
            by what stands out in the block, see `SaliencyScorer`.
        attention_dim: A, width of the content scorer; None takes H.
        scorer_layers: Number of layers of the content scorer.
        init_layers: Number of layers of Eq. 6's perceptrons.
        dropout: Dropout probability on every non-recurrent connection except the scorer's input.
        input_dropout: Dropout probability on the LSTM's input; None takes `dropout`.
        add_mean: Also give the LSTM the mean slice.
        layers: Locations and channels of each of several layers, whose cubes stand side by side; empty for one.
        glimpse: `soft` takes the expected slice under l_t (Eq. 2); `hard` the slice of one location drawn from l_t, see
            `models.hard`.

    Raises:
        ValueError: `attention` or `glimpse` is not one of these forms.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        num_locations: int,
        num_classes: int,
        hidden_dim: int = 512,
        num_layers: int = 3,
        attention: str = "location",
        attention_dim: int | None = None,
        scorer_layers: int = 1,
        init_layers: int = 2,
        dropout: float = 0.5,
        input_dropout: float | None = None,
        add_mean: bool = False,
        layers: Sequence[tuple[int, int]] = (),
        glimpse: str = "soft",
    ) -> None:
        super().__init__()
        if glimpse not in ("soft", "hard"):
            raise ValueError(f"glimpse must be 'soft' or 'hard', got {glimpse!r}")
        self.maps = LayerMaps(layers) if layers else None
        feature_dim = self.maps.feature_dim if self.maps else feature_dim
        if attention == "location":
            self.location_scorer = nn.Linear(hidden_dim, num_locations, bias=False)
        elif attention == "saliency":
            self.saliency_scorer = SaliencyScorer([locations for locations, _ in layers])
        elif attention == "content":
            self.content_scorer = ContentScorer(
                feature_dim=feature_dim,
                hidden_dim=hidden_dim,
                attention_dim=attention_dim or hidden_dim,
                num_layers=scorer_layers,
            )
        else:
            raise ValueError(f"attention must be 'location', 'content' or 'saliency', got {attention!r}")
        self.attention = attention
        self.add_mean = add_mean
        self.glimpse = glimpse
        self.dropout = dropout
        self.input_dropout = dropout if input_dropout is None else input_dropout
        self.init_hidden = init_mlps(feature_dim, hidden_dim, num_layers, init_layers)
        self.init_cell = init_mlps(feature_dim, hidden_dim, num_layers, init_layers)
        self.cells = lstm_cells((1 + add_mean) * feature_dim, hidden_dim, num_layers)
        self.head = ClassHead(hidden_dim=hidden_dim, num_classes=num_classes, dropout=dropout)

    def forward(
        self,
        cubes: Tensor,
        generator: MaskSource = None,
        *,
        given: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> RecognizerOutput:
        """Recognise a batch of blocks.

        Args:
            cubes: Feature cubes X, shape (B, T, L, D); of a less precise type than the parameters only under
                autocast.
            generator: Source of the dropout masks in training, and of hard attention's choices, on the device of
                `cubes`.
            given: Attention that replaces the scorer's, shape (B, T, L). With hard attention as well, the glimpse is
                the expected one under it; maps that are 1 at one location look there.
            noise: Gumbel noise by which hard attention chooses, shape (B, T, L). None draws it in training, where some
                blocks take the expected glimpse instead, and in evaluation takes the most probable locations.

        Returns:
            Class logits (B, T, C), attention (B, T, L), each row of which sums to 1, and with hard attention the
            chosen locations (B, T).
        """
        dtype = self.head.logits.weight.dtype
        mean = cubes.mean(dim=(1, 2), dtype=dtype) if self.maps is None else self.maps.means(cubes, dtype).mean(dim=1)
        state = initial_state(mean, self.init_hidden, self.init_cell)
        masks = self._masks(cubes, generator)
        looks = self._looks(cubes, generator, noise) if self.glimpse == "hard" and given is None else None
        if given is None and self.attention != "saliency":
            top, attention, chosen = self._look_around(cubes, state, masks, looks)
        else:
            attention = self.saliency_scorer(cubes).softmax(dim=-1) if given is None else given
            weights, chosen = (attention, None) if looks is None else looks.weigh(attention)
            top = self._look_where_told(cubes, weights, state, masks)
        return RecognizerOutput(self.head(top, generator), attention, chosen)

    def _look_around(
        self, cubes: Tensor, state: LSTMState, masks: list[Tensor] | None, looks: Looks | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute Eqs. 1-5 step by step: h_t of the top layer (B, T, H), attention (B, T, L) and choices (B, T)."""
        # Wc X does not depend on the state: all steps in one product, (B, T, L, A).
        projected = self.content_scorer.project(cubes, self.maps).unbind(1) if self.attention == "content" else None
        cells = [LateCell(cell) for cell in self.cells] if torch.is_grad_enabled() else self.cells
        top, attention, chosen = [], [], []
        for t, cube in enumerate(cubes.unbind(1)):  # (B, L, D)
            h = state.hidden[-1]
            scores = self.location_scorer(h) if projected is None else self.content_scorer(projected[t], h)
            weights = location_probs = scores.softmax(dim=-1, dtype=_wide(scores.dtype))  # (B, L), Eq. 1
            if looks is not None:
                weights, location = looks.step(t).weigh(location_probs)
                chosen.append(location)
            glimpse = self._glimpses(weights, cube)  # (B, D), Eq. 2
            state = stack_step(cells, glimpse, state, masks and [mask[t] for mask in masks])  # Eqs. 3-5
            top.append(state.hidden[-1])
            attention.append(location_probs)
        return torch.stack(top, dim=1), torch.stack(attention, dim=1), torch.stack(chosen, dim=1) if chosen else None

    def _look_where_told(
        self, cubes: Tensor, attention: Tensor, state: LSTMState, masks: list[Tensor] | None
    ) -> Tensor:
        """Compute Eqs. 2-5 with attention that is known beforehand: h_t of the top layer, shape (B, T, H)."""
        glimpses = self._glimpses(attention.flatten(0, 1), cubes.flatten(0, 1))  # (B * T, D)
        return stack_sequence(self.cells, glimpses.view(*attention.shape[:2], -1), state, masks)

    def _glimpses(self, location_probs: Tensor, cubes: Tensor) -> Tensor:
        """Compute Eq. 2 for frames (N, L, D) under l (N, L); with `add_mean`, the mean slice and glimpse less mean."""
        weights = location_probs.unsqueeze(1)  # (N, 1, L)
        if self.add_mean:
            uniform = torch.full_like(weights, 1 / weights.shape[2])
            weights = torch.cat([uniform, weights - uniform], dim=1)  # (N, 2, L)
        if self.maps is not None:
            return self.maps.weighted(weights.to(cubes.dtype), cubes).flatten(1)
        with torch.autocast(cubes.device.type, enabled=False):  # to cast all cubes takes longer than it saves
            return torch.bmm(weights.to(cubes.dtype), cubes).flatten(1)

    def reset_scorer(self) -> None:
        """Initialise the scorer's parameters anew from torch's global random state; all others stay as they are."""
        for module in self.get_submodule(f"{self.attention}_scorer").modules():
            if isinstance(module, nn.Linear | SaliencyScorer):
                module.reset_parameters()

    def _looks(self, cubes: Tensor, generator: MaskSource, noise: Tensor | None) -> Looks:
        if self.training and noise is None:
            return drawn_looks(cubes.shape[1], cubes.shape[2], cubes[:, 0, 0], generator)
        return Looks(noise)

    def _masks(self, cubes: Tensor, generator: MaskSource) -> list[Tensor] | None:
        if not self.training or not (self.dropout or self.input_dropout):
            return None
        return layer_input_masks(
            self.cells, cubes.shape[1], self.dropout, cubes[:, 0, 0], generator, self.input_dropout
        )
