"""The feature store that a run was trained on."""

from pathlib import Path

from attnrec.errors import RunError
from attnrec.features.store import FeatureStore, find_store
from attnrec.runtime import OnProgress, no_progress
from attnrec.training.run import Run


def store_of_run(run: Run, store: str | Path | None, on_progress: OnProgress = no_progress) -> FeatureStore:
    """Open the feature store that a run was trained on.

    Args:
        run: The run.
        store: Path of the store; None looks where it was at training, then in the current folder.
        on_progress: Told of files in the folder that cannot be used as stores.

    Raises:
        RunError: The run was trained on another store, or on another split of that name.
        FeatureStoreError: No store was found.
    """
    features = features_of_run(run, store, on_progress)
    split = run.manifest.split
    if features.split_sha256(split["name"]) != split["sha256"]:
        raise RunError(f"{features.path}: split {split['name']} has changed since {run.path} was trained; train again")
    return features


def features_of_run(run: Run, store: str | Path | None, on_progress: OnProgress = no_progress) -> FeatureStore:
    """Open the feature store that a run was trained on, as `store_of_run` does, without checking its split."""
    recorded = Path(run.manifest.store["path"])
    path = Path(store) if store is not None else recorded if recorded.is_file() else find_store(Path.cwd(), on_progress)
    features = FeatureStore(path, run.manifest.features.layer)
    if features.fingerprint != run.manifest.store["fingerprint"]:
        raise RunError(f"{run.path}: was trained on another store than {path}; name its own, or train again")
    return features
