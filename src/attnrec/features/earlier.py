"""The store that an extraction finds in its place: whether it may be continued, and whether anything changes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from attnrec.datasets.dataset import Dataset, VideoEntry
from attnrec.errors import FeatureStoreError
from attnrec.features.hdf5 import decoded
from attnrec.features.pack import VideoRow
from attnrec.features.store import FeatureStore, is_store
from attnrec.features.stored_boxes import StoredBoxes
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec


def require_store_or_nothing(out: Path) -> None:
    """Check that no other file is in the place of a store.

    Raises:
        FeatureStoreError: There is one.
    """
    if out.exists() and not is_store(out):
        raise FeatureStoreError(f"{out}: exists and is not a feature store; choose another name")


def earlier_store(out: Path, config: ExtractConfig) -> FeatureStore | None:
    """The store that is there; None where there is none, or a damaged one that may be replaced.

    Raises:
        FeatureStoreError: It is damaged and may not be replaced.
    """
    if not out.exists():
        return None
    try:
        return FeatureStore(out)
    except FeatureStoreError:
        if config.overwrite:
            return None
        raise


def require_same_settings(store: FeatureStore, specs: Sequence[FeatureSpec]) -> None:
    """Check that the store's features are of these settings.

    Raises:
        FeatureStoreError: They are of others; names them.
    """
    if store.layers != [spec.layer for spec in specs]:
        changed = f"layers {', '.join(store.layers)} -> {', '.join(spec.layer for spec in specs)}"
    else:
        pairs = [(old, replace(new, weights_id=old.weights_id)) for old, new in zip(store.specs, specs, strict=True)]
        changes = {
            f"{name} {value} -> {getattr(new, name)}"
            for old, new in pairs
            for name, value in vars(old).items()
            if value != getattr(new, name)
        }
        changed = ", ".join(sorted(changes))
    if changed:
        raise FeatureStoreError(
            f"{store.path}: was made with other settings ({changed}); choose another name, or --overwrite to replace it"
        )


def require_nothing_lost(store: FeatureStore, entries: Sequence[VideoEntry], content: dict[Path, str]) -> None:
    """Videos of the store must be there, by name or by content: a folder may not be mounted, or be another one.

    Raises:
        FeatureStoreError: Some are not.
    """
    names, contents = {str(entry.path) for entry in entries}, set(content.values())
    fingerprints = store.videos.fingerprint
    gone = [
        store.path_of(i)
        for i in range(len(store.videos))
        if store.path_of(i) not in names and decoded(fingerprints[i]) not in contents
    ]
    if gone:
        raise FeatureStoreError(
            f"{store.path}: {len(gone)} of its {len(store.videos)} videos are not here any more, the first {gone[0]}; "
            "choose another name, or --overwrite to drop them"
        )


def is_unchanged(
    store: FeatureStore,
    rows: Sequence[VideoRow],
    data: Dataset,
    skipped: Sequence[tuple[str, str]],
    boxes: StoredBoxes | None,
) -> bool:
    """Whether packing all this again would change nothing: neither videos, labels, splits nor boxes."""
    old = [
        VideoRow(decoded(v.id[i]), store.path_of(i), decoded(v.fingerprint[i]), int(v.label[i]), store.groups[i])
        for v in (store.videos,)
        for i in range(len(v))
    ]
    return (
        old == list(rows)
        and (store.dataset, store.classes, store.multilabel) == (data.name, list(data.classes), data.multilabel)
        and np.array_equal(store.label_matrix, data.label_matrix)
        and set(store.split_names) == data.splits.keys()
        and all(np.array_equal(store.split(name), codes) for name, codes in data.splits.items())
        and store.skipped == skipped
        and (store.boxes is None if boxes is None else boxes.equals(store.boxes))
    )
