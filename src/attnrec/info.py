"""Describes a feature store, a run, a video, this machine or the networks that features can be computed by."""

import os
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from attnrec.capture import captures
from attnrec.datasets.splits import SPLIT_PARTS, leaking_groups
from attnrec.errors import DataError
from attnrec.features.hdf5 import decoded
from attnrec.features.parts import identity
from attnrec.features.store import FeatureStore, is_store
from attnrec.runtime import (
    OnProgress,
    Progress,
    default_jobs,
    no_progress,
    processor,
    resolve_device,
    resolve_precision,
    versions,
)
from attnrec.settings import ExtractConfig
from attnrec.training.run import CONFIG, Run
from attnrec.video.decode import probe
from attnrec.video.ffmpeg import ffmpeg_path, ffmpeg_version


def describe(path: str | Path | None = None) -> dict[str, Any]:
    """Describe a feature store, a run, a video, or without a path this machine.

    Args:
        path: A file or folder.

    Returns:
        A JSON-ready document whose `kind` is `store`, `run`, `video` or `machine`.

    Raises:
        AttnrecError: The path is none of these, or cannot be read.
    """
    if path is None:
        return _machine()
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        if (path / CONFIG).exists():
            return _run(path)
        raise DataError(f"{path}: not a run; for a folder of videos see `attnrec extract {path} out.h5 --dry-run`")
    # A damaged store is not recognised as one; its own error says more than that it is not a video.
    if is_store(path) or path.suffix.lower() in (".h5", ".hdf5"):
        return _store(path)
    return {"kind": "video", "path": str(path)} | asdict(probe(path))


def describe_backbones(on_progress: OnProgress = no_progress) -> dict[str, Any]:
    """Describe the networks that features can be computed by.

    Args:
        on_progress: Called with progress, as the shapes of all maps take some seconds.

    Returns:
        A JSON-ready document whose `backbones` are a dict for each network: its name, the layer that is taken by
        default, the shape K, K, D of that layer's map of frames of 224 px, `cube` pooled to the default grid, the
        number of parameters including the classifier's, and the weights that `--weights imagenet` downloads, with their
        size where torchvision states it.
    """
    from attnrec.features.networks import backbone_names  # loads torchvision, which nothing else here needs

    names = backbone_names()
    found = []
    for done, name in enumerate(names):
        on_progress(Progress("networks", done, len(names), name))
        found.append(_backbone(name))
    return {"kind": "backbones", "backbones": found}


def _backbone(name: str) -> dict[str, Any]:
    from attnrec.features.networks import backbone_of, last_map, network_state

    where, weights = last_map(name), backbone_of(name).weights
    meta = getattr(weights, "meta", {})
    cube_side = min(where.side, ExtractConfig.grid_size)
    return {
        "name": name,
        "layer": where.layer,
        "map": (where.side, where.side, where.channels),
        "cube": (cube_side, cube_side, where.channels),
        "num_params": meta.get("num_params") or sum(weight.numel() for weight in network_state(name).values()),
        "weights": str(weights),
        "weights_megabytes": meta.get("_file_size"),
    }


def _store(path: Path) -> dict[str, Any]:
    store = FeatureStore(path)
    matrix = store.label_matrix
    return {
        "kind": "store",
        "path": str(path),
        "dataset": store.dataset,
        "num_videos": len(store.videos),
        "num_frames": store.num_frames,
        "size_bytes": path.stat().st_size,
        "multilabel": store.multilabel,
        "classes": dict(zip(store.classes, matrix.sum(axis=0, dtype=int).tolist(), strict=True)),
        "num_unlabelled": int((~matrix.any(axis=1)).sum()),
        "num_groups": len(set(store.groups)),
        "splits": {
            name: {part: int((store.split(name) == code).sum()) for code, part in enumerate(SPLIT_PARTS)}
            | {"leaking_groups": leaking_groups(store.split(name), store.groups)}
            for name in store.split_names
        },
        "status": dict(Counter(decoded(status) for status in store.videos.status.tolist())),
        "num_variable_rate": int(store.videos.is_variable_rate.sum()),
        "damaged": [
            (store.path_of(i), decoded(status))
            for i, status in enumerate(store.videos.status.tolist())
            if status != b"ok"
        ],
        "skipped": store.skipped,
        "boxes": None if store.boxes is None else {"videos": store.boxes.num_videos, "boxes": len(store.boxes)},
        "features": {spec.layer: identity(spec) | {"weights_id": spec.weights_id} for spec in store.specs},
        "fingerprint": store.fingerprint,
        "program_version": store.program_version,
    }


def _run(path: Path) -> dict[str, Any]:
    run = Run(path)
    evaluated = {part: run.read_evaluation(part) for part in SPLIT_PARTS[:3]}
    metric = "map" if run.manifest.model.multilabel else "accuracy"
    figures = {part: report[metric] for part, report in evaluated.items() if report}
    return {"kind": "run", "path": str(path), "finished": run.finished, metric: figures} | asdict(run.manifest)


def _machine() -> dict[str, Any]:
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    ffmpeg = ffmpeg_path()
    return {
        "kind": "machine",
        "versions": versions(),
        "platform": platform.platform(),
        "processor": processor()[0],
        "precision": resolve_precision("auto", resolve_device("auto")),
        "cores": default_jobs(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "cuda_devices": cuda,
        "cuda_graphs": captures(resolve_device("auto")),
        "ffmpeg": {"path": ffmpeg, "version": ffmpeg_version(ffmpeg)},
    }
