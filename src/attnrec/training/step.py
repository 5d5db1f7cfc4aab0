"""One optimiser step of a training, in one process or shared by several.

Legend: B blocks in a batch.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attnrec.capture import Captured
from attnrec.distributed import World
from attnrec.features.blocks import BlockTable
from attnrec.features.feed import CubeFeed
from attnrec.models.architectures import build_model
from attnrec.models.hard import KEPT, choice_loss, even_losses_to_come, losses_to_come
from attnrec.models.head import RecognizerOutput
from attnrec.models.losses import doubly_stochastic_penalty, mean_entropy, recognition_loss
from attnrec.models.recurrence import BatchShare
from attnrec.runtime import derived_seed
from attnrec.settings import DecayPer, OptimizerName
from attnrec.training.plan import Session


class Batch(NamedTuple):
    """A batch, and the part of it that this process works on."""

    blocks: NDArray[np.int64]  # indices of the whole batch's blocks, shape (B,)
    first: int  # first row of the batch that this process computes
    num_rows: int  # computed rows that count: all, or 0 if the process has no share and computes one as filler
    cubes: Tensor  # cubes of these rows, shape (rows, T, L, D), on the device
    targets: Tensor  # targets of these rows, on the device


class Means(NamedTuple):
    """Means of the training figures over blocks."""

    loss: float  # Eq. 7 without weight decay
    penalty: float  # attention penalty of Eq. 7 before lambda; 0 without attention
    entropy: float  # entropy of the attention, as a share of that of uniform attention; 0 without


class StepFigures(NamedTuple):
    """The figures of an optimiser step, over the whole batch."""

    means: Means
    num_blocks: int  # B
    gradient_norm: float  # before clipping
    stop: bool  # whether any process was asked to stop

    @property
    def finite(self) -> bool:
        """Whether loss and gradient were finite; if not, the parameters were left unchanged."""
        return math.isfinite(self.means.loss) and math.isfinite(self.gradient_norm)


def build_optimizer(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    *,
    kind: OptimizerName = "adam",
    decay_per: DecayPer = "block",
    batch_size: int = 1,
) -> torch.optim.Optimizer:
    """Adam or plain SGD with Eq. 7's weight decay, whose gradient 2 gamma theta is coupled decay at 2 gamma.

    Args:
        model: The model whose parameters are trained.
        learning_rate: Learning rate of the optimiser.
        weight_decay: gamma of Eq. 7.
        kind: `adam` or `sgd`.
        decay_per: `block` adds gamma theta^2 to the mean loss of a batch's blocks; `batch` to their summed loss, as the
            released code does, which weakens the decay by the factor `batch_size`.
        batch_size: Number of blocks in a batch.
    """
    decay = 2 * weight_decay / (batch_size if decay_per == "batch" else 1)
    optimizer = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    # Fused: one pass over the memory of all parameters.
    return optimizer(model.parameters(), lr=learning_rate, weight_decay=decay, fused=True)


class Stepper:
    """A recogniser with freshly initialised parameters and its optimiser, which take training steps.

    Args:
        session: The training.
        world: The processes that share each batch.
    """

    def __init__(self, session: Session, world: World) -> None:
        self.session = session
        self.world = world
        self.feed = CubeFeed(session.store.layer_features(), session.plan.feature_scales, session.device)
        self.targets = torch.from_numpy(session.store.targets)
        recipe = session.recipe
        torch.manual_seed(derived_seed(recipe.seed, "parameters"))
        self.model = build_model(session.model_config).to(session.device)
        self.optimizer = build_optimizer(
            self.model,
            recipe.learning_rate,
            recipe.weight_decay,
            kind=recipe.optimizer,
            decay_per=recipe.decay_per,
            batch_size=recipe.batch_size,
        )
        self._parallel = self.model if world.size == 1 else DistributedDataParallel(self.model)
        self._generator = torch.Generator(session.device)
        self._held = torch.zeros((), device=session.device)  # 1 to compute a step without taking it
        config = session.model_config
        self.usual_losses = even_losses_to_come(recipe.block_frames, config.num_classes, config.multilabel)
        self.usual_losses = self.usual_losses.to(session.device)  # hard attention's baseline, see `choice_loss`
        self._whole: tuple[Batch, Captured[Tensor]] | None = None  # the step of a batch of full size

    def batches(self, table: BlockTable, batches: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
        """Batches with their cubes, each valid until the next is requested.

        Args:
            table: Table of the blocks.
            batches: Indices of each whole batch's blocks, shape (B,).
        """
        shares = [self.world.rows(len(blocks)) for blocks in batches]
        # A process without a row computes one for nothing, so that no other waits for it.
        computed = [rows if rows.stop > rows.start else slice(0, 1) for rows in shares]
        mine = [blocks[rows] for blocks, rows in zip(batches, computed, strict=True)]
        # On the CPU to convert them takes longer than it saves.
        narrow = self.session.recipe.precision == "bf16" and self.session.device.type == "cuda"
        feed = self.feed.batches((table.frames[blocks] for blocks in mine), torch.bfloat16 if narrow else torch.float32)
        for i, cubes in enumerate(feed):
            targets = self.targets[torch.from_numpy(table.video[mine[i]])].to(self.session.device)
            yield Batch(batches[i], computed[i].start, shares[i].stop - shares[i].start, cubes, targets)

    def take(self, batch: Batch, step: int, stop: bool = False) -> StepFigures:
        """Take an optimiser step on a batch, unless its loss or gradient is NaN or infinite.

        Args:
            batch: A batch from `batches`.
            step: Number of the step, which with the seed decides the dropout.
            stop: Whether this process was asked to stop.

        Raises:
            AttnrecError: Another process has ended.
        """
        # Dropout is a function of seed and step, whatever was drawn before and however many share the batch.
        self._generator.manual_seed(derived_seed(self.session.recipe.seed, "step", step))
        *figures, norm = self._step_of(batch)().tolist()
        batch_size = len(batch.blocks)
        *totals, stops = self.world.total([*(figure * batch.num_rows for figure in figures), float(stop)])
        means = [total / batch_size for total in totals]
        figures_of_step = StepFigures(Means(*means[: len(Means._fields)]), batch_size, norm, stops > 0)
        if to_come := means[len(Means._fields) :]:
            self.usual_losses.lerp_(torch.tensor(to_come, device=self.session.device), 1 - KEPT)
        return figures_of_step

    def _step_of(self, batch: Batch) -> Callable[[], Tensor]:
        """The step of a batch; that of a full batch, whose cubes always lie in the same memory, can be recorded."""
        if self.world.size > 1 or len(batch.blocks) < self.session.recipe.batch_size:
            return lambda: self._compute(batch)
        if self._whole is None or self._whole[0].cubes.data_ptr() != batch.cubes.data_ptr():
            self._whole = batch, self._recorded(batch)
        kept, step = self._whole
        kept.targets.copy_(batch.targets)
        return step

    def _recorded(self, batch: Batch) -> Captured[Tensor]:
        step = Captured(lambda: self._compute(batch), self.session.device, self._generator)
        self._held.fill_(1.0)
        with capturable(self.optimizer):
            step.prepare()
        self._held.zero_()
        return step

    def _compute(self, batch: Batch) -> Tensor:
        """Take a step without waiting for the device, unless its loss or gradient is NaN or infinite.

        Returns:
            The means over the rows of the batch in the order of `Means`, with hard attention the mean losses to come
            (T,), and the norm of the gradient.
        """
        output = self._forward(batch)
        loss = self._loss(output, batch.targets)
        objective, to_come = loss, []
        if output.looked_at is not None:
            objective = loss + self._choice_loss(output, batch.targets)
            to_come = [*losses_to_come(output.frame_logits.detach(), batch.targets).mean(dim=0)]
        self.optimizer.zero_grad(set_to_none=True)
        # Processes average their gradients: what each weighs makes that the mean over the batch.
        share = batch.num_rows * self.world.size / len(batch.blocks)
        self._backward(objective * share if self.world.size > 1 else objective)
        norm = self._clipped_norm()
        figures = torch.stack([loss.detach(), *_attention_figures(output, loss), *to_come, norm])
        # The fused optimisers leave out a step where this is 1.
        self.optimizer.found_inf = torch.maximum(self._held, (~figures.isfinite().all()).float())  # type: ignore[attr-defined]
        self.optimizer.step()
        return figures

    def _forward(self, batch: Batch) -> RecognizerOutput:
        share = BatchShare(self._generator, len(batch.blocks), batch.first)
        with self._autocast():
            output: RecognizerOutput = self._parallel(batch.cubes, self._generator if self.world.size == 1 else share)
        if self.session.recipe.precision == "bf16":
            attention = None if output.attention is None else output.attention.float()
            output = RecognizerOutput(output.frame_logits.float(), attention, output.looked_at)
        return output

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        enabled = self.session.recipe.precision == "bf16"
        return torch.autocast(self.session.device.type, torch.bfloat16, enabled=enabled)

    def _loss(self, output: RecognizerOutput, targets: Tensor) -> Tensor:
        recipe = self.session.recipe
        return recognition_loss(
            output,
            targets,
            attention_penalty=recipe.attention_penalty,
            penalty_reduction=recipe.penalty_reduction,
        )

    def _choice_loss(self, output: RecognizerOutput, targets: Tensor) -> Tensor:
        recipe = self.session.recipe
        return choice_loss(
            output,
            targets,
            self.usual_losses,
            reinforce_weight=recipe.reinforce_weight,
            entropy_weight=recipe.entropy_weight,
        )

    def _backward(self, loss: Tensor) -> None:
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if self.world.size > 1 and _is_of_network(error):
                raise self.world.ended(error) from None
            raise

    def _clipped_norm(self) -> Tensor:
        """Clip the gradient, and return its norm before clipping."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.session.recipe.clip:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.session.recipe.clip, norm)
        return norm


def _attention_figures(output: RecognizerOutput, like: Tensor) -> tuple[Tensor, Tensor]:
    """Penalty and entropy; zeros without attention."""
    if output.attention is None:
        return torch.zeros_like(like), torch.zeros_like(like)
    with torch.no_grad():
        return doubly_stochastic_penalty(output.attention), mean_entropy(output.attention)


@contextlib.contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let Adam's steps be recorded, without its warning about those that warm up."""
    optimizer._warned_capturable_if_run_uncaptured = True
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    yield
    for group in groups:
        group["capturable"] = False


def _is_of_network(error: RuntimeError) -> bool:
    """Whether an error of torch comes from the connection to another process."""
    return any(word in str(error) for word in ("gloo", "NCCL", "Connection", "ProcessGroup"))
