"""The paper's figures, and how a run's settings differ from the paper's."""

import json
from importlib.resources import files
from typing import Any

from attnrec.comparison.results import PublishedFigure
from attnrec.settings import Recipe, TrainConfig
from attnrec.training.identity import row_settings
from attnrec.training.presets import PAPER_BACKBONE, PAPER_FRAMES, canonical_dataset, recipe_of, sampling_of
from attnrec.training.run import Run

_RETRAINED = ("hmdb51", "hollywood2")  # datasets on which the authors retrain
_NUM_CLASSES = {"ucf11": 11, "hmdb51": 51, "hollywood2": 12}  # with fewer classes it is another task
_SPLITS = {"hmdb51": "hmdb51-1", "hollywood2": "hollywood2"}  # the paper's splits, where they are published


def published_figures() -> tuple[str, list[PublishedFigure]]:
    """Read the paper's figures and their source."""
    document = json.loads(files("attnrec").joinpath("published.json").read_text(encoding="utf-8"))
    return document["source"], [PublishedFigure(**row) for row in document["rows"]]


def paper_dataset(run: Run) -> str | None:
    """The paper's dataset that a run is trained on, by name and number of classes; None for any other."""
    name = canonical_dataset(run.manifest.store["dataset"])
    return name if len(run.manifest.classes) == _NUM_CLASSES.get(name) else None


def published_for(run: Run) -> PublishedFigure | None:
    """The paper's figure for a run's model, lambda and dataset, whatever else differs; None if there is none."""
    manifest = run.manifest
    attentive = manifest.model.architecture == "attention"
    wanted = (
        paper_dataset(run),
        manifest.model.architecture,
        manifest.training.attention_penalty if attentive else None,
    )
    _, figures = published_figures()
    return next((f for f in figures if (f.dataset, f.model, f.attention_penalty) == wanted), None)


def differences_from_paper(run: Run) -> list[str]:
    """How a run on a dataset of the paper differs from the paper's, as a list of texts."""
    manifest = run.manifest
    known, split, backbone = (
        canonical_dataset(manifest.store["dataset"]), manifest.split["name"], manifest.features.backbone
    )  # fmt: skip
    found = []
    if backbone != PAPER_BACKBONE:
        found.append(
            "torchvision's GoogLeNet, not Caffe's" if backbone == "googlenet" else f"{backbone}, not GoogLeNet"
        )
    if known not in _SPLITS:
        found.append(f"split {split}, as the paper's is not published")
    elif split != _SPLITS[known]:
        found.append(f"split {split}, not {_SPLITS[known]}")
    ours, papers = _settings(manifest.training), _settings(_paper_recipe(run, known))
    for name, value in ours.items():
        if (value or 0) != (papers[name] or 0):
            found.append(f"{name.replace('_', ' ')} {_text(value)}, not {_text(papers[name])}")
    if any(scale != 1 for scale in manifest.feature_scales):
        found.append(f"features times {', '.join(f'{scale:.3g}' for scale in manifest.feature_scales)}")
    return found


def _paper_recipe(run: Run, known: str) -> Recipe:
    manifest, ours = run.manifest, run.manifest.training
    asked = TrainConfig(
        model=ours.model, attention_penalty=ours.attention_penalty, preset="paper", retrain=known in _RETRAINED
    )
    return recipe_of(
        asked,
        sampling_of(asked, ours.split, PAPER_FRAMES),
        dataset=known,
        feature_dim=manifest.features.feature_dim,
        multilabel=manifest.model.multilabel,
        num_blocks=0,
        has_validation=False,
        precision="fp32",
    )


def _settings(recipe: Recipe) -> dict[str, Any]:
    settings = row_settings(recipe, None, "")
    return {name: value for name, value in settings.items() if name not in ("preset", "layer", "precision")}


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
