import dataclasses
from dataclasses import asdict

import pytest
from small_store import SPEC, write_store

from attnrec.errors import ConfigError
from attnrec.settings import Recipe, TrainConfig
from attnrec.training.plan import prepare
from attnrec.training.presets import notes_on, recipe_of, sampling_of

DATASETS = ("videos", "UCF-11", "ucf101", "hmdb51", "hollywood2")


def filled(
    dataset="videos", *, num_blocks=100_000, multilabel=False, typical_frames=300.0, has_validation=True, **given
) -> Recipe:
    asked = TrainConfig(**given)
    return recipe_of(
        asked,
        sampling_of(asked, asked.split or "default", typical_frames),
        dataset=dataset,
        feature_dim=1024,
        multilabel=multilabel,
        num_blocks=num_blocks,
        has_validation=has_validation,
        precision="fp32",
    )


def subset(config: Recipe, expected: dict) -> dict:
    return {name: getattr(config, name) for name in expected}


@pytest.mark.parametrize("preset", ["auto", "paper", "authors-code"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_no_setting_is_left_open(preset, dataset):
    values = asdict(filled(dataset, preset=preset, split="default"))
    open_ones = {name for name, value in values.items() if value is None}
    # What is left is for the machine, or means: no limit.
    assert open_ones <= {"layer", "jobs", "attention_dim", "max_steps", "overfit"}


@pytest.mark.parametrize(
    ("preset", "attention", "add_mean"), [("auto", "saliency", True), ("paper", "location", False)]
)
def test_the_papers_model_and_protocol(preset, attention, add_mean):
    expected = {
        "attention": attention, "add_mean": add_mean, "num_layers": 3, "init_layers": 2, "scorer_layers": 1,
        "input_dropout": 0.5,
        "block_starts": "by-time", "penalty_reduction": "sum", "decay_per": "block", "optimizer": "adam",
        "reduction": "mean", "last_steps": 30, "learning_rate": 2e-4, "batch_size": 128, "epochs": 15,
        "hidden_dim": 512,
    }  # fmt: skip
    for dataset in ("videos", "UCF-11", "hollywood2"):
        assert subset(filled(dataset, preset=preset), expected) == expected
    assert filled("HMDB-51", preset=preset).hidden_dim == 1024


def test_the_released_code_on_ucf11():
    expected = {
        "attention": "content", "num_layers": 1, "init_layers": 1, "scorer_layers": 1, "attention_dim": 1024,
        "input_dropout": 0.0, "block_starts": "by-frame", "penalty_reduction": "mean", "decay_per": "batch",
        "optimizer": "adam", "reduction": "vote", "last_steps": 30, "learning_rate": 2e-4, "batch_size": 128,
        "epochs": 15, "hidden_dim": 512,
    }  # fmt: skip
    assert subset(filled("UCF-11", preset="authors-code"), expected) == expected


def test_the_released_code_on_hmdb51_and_hollywood2():
    hmdb51 = filled("hmdb51", preset="authors-code")
    expected = {"optimizer": "sgd", "scorer_layers": 3, "last_steps": 16, "reduction": "vote", "hidden_dim": 1024}
    assert subset(hmdb51, expected) == expected
    assert hmdb51.learning_rate == pytest.approx(1e-5 * 128)
    hollywood2 = filled("hollywood2", preset="authors-code", multilabel=True)
    expected = {"optimizer": "sgd", "scorer_layers": 1, "last_steps": 16, "reduction": "mean", "hidden_dim": 512}
    assert subset(hollywood2, expected) == expected
    assert hollywood2.learning_rate == pytest.approx(1e-4 * 128)


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_the_user_gives_wins(dataset):
    given = {
        "attention": "content", "num_layers": 2, "init_layers": 3, "scorer_layers": 2, "attention_dim": 7,
        "input_dropout": 0.1, "block_starts": "by-time", "penalty_reduction": "sum", "decay_per": "block",
        "optimizer": "sgd", "reduction": "mean", "last_steps": 3, "learning_rate": 0.5, "batch_size": 5,
        "epochs": 6, "hidden_dim": 9,
    }  # fmt: skip
    assert subset(filled(dataset, preset="authors-code", **given), given) == given


def test_the_rate_of_gradient_steps_follows_the_batch():
    assert filled("hmdb51", preset="authors-code", batch_size=10).learning_rate == pytest.approx(1e-4)


def test_short_blocks_count_all_their_steps():
    assert filled("hmdb51", preset="authors-code", block_frames=8).last_steps == 8


def test_baselines_have_no_scorer():
    config = filled("hmdb51", preset="authors-code", model="avg-pool")
    assert (config.scorer_layers, config.attention_dim) == (1, None)


@pytest.mark.parametrize("given", [{"scorer_layers": 3}, {"attention_dim": 5}])
def test_a_scorer_by_content_needs_its_form(given):
    with pytest.raises(ConfigError, match="are for --attention content"):
        filled(**given)
    assert filled(preset="authors-code", attention="location").scorer_layers == 1


@pytest.mark.parametrize(("typical", "block_frames"), [(8.0, 8), (40.2, 30), (14.6, 15), (0.3, 1)])
def test_auto_fits_blocks_to_short_videos(typical, block_frames):
    assert filled(typical_frames=typical).block_frames == block_frames
    assert filled(typical_frames=typical).last_steps == block_frames
    assert filled(typical_frames=typical, block_frames=12).block_frames == 12
    assert filled(typical_frames=typical, preset="paper").block_frames == 30


@pytest.mark.parametrize(("sample_fps", "fps", "block_frames"), [(10.0, 30.0, 12), (10.0, 5.0, 6), (None, 30.0, 12)])
def test_blocks_are_fitted_at_the_rate_that_the_store_has(tmp_path, sample_fps, fps, block_frames):
    spec = dataclasses.replace(SPEC, sample_fps=sample_fps)
    store = write_store(tmp_path / "store.h5", num_frames=12, spec=spec)  # of ten frames a second
    config = TrainConfig(fps=fps, device="cpu", jobs=1)
    assert prepare(store, config).recipe.block_frames == block_frames


def test_auto_takes_fewer_and_narrower_layers_for_few_blocks():
    few, many = (filled("videos", num_blocks=num_blocks) for num_blocks in (1_000, 30_000))
    assert (few.num_layers, few.hidden_dim, many.num_layers, many.hidden_dim) == (1, 128, 3, 512)
    assert filled("videos", num_blocks=1_000, num_layers=2, hidden_dim=64).num_layers == 2


def test_only_auto_stops_early():
    assert filled(num_blocks=100).patience > 0
    assert filled(num_blocks=100, has_validation=False).patience == 0
    assert filled(num_blocks=100, has_validation=False, patience=3).patience == 0
    assert filled(preset="paper").patience == filled(preset="authors-code").patience == 0
    assert filled(preset="paper", patience=3).patience == 3


def test_a_recipe_is_what_was_asked_for_without_gaps():
    asked, done = ({field.name for field in dataclasses.fields(cls)} for cls in (TrainConfig, Recipe))
    assert asked == done
    with pytest.raises(ConfigError, match="attention is not given"):
        Recipe()


def test_what_the_dataset_decided_is_said():
    given = TrainConfig(preset="authors-code")
    notes = notes_on(given, filled("hmdb51", preset="authors-code"), "hmdb51", "bvlc_googlenet")
    assert len(notes) == 4
    for words in ("1024 hidden units", "SGD at 0.00128: the released code's 1e-05", "last 16 steps", "three layers"):
        assert any(words in note for note in notes), words
    assert notes_on(TrainConfig(), filled(), "videos", "googlenet") == []
    assert (
        notes_on(TrainConfig(preset="paper", hidden_dim=1024), filled(hidden_dim=1024), "hmdb51", "bvlc_googlenet")
        == []
    )


@pytest.mark.parametrize("preset", ["paper", "authors-code"])
def test_features_of_another_network_than_the_papers_are_noted(preset):
    given = TrainConfig(preset=preset, hidden_dim=512, learning_rate=1e-4)
    (note,) = notes_on(given, filled(preset=preset), "videos", "googlenet")
    assert note.startswith("features of googlenet; those of the paper are of bvlc_googlenet")
    assert notes_on(given, filled(preset=preset), "videos", "bvlc_googlenet") == []
