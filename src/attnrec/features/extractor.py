"""From frames to feature cubes: prepares the trunk that settings ask for, and runs it in batches of one shape.

Legend: n frames, K grid side, D channels.
"""

import contextlib
import copy
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from attnrec.capture import Captured
from attnrec.features.backbone import Trunk
from attnrec.features.caffe_googlenet import LocalResponseNorm
from attnrec.features.state_dicts import weights_sha256
from attnrec.features.weights import build_trunk
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec
from attnrec.video.decode import FrameReader

IMAGE_SIZE = 224  # side in px of the network's input
# One batch shape for every frame of every video: features depend on it in the last digits.
BATCH_FRAMES = {"cpu": 32, "cuda": 128}
BATCHES_KEPT = 8  # batches whose cubes stay in memory
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_LARGEST = torch.finfo(torch.float16).max

Cubes = dict[str, NDArray[np.float16]]


def prepare_trunk(config: ExtractConfig, precision: str) -> tuple[Trunk, list[FeatureSpec]]:
    """Build the trunk that settings ask for, and the specification of the features of each of its layers.

    Raises:
        ConfigError: There is no such layer, or it gives no spatial map.
        WeightsError: The weights cannot be found, downloaded or used.
    """
    trunk, weights_id = build_trunk(config.backbone, config.weights, layers=config.layers, grid_size=config.grid_size)
    specs = [
        FeatureSpec(
            backbone=config.backbone,
            layer=layer,
            weights_id=weights_id,
            weights_sha256=weights_sha256(trunk.weights_state(layer)),
            grid_size=K,
            feature_dim=D,
            image_size=IMAGE_SIZE,
            resize=config.resize,
            sample_fps=config.fps,
            precision=precision,
        )
        for layer, (K, D) in trunk.cube_shapes(IMAGE_SIZE).items()
    ]
    return trunk, specs


def frame_reader(path: Path, spec: FeatureSpec) -> FrameReader:
    """A reader of a video's frames, as these features are computed from them."""
    return FrameReader(path, width=spec.image_size, height=spec.image_size, resize=spec.resize, max_fps=spec.sample_fps)


class CubeExtractor:
    """Computes feature cubes in batches of one shape. A frame's cube does not depend on the others of its batch.

    Args:
        trunk: The network; it is copied, not changed.
        device: Device to compute on.
        precision: `fp32`, or `bf16` for convolutions in bfloat16.
    """

    def __init__(self, trunk: Trunk, *, device: torch.device, precision: str = "fp32") -> None:
        self.layers = trunk.layers
        self.device = device
        self.precision = precision
        self._trunk = copy.deepcopy(trunk).eval()  # a copied graph begins in training mode
        self._trunk.network.double()
        if isinstance(self._trunk.network, fx.GraphModule):
            _fold_batch_norms(self._trunk.network)
            if precision == "bf16" and not self._is_cuda:
                _pool_by_bits(self._trunk.network)
        self._trunk.to(device).network.to(dtype=_DTYPES[precision]).to(memory_format=torch.channels_last)
        self._batch = torch.empty(0, dtype=torch.uint8, device=device)  # of frames; on CUDA in the same place for all
        self._compute = Captured(self._cubes, device)
        self._slots: deque[_Slot] = deque()

    @property
    def batch_frames(self) -> int:
        """Frames in each batch."""
        return BATCH_FRAMES[self.device.type]

    def batches(self, count: int, image_size: int = IMAGE_SIZE) -> list[NDArray[np.uint8]]:
        """Memory for batches of square frames, from which the device can read while the program goes on."""
        shape = (self.batch_frames, image_size, image_size, 3)
        return [torch.zeros(shape, dtype=torch.uint8, pin_memory=self._is_cuda).numpy() for _ in range(count)]

    def __call__(self, frames: NDArray[np.uint8]) -> Cubes:
        """Compute the feature cubes of up to `batch_frames` square frames, wherever they lie.

        Args:
            frames: RGB frames, shape (n, H, W, 3).

        Returns:
            Cubes as from `submit`.
        """
        (batch,) = self.batches(1, frames.shape[1])
        batch[: len(frames)] = frames
        return self.submit(batch, len(frames))()

    def submit(self, batch: NDArray[np.uint8], num_frames: int) -> Callable[[], Cubes]:
        """Begin to compute a batch.

        On CUDA the next batch can be submitted before this one is done; on the CPU the work is done at once.

        Args:
            batch: RGB frames, shape (batch_frames, H, W, 3), in memory that `batches` gave, which must not change
                before the cubes have been awaited.
            num_frames: Number of frames; what lies behind them has no meaning.

        Returns:
            A function that waits for the cubes by layer, rounded to float16, shape (num_frames, K, K, D); values beyond
            the range of float16 are clamped. They may be overwritten once `BATCHES_KEPT` more batches are submitted.
        """
        frames = torch.from_numpy(batch)
        with torch.inference_mode(), self._exact_convolutions():
            if not self._is_cuda:
                self._batch = frames
                cubes = self._compute()
                return lambda: {layer: cube[:num_frames].numpy() for layer, cube in cubes.items()}
            if self._batch.shape != frames.shape:
                self._batch = torch.empty_like(frames, device=self.device)
                self._compute = Captured(self._cubes, self.device)
                self._slots.clear()
            self._batch.copy_(frames, non_blocking=True)
            slot = self._fill_slot(self._compute(), num_frames)

        def wait() -> Cubes:
            slot.filled.synchronize()
            return {layer: cube[:num_frames].numpy() for layer, cube in slot.cubes.items()}

        return wait

    def _cubes(self) -> dict[str, Tensor]:
        return {layer: _half(cube) for layer, cube in self._trunk(self._batch).items()}

    def _fill_slot(self, cubes: dict[str, Tensor], num_frames: int) -> "_Slot":
        """Begin to copy a batch's cubes to the pinned memory that has not been used for the longest time."""
        if not self._slots:
            self._slots.extend(_Slot(_pinned_like(cubes), _event()) for _ in range(BATCHES_KEPT))
        slot = self._slots[0]
        self._slots.rotate(-1)
        for layer, cube in cubes.items():
            slot.cubes[layer][:num_frames].copy_(cube[:num_frames], non_blocking=True)
        slot.filled.record(torch.cuda.current_stream(self.device))
        return slot

    @property
    def _is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _exact_convolutions(self) -> contextlib.AbstractContextManager[None]:
        """Context without TensorFloat-32, which is less precise than fp32, and with deterministic algorithms."""
        if not self._is_cuda:
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


class _Slot(NamedTuple):
    """Pinned memory for a batch's cubes by layer, and the event that they have come."""

    cubes: dict[str, Tensor]
    filled: torch.cuda.Event


def _event() -> torch.cuda.Event:
    """An event, waiting for which leaves the core to the decoders."""
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]


def _pinned_like(cubes: dict[str, Tensor]) -> dict[str, Tensor]:
    return {layer: torch.empty(cube.shape, dtype=cube.dtype, pin_memory=True) for layer, cube in cubes.items()}


def _half(cubes: Tensor) -> Tensor:
    return cubes.clamp(-_LARGEST, _LARGEST).to(torch.float16).contiguous()


def _fold_batch_norms(network: fx.GraphModule) -> None:
    """Fold every BatchNorm that follows a convolution into the convolution's weights, which halves the passes."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Sequential):
            _fold_in_sequence(module)
        if not isinstance(module, nn.BatchNorm2d):
            continue
        before = node.all_input_nodes[0]
        convolution = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            parent, _, name = str(before.target).rpartition(".")
            setattr(network.get_submodule(parent), name, fuse_conv_bn_eval(convolution, module))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()


def _fold_in_sequence(sequence: nn.Sequential) -> None:
    """Fold BatchNorms within a block that is one node of the graph, such as torchvision's `Conv2dNormActivation`."""
    for i in range(len(sequence) - 1):
        convolution, norm = sequence[i], sequence[i + 1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[i], sequence[i + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


class BitwiseMaxPool(nn.Module):
    """Max pooling of bfloat16 maps without negative values, which are ordered as their bits are as integers.

    On the CPU torch compares integers twice as fast, as it converts every bfloat16 to a float first.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps of shape (n, D, H, W)."""
        pooled: Tensor = self.pool(maps.view(torch.int16))
        return pooled.view(maps.dtype)


def _pool_by_bits(network: fx.GraphModule) -> None:
    """Speed up those max pools of a bfloat16 network whose input cannot be negative."""
    modules = dict(network.named_modules())
    nonnegative: set[fx.Node] = set()
    for node in network.graph.nodes:
        operation = modules.get(str(node.target)) if node.op == "call_module" else node.target
        keeps_sign = operation is torch.cat or isinstance(operation, nn.MaxPool2d | LocalResponseNorm)
        if operation is F.relu or isinstance(operation, nn.ReLU):
            nonnegative.add(node)
        elif keeps_sign and nonnegative.issuperset(node.all_input_nodes):
            nonnegative.add(node)
            if isinstance(operation, nn.MaxPool2d):
                parent, _, name = str(node.target).rpartition(".")
                setattr(network.get_submodule(parent), name, BitwiseMaxPool(operation))
