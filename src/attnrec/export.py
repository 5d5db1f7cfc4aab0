"""`export`: a run as one ONNX file, for programs without torch.

Legend: B blocks in a batch, T time-steps, K grid side, L = K * K locations, D feature channels, C classes.
"""

import importlib
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from attnrec.errors import AttnrecError, RunError
from attnrec.features.backbone import Trunk
from attnrec.files import atomic_path
from attnrec.models.head import class_probs
from attnrec.training.run import Run, RunLike, as_run

Source = Literal["cubes", "frames"]
OPSET = 18
MOST_DIFFERENCE = 1e-3  # between a probability of the file's and of the run's
_MOST_BYTES = 2**31 - 2**20  # of weights: one file of protobuf holds 2 GiB
_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class ExportReport:
    """An exported run."""

    run: str  # path of the run
    out: str  # path of the file
    source: Source  # what the file takes
    inputs: dict[str, list[int | str]]  # shape of each input; a text is a size that the user chooses
    outputs: dict[str, list[int | str]]  # shape of each output
    opset: int
    num_bytes: int  # size of the file
    seconds: float  # to export it
    largest_difference: float | None  # between its probabilities and the run's; None without onnxruntime


class ExportedRecognizer(nn.Module):
    """A run's recogniser with all that comes before and after it, as one graph.

    Args:
        run: The run.
        source: `cubes` to take stored features, `frames` to take the frames of a block and compute the features.

    Raises:
        RunError: The run's weights cannot be used.
    """

    def __init__(self, run: Run, source: Source) -> None:
        super().__init__()
        manifest = run.manifest
        self.model = run.load_model(torch.device("cpu")).float()
        self.trunk: Trunk | None = run.load_trunk().float() if source == "frames" else None
        self.layers = [layer for layer, _, _ in manifest.features.grids]
        self.scales = manifest.feature_scales
        self.channels = manifest.features.feature_dim
        self.multilabel = manifest.model.multilabel
        self.reduction = manifest.training.reduction
        self.last_steps = manifest.training.last_steps or manifest.training.block_frames
        self.eval()

    def forward(self, *blocks: Tensor) -> tuple[Tensor, ...]:
        """Recognise blocks.

        Args:
            blocks: Feature cubes of each layer as stored (B, T, K, K, D), or RGB frames (B, T, H, W, 3) in [0, 255].

        Returns:
            Class probabilities of each time-step (B, T, C) and of each block (B, C); of a model with attention also
            the location probabilities, (B, T, K, K), or (B, T, L) over the locations of several layers.
        """
        cubes = list(blocks) if self.trunk is None else self._features(self.trunk, blocks[0])
        T, K = cubes[0].shape[1:3]
        frame_logits, attention, _ = self.model(self._side_by_side(cubes))
        frame_probs = class_probs(frame_logits, self.multilabel)
        probs = self._reduced(frame_probs[:, T - self.last_steps :].mean(dim=1))
        if attention is None:
            return frame_probs, probs
        return frame_probs, probs, attention if len(cubes) > 1 else attention.unflatten(2, (K, K))

    def _features(self, trunk: Trunk, frames: Tensor) -> list[Tensor]:
        """Feature cubes of each layer (B, T, K, K, D), rounded to float16 as those of a store are."""
        cubes = trunk(frames.flatten(0, 1))
        rounded = [cubes[layer].float().clamp(-_HALF, _HALF).to(torch.float16).float() for layer in self.layers]
        return [cube.unflatten(0, (-1, frames.shape[1])) for cube in rounded]

    def _side_by_side(self, cubes: list[Tensor]) -> Tensor:
        """The scaled cubes of all layers in one tensor (B, T, L, D), as `CubeFeed` gives them."""
        parts = [cube.flatten(2, 3) * scale for cube, scale in zip(cubes, self.scales, strict=True)]
        return torch.cat([F.pad(part, (0, self.channels - part.shape[-1])) for part in parts], dim=2)

    def _reduced(self, block_probs: Tensor) -> Tensor:
        if self.reduction == "mean":
            return block_probs
        places = torch.arange(block_probs.shape[1])
        return (block_probs.argmax(dim=1, keepdim=True) == places).float()


def export(run: RunLike, out: str | Path, *, source: Source = "cubes", overwrite: bool = False) -> ExportReport:
    """Write a run as one ONNX file, and compare the file's probabilities with the run's if onnxruntime is there.

    Args:
        run: The run, its folder, or a report of it.
        out: The file to write.
        source: What the file takes, as in `ExportedRecognizer`.
        overwrite: Replace an existing file.

    Returns:
        What was written.

    Raises:
        RunError: The run's weights cannot be used, or are too large for one file.
        AttnrecError: onnx is not installed, the file cannot be written, or its probabilities differ from the run's.
    """
    for name in ("onnx", "onnxscript"):
        _require(name)
    started, run, out = time.monotonic(), as_run(run), Path(out)
    recognizer = ExportedRecognizer(run, source)
    if sum(weight.nbytes for weight in recognizer.state_dict().values()) > _MOST_BYTES:
        raise RunError(f"{run.path}: its weights exceed 2 GB, which one ONNX file cannot hold")
    with atomic_path(out, overwrite=overwrite) as temporary:
        proto = _exported(recognizer, run, source)
        for name, value in _metadata(run, source).items():
            proto.metadata_props.add(key=name, value=value)
        temporary.write_bytes(proto.SerializeToString())
        seconds = time.monotonic() - started
        difference = _largest_difference(temporary, recognizer, _examples(run, source, 3))
        # Not a number fails as well.
        if difference is not None and not difference <= MOST_DIFFERENCE:
            raise AttnrecError(f"{out}: not written, its probabilities differ from the run's by {difference:.2g}")
    return ExportReport(
        run=str(run.path),
        out=str(out),
        source=source,
        inputs={value.name: _shape(value) for value in proto.graph.input},
        outputs={value.name: _shape(value) for value in proto.graph.output},
        opset=OPSET,
        num_bytes=out.stat().st_size,
        seconds=seconds,
        largest_difference=difference,
    )


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise AttnrecError(f"export needs {name}, which is not installed; install attnrec[onnx]") from None


def _exported(recognizer: ExportedRecognizer, run: Run, source: Source) -> Any:
    """The graph as an ONNX model, of any number of blocks at a time."""
    names = ["frame_probs", "probs"]
    if run.manifest.model.architecture == "attention":
        names.append("attention")
    examples = _examples(run, source, 2)
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            recognizer,
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=_input_names(run, source),
            output_names=names,
            dynamic_shapes=(tuple({0: torch.export.Dim("batch", min=1)} for _ in examples),),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:  # where in the source each came from: as many bytes as a small model's weights
        del node.metadata_props[:]
    return proto


@contextmanager
def _silence() -> Iterator[None]:
    """Context in which the exporter's warnings, which are about its own parts, are not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _input_names(run: Run, source: Source) -> list[str]:
    """Names of what the file takes: with several layers, a name for the cubes of each."""
    grids = run.manifest.features.grids
    return [f"{source}_{layer}" for layer, _, _ in grids] if source == "cubes" and len(grids) > 1 else [source]


def _examples(run: Run, source: Source, num_blocks: int) -> tuple[Tensor, ...]:
    """Random blocks of the shapes that the file takes."""
    spec, T = run.manifest.features, run.manifest.training.block_frames
    generator = torch.Generator().manual_seed(0)
    if source == "cubes":
        return tuple(torch.rand(num_blocks, T, K, K, D, generator=generator) for _, K, D in spec.grids)
    shape = (num_blocks, T, spec.image_size, spec.image_size, 3)
    return (torch.randint(256, shape, generator=generator, dtype=torch.uint8),)


def _metadata(run: Run, source: Source) -> dict[str, str]:
    """What a user of the file has to know, by name."""
    manifest = run.manifest
    spec, training = manifest.features, manifest.training
    preprocessing = {
        "image_size": spec.image_size,
        "resize": spec.resize,
        "scaler": spec.scaler,
        "normalisation": "mean and standard deviation of the RGB values are in the graph"
        if source == "frames"
        else "that of the backbone, before the cubes; the scale of the features is in the graph",
    }
    values = {
        "classes": manifest.classes,
        "multilabel": manifest.model.multilabel,
        "preprocessing": preprocessing,
        "sample_fps": training.fps,
        "stored_fps": spec.sample_fps,
        "block_frames": training.block_frames,
        "block_stride": training.block_stride,
        "block_starts": training.block_starts,
        "reduction": training.reduction,
        "last_steps": training.last_steps,
        "run": run.name,
        "backbone": spec.backbone,
        "layer": spec.layer,
        "weights_sha256": spec.weights_sha256,
        "model_sha256": run.model_sha256,
        "attnrec_version": version("attnrec"),
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _largest_difference(path: Path, recognizer: ExportedRecognizer, blocks: tuple[Tensor, ...]) -> float | None:
    """The largest difference between an output of the file and of the run; None without onnxruntime."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {taken.name: block.numpy() for taken, block in zip(session.get_inputs(), blocks, strict=True)}
    found: list[NDArray[np.float32]] = session.run(None, given)
    with torch.inference_mode():
        expected = [output.numpy() for output in recognizer(*blocks)]
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in zip(expected, found, strict=True))


def _shape(value: Any) -> list[int | str]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
