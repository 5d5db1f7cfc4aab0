"""Feature stores of made-up features, packed the way `extract` packs them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from attnrec.datasets.splits import default_splits
from attnrec.features.extractor import prepare_trunk
from attnrec.features.pack import VideoRow, pack_store
from attnrec.features.parts import PartFile, part_path, parts_dir, read_part, video_id
from attnrec.features.stored_boxes import StoredBoxes
from attnrec.settings import ExtractConfig, Recipe, TrainConfig
from attnrec.specs import FeatureSpec
from attnrec.training.presets import recipe_of, sampling_of
from attnrec.video.decode import DecodeSummary

CLASSES = ("bend", "jack", "wave")
SPEC = FeatureSpec(
    backbone="squeezenet1_0",
    layer="features",
    weights_id="made-up",
    weights_sha256="0" * 64,
    grid_size=2,
    feature_dim=6,
    image_size=224,
    resize="stretch",
    sample_fps=10.0,
    precision="fp32",
)
# Small enough for a tenth of a second, large enough to learn from the stores below.
QUICK = TrainConfig(
    attention="location",
    add_mean=False,
    fps=10.0,
    block_frames=4,
    block_stride=4,
    hidden_dim=16,
    num_layers=1,
    dropout=0.2,
    batch_size=8,
    epochs=2,
    learning_rate=0.01,
    device="cpu",
    jobs=1,
)


def write_store(
    path: Path,
    *,
    classes: Sequence[str] = CLASSES,
    num_groups: int = 8,
    num_frames: int = 12,
    fps: float = 10.0,
    signal: float = 2.0,
    splits: dict[str, Sequence[int]] | None = None,
    spec: FeatureSpec = SPEC,
    backbone_state: dict[str, np.ndarray] | None = None,
    dataset: str = "tiny",
    multilabel: bool = False,
    status: Mapping[int, str] = MappingProxyType({}),
    seed: int = 0,
    boxes: StoredBoxes | None = None,
) -> Path:
    """Write a store with one video for each class and group, whose class is the channel that stands out.

    With `multilabel` every other video has the next class as well, and the last group has none.
    """
    rng = np.random.default_rng(seed)
    rows, sources, matrix = [], [], []
    parts_dir(path).mkdir(parents=True)
    for label, name in enumerate(classes):
        for group in range(1, num_groups + 1):
            video = f"{name}/v_{name}_g{group:02d}_c01.mp4"
            row = VideoRow(
                video_id(Path(video)),
                video,
                hashlib.sha256(repr((seed, video)).encode()).hexdigest(),
                label,
                f"g{group:02d}",
            )
            cubes = rng.standard_normal((num_frames, spec.grid_size, spec.grid_size, spec.feature_dim))
            applies = np.zeros(len(classes), np.uint8)
            applies[label] = 1
            if multilabel:
                applies[(label + 1) % len(classes)] = group % 2
                applies[:] *= group < num_groups
            cubes[..., : len(classes)] += signal * applies
            matrix.append(applies)
            part = PartFile(part_path(path, Path(video)), [spec])
            part.append({spec.layer: cubes.astype(np.float16)}, (np.arange(num_frames) / fps).tolist())
            part.commit(
                row.fingerprint,
                DecodeSummary(status.get(len(rows), "ok"), num_frames, num_frames / fps, fps, fps, False),
            )
            rows.append(row)
            sources.append(read_part(part.path, row.fingerprint))
    labels, groups = np.array([row.label for row in rows], np.int32), [row.group for row in rows]
    pack_store(
        path,
        [spec],
        [replace(row, label=-1) for row in rows] if multilabel else rows,
        sources,
        classes=classes,
        splits=default_splits(labels, groups, 0)
        if splits is None
        else {name: np.array(codes, np.uint8) for name, codes in splits.items()},
        skipped=[],
        backbone_state=backbone_state or {"weight": np.ones(3, np.float32)},
        dataset=dataset,
        videos_dir="/videos",
        program_version="0",
        label_matrix=np.array(matrix) if multilabel else None,
        boxes=boxes,
    )
    return path


def write_trunk_store(path: Path, weights: str, *, sample_fps: float | None = 30.0) -> Path:
    """Write a store of made-up features that carries a real SqueezeNet, so that its runs can look at videos."""
    config = ExtractConfig(backbone="squeezenet1_0", weights=weights, sample_fps=sample_fps)
    trunk, (spec,) = prepare_trunk(config, "fp32")
    return write_store(
        path, classes=("left", "right"), num_groups=4, num_frames=6, spec=spec, backbone_state=trunk.weights_state()
    )


def quick(**changes) -> TrainConfig:
    """Settings of a training that takes a moment."""
    return replace(QUICK, **changes)


def made_recipe(**changes) -> Recipe:
    """What a quick training does, for a manifest."""
    asked = quick(**changes)
    sizes = {"dataset": "tiny", "feature_dim": 6, "multilabel": False, "num_blocks": 45, "has_validation": True}
    return recipe_of(asked, sampling_of(asked, "default", 12.0), precision="fp32", **sizes)


def figures_of(classes: Sequence[str], **changes: Any) -> dict[str, Any]:
    """As much of `evaluation-<part>.json` as is looked at, of a run with these classes."""
    entry = {"num_videos": 1, "accuracy": None, "average_precision": None}
    plain = {
        "reduction": "mean",
        "last_steps": 4,
        "block_stride": 4,
        "accuracy": 0.5,
        "map": None,
        "attention_entropy": None,
        "penalty_above_floor": None,
        "classes": [{"name": name, **entry} for name in classes],
        "confusion": None,
        "videos": [],
        "faithfulness": None,
    }
    return plain | changes
