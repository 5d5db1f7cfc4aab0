"""Feature stores of made-up features, packed the way `extract` packs them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.datasets.splits import default_splits
from attnrec.features.extractor import prepare_trunk
from attnrec.features.pack import pack_store
from attnrec.features.parts import PartFile, part_path, parts_dir, read_part
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
FINER = replace(SPEC, layer="finer", grid_size=3, feature_dim=4)  # a second layer, for stores that have one
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
    others: Sequence[FeatureSpec] = (),
) -> Path:
    """Write a store with one video for each class and group, whose class is the channel that stands out.

    `others` are further layers, whose features are ten times as large. With `multilabel` every other video has the
    next class as well, and the last group has none.
    """
    rng, other_rng, specs = np.random.default_rng(seed), np.random.default_rng(seed + 1), [spec, *others]
    entries, content, sources = [], {}, []
    parts_dir(path).mkdir(parents=True)
    for label, name in enumerate(classes):
        for group in range(1, num_groups + 1):
            video = Path(name) / f"v_{name}_g{group:02d}_c01.mp4"
            content[video] = hashlib.sha256(repr((seed, str(video))).encode()).hexdigest()
            cubes = {spec.layer: rng.standard_normal((num_frames, *spec.cube_shape))}
            cubes |= {of.layer: other_rng.standard_normal((num_frames, *of.cube_shape)) for of in others}
            applies = np.zeros(len(classes), np.uint8)
            applies[label] = 1
            if multilabel:
                applies[(label + 1) % len(classes)] = group % 2
                applies[:] *= group < num_groups
            for of in specs:
                cubes[of.layer][..., : len(classes)] += signal * applies
                cubes[of.layer] *= 1 if of is spec else 10
            labels = tuple(classes[i] for i in np.flatnonzero(applies))
            entries.append(VideoEntry(video, labels, f"g{group:02d}"))
            part = PartFile(part_path(path, video), specs)
            stored = {layer: of_layer.astype(np.float16) for layer, of_layer in cubes.items()}
            part.append(stored, (np.arange(num_frames) / fps).tolist())
            part.commit(
                content[video],
                DecodeSummary(status.get(len(sources), "ok"), num_frames, num_frames / fps, fps, fps, False),
            )
            sources.append(read_part(part.path, content[video], specs))
    if splits is None:
        made = default_splits(np.repeat(np.arange(len(classes)), num_groups), [entry.group for entry in entries], 0)
    else:
        made = {name: np.array(codes, np.uint8) for name, codes in splits.items()}
    pack_store(
        path,
        specs,
        Dataset(dataset, "made", Path("/videos"), tuple(entries), tuple(classes), multilabel, made, ()),
        content,
        sources,
        skipped=[],
        backbone_state=backbone_state or {"weight": np.ones(3, np.float32)},
        program_version="0",
        boxes=boxes,
    )
    return path


def write_trunk_store(
    path: Path, weights: str, *, sample_fps: float | None = 30.0, layers: tuple[str, ...] = (), grid_size: int = 7
) -> Path:
    """Write a store of made-up features that carries a real SqueezeNet, so that its runs can look at videos."""
    config = ExtractConfig(
        backbone="squeezenet1_0", weights=weights, fps=sample_fps, layers=layers, grid_size=grid_size
    )
    trunk, (spec, *others) = prepare_trunk(config, "fp32")
    state = trunk.weights_state()
    classes = ("left", "right")
    return write_store(
        path, classes=classes, num_groups=4, num_frames=6, spec=spec, others=others, backbone_state=state
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
