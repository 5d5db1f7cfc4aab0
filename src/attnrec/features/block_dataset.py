"""A feature store as a torch Dataset of blocks, for people with their own models."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from attnrec.datasets.splits import SPLIT_PARTS
from attnrec.features.blocks import block_table
from attnrec.features.store import FeatureStore, typical_frames

_MOST_FRAMES = 30


class BlockDataset(Dataset[tuple[torch.Tensor, int | torch.Tensor]]):
    """A feature store as a torch Dataset of (cubes, class index), for training your own models.

    Items are a (T, K, K, D) float16 tensor and an integer or, if videos may have several labels, a (C,) float32 tensor
    of zeros and ones. The store's array is memory-mapped: an item costs one read, and the workers of a DataLoader share
    the pages; each opens the file itself. Features are as the network gave them, some in the hundreds: scale them to a
    root mean square of about 1. The recognisers of this package take `cubes.float().flatten(2, 3)`, (B, T, L, D).

    Args:
        path: A feature store.
        part: `train`, `validation` or `test`.
        split: Name of a split in the store.
        layer: CNN layer whose features to read, one of them; None takes the store's first.
        fps: Samples per second, at most the stored rate.
        block_frames: T; None takes the median video's length, at most 30.
        block_stride: Stored frames between the starts of blocks.

    Raises:
        FeatureStoreError: The store cannot be used or has no such layer or split.
        ValueError: `part` is not a part of a split, or several layers are named.
    """

    def __init__(
        self,
        path: str | Path,
        part: str,
        *,
        split: str = "default",
        layer: str | None = None,
        fps: float = 30.0,
        block_frames: int | None = None,
        block_stride: int = 1,
    ) -> None:
        if part not in SPLIT_PARTS[:3]:
            raise ValueError(f"part must be one of {SPLIT_PARTS[:3]}, got {part!r}")
        self._path = Path(path)
        self._features: NDArray[np.float16] | None = None
        self._layer = layer
        store = FeatureStore(self._path, layer)
        if store.spec.joined:
            raise ValueError(f"layer must be a single one, got {layer!r}")
        videos = store.split_members(split, part)
        self.classes = store.classes
        if block_frames is None:
            block_frames = max(1, min(_MOST_FRAMES, round(typical_frames(store, fps))))
        self.table = block_table(store, videos, fps=fps, block_frames=block_frames, block_stride=block_stride)
        self._targets = store.targets

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        blocks = f"{len(self)} blocks of {self.table.frames.shape[1]} frames"
        return f"BlockDataset({self._path}: {blocks}, {len(self.classes)} classes)"

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | torch.Tensor]:
        if self._features is None:
            self._features = FeatureStore(self._path, self._layer).features()
        cubes = torch.from_numpy(self._features[self.table.frames[index]])
        target = self._targets[self.table.video[index]]
        return cubes, torch.from_numpy(target) if target.ndim else int(target)

    def __getstate__(self) -> dict[str, object]:
        # A mapped array cannot be sent to a worker: the worker maps the file again.
        return self.__dict__ | {"_features": None}
