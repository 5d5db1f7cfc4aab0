"""Rows and tables of a comparison, made up."""

from attnrec.comparison.results import ComparedRow, ComparedTable, PublishedFigure

PAPERS = PublishedFigure("ucf11", "accuracy", "attention", 0.0, 84.96, "Table 1")
# A row that has a value in every column.
FULL = ComparedRow(
    name="attention",
    model="attention",
    attention="location",
    attention_penalty=0.0,
    fps=6.0,
    preset="auto",
    settings={},
    seeds=[0, 1],
    splits=["cv3-1", "cv3-2"],
    num_videos=24,
    figure=0.75,
    sd=0.021,
    interval=(0.6, 0.9),
    mean_class_accuracy=0.7,
    validation_figure=0.8,
    difference=0.15,
    difference_interval=(0.01, 0.3),
    p_value=0.0004,
    corrected_p_value=0.0012,
    attention_entropy=0.9,
    penalty_above_floor=20.0,
    faithfulness=dict.fromkeys(("learned", "uniform", "other_video", "time_shuffled", "untrained"), 0.125)
    | dict.fromkeys(("deletion", "insertion", "random"), 0.375)
    | {f"{kind}{of}": 0.5 for kind in ("pointing", "mass") for of in ("", "_centre", "_uniform", "_frequent")},
    pointing_interval=(0.4, 0.6),
    pointing_over_centre=-0.25,
    pointing_over_centre_interval=(-0.3, 0.1),
    num_parameters=1_234_567,
    train_seconds=90.0,
    blocks_per_second=393.4,
    published=PAPERS,
    differs=["backbone", "split"],
    flags=["a", "b"],
    runs=[],
)
# A row that has a value in hardly any.
BARE = ComparedRow(
    name="softmax",
    model="softmax",
    attention=None,
    attention_penalty=None,
    fps=6.0,
    preset="auto",
    settings={},
    validation_figure=None,
    attention_entropy=None,
    penalty_above_floor=None,
    faithfulness={},
    num_parameters=None,
    train_seconds=90.0,
    blocks_per_second=None,
    published=None,
    differs=[],
    flags=[],
    runs=[],
)


def made_table(*rows: ComparedRow, metric: str = "accuracy") -> ComparedTable:
    """A table of such rows."""
    return ComparedTable(
        dataset="ucf11",
        store_fingerprint="f",
        backbone="googlenet",
        weights_sha256="w",
        splits=["cv3-1", "cv3-2"],
        split_sha256=["1", "2"],
        leaking=False,
        part="test",
        metric=metric,
        num_videos=24,
        num_groups=8,
        against="avg-pool",
        apart=None,
        rows=list(rows),
    )
