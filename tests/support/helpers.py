"""Small builders that several tests share."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from attnrec.models.attention import AttentionLSTM
from attnrec.models.baselines import PooledLSTM, SoftmaxRegression
from attnrec.models.losses import recognition_loss

ATTENTION = ("location", "content", "saliency")
POOLING = ("avg", "max", "avg-max")


def fixed_init(model: nn.Module, gain: float = 2.0) -> nn.Module:
    """Give a model parameters that depend on nothing but their order and shapes."""
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            n = torch.arange(1, parameter.numel() + 1, dtype=torch.float64)
            # The square matters: sin(n) would make every weight a matrix of rank two.
            values = torch.sin(0.37 * n * n + k) * gain / math.sqrt(parameter.shape[-1])
            parameter.copy_(values.view_as(parameter))
    return model


def make_recognizer(
    kind: str,
    *,
    feature_dim: int = 4,
    num_locations: int = 5,
    num_classes: int = 3,
    hidden_dim: int = 6,
    num_layers: int = 2,
    dropout: float = 0.0,
    **options: object,
) -> nn.Module:
    """A small float64 recogniser in evaluation mode: one of `ATTENTION` or `POOLING`, or `softmax`."""
    recurrent = {
        "feature_dim": feature_dim,
        "num_classes": num_classes,
        "hidden_dim": hidden_dim,
        "num_layers": num_layers,
        "dropout": dropout,
        **options,
    }
    model: nn.Module
    if kind == "softmax":
        sizes = {"feature_dim": feature_dim, "num_locations": num_locations, "num_classes": num_classes}
        model = SoftmaxRegression(**sizes, layers=options.get("layers", ()))
    elif kind in POOLING:
        model = PooledLSTM(kind, **recurrent)
    else:
        model = AttentionLSTM(num_locations=num_locations, attention=kind, **recurrent)
    return fixed_init(model.double()).eval()


def make_cubes(B: int = 3, T: int = 4, L: int = 5, D: int = 4, *, seed: int = 0) -> Tensor:
    """Feature cubes (B, T, L, D), float64, standard normal: both signs, so that a stray ReLU would show."""
    return torch.randn(B, T, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    """A CPU generator for the dropout masks."""
    return torch.Generator().manual_seed(seed)


def numpy_parameters(model: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as arrays, for `paper_equations`."""
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def assert_close(actual: Tensor, expected: Tensor | np.ndarray, atol: float = 1e-10) -> None:
    """Equal shapes, and values within `atol`."""
    torch.testing.assert_close(actual.detach(), torch.as_tensor(expected).detach(), rtol=0, atol=atol)


def loss_gradcheck(model: nn.Module, cubes: Tensor, targets: Tensor, attention_penalty: float) -> bool:
    """Compare the gradients of the loss, with respect to every parameter and the input, to finite differences."""
    names = [name for name, _ in model.named_parameters()]
    leaves = [value.detach().clone().requires_grad_() for value in model.parameters()]

    def loss(cubes: Tensor, *values: Tensor) -> Tensor:
        output = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (cubes,))
        return recognition_loss(output, targets, attention_penalty=attention_penalty)

    return torch.autograd.gradcheck(loss, (cubes.clone().requires_grad_(), *leaves))


def step_results(model: nn.Module, cubes: Tensor, *, autocast: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of a training step and the gradients of its parameters, dropout drawn from one seed."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(cubes.device.type, torch.bfloat16, enabled=autocast):
        output = model(cubes, torch.Generator(cubes.device).manual_seed(3))
    targets = torch.arange(len(cubes), device=cubes.device) % output.frame_logits.shape[2]
    recognition_loss(output, targets, attention_penalty=0.7).backward()
    outputs = [tensor.detach() for tensor in output if tensor is not None]
    return outputs, [parameter.grad for parameter in model.parameters()]


def relative_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Relative L2 difference of all tensors as one vector."""
    one, other = (torch.cat([t.detach().double().flatten() for t in each]) for each in (actual, expected))
    return float((one - other).norm() / other.norm())


def dropped_channels(model: nn.Module, cubes: Tensor) -> Tensor:
    """Channels of x_t that a training step drops, (B, T, D): those that pass no gradient.

    Eq. 6 and what scorers take from frames are cut off from the cubes: the LSTM's input is the only way left in.
    """
    for mlp in (*model.init_hidden, *model.init_cell):
        nn.init.zeros_(mlp[0].weight)
    if hasattr(model, "content_scorer"):
        nn.init.zeros_(model.content_scorer.from_feature.weight)
    if hasattr(model, "saliency_scorer"):
        nn.init.zeros_(model.saliency_scorer.weight)
    model.head.dropout = 0.0
    cubes = cubes.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.train()(cubes, seeded(0)).frame_logits.sum(), cubes)
    return gradient.abs().sum(dim=2) == 0


def toy_where(num_locations: int = 4, feature_dim: int = 6) -> tuple[Tensor, Tensor]:
    """Blocks whose class is the location that lights up: one cube, its locations shifted round, and nothing else."""
    cube = 0.1 * make_cubes(1, 3, num_locations, feature_dim)
    cube[:, :, 0] += 1
    return torch.cat([cube.roll(shift, dims=2) for shift in range(num_locations)]), torch.arange(num_locations)


def toy_what(num_locations: int = 4, feature_dim: int = 6, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Blocks whose class is the channel that lights up, at a location that says nothing about it."""
    cubes = 0.1 * make_cubes(num_classes * num_locations, 3, num_locations, feature_dim)
    block = torch.arange(len(cubes))
    targets = block % num_classes
    cubes[block, :, block // num_classes, targets] += 1
    return cubes, targets


def accuracy_after_fitting(kind: str, cubes: Tensor, targets: Tensor, *, steps: int = 60) -> float:
    """Fit a small recogniser to the blocks and return the share of time-steps that it gets right."""
    _, _, L, D = cubes.shape
    model = make_recognizer(
        kind, feature_dim=D, num_locations=L, num_classes=int(targets.max()) + 1, hidden_dim=12, num_layers=1
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        recognition_loss(model(cubes), targets, attention_penalty=0).backward()
        optimizer.step()
    predicted = model.eval()(cubes).frame_logits.argmax(dim=-1)  # (B, T)
    return float((predicted == targets.unsqueeze(1)).double().mean())
