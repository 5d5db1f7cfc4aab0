import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from attnrec.drawing.plots import confusion, maps
from attnrec.training.curves import learning_curves
from attnrec.training.run import Run

EPOCHS = [
    {"kind": "step", "epoch": 1, "loss": 99.0},
    {"kind": "epoch", "epoch": 1, "loss": 4.0, "validation_loss": 1.5, "validation_accuracy": 0.25},
    {"kind": "epoch", "epoch": 2, "loss": 2.0, "validation_loss": None, "validation_accuracy": 0.75},
    {"kind": "retrain-epoch", "epoch": 1, "loss": 77.0},
]


def texts(svg: bytes) -> list[str]:
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_curves_are_of_the_epochs_and_name_the_best():
    plot = learning_curves(EPOCHS, "accuracy", 2)
    assert plot.words == (
        "Loss in training: run from 4 at 1 to 2 at 2; Loss on validation videos: run from 1.5 at 1 to 1.5 at 1; "
        "Accuracy on validation videos: run from 25 at 1 to 75 at 2"
    )
    assert texts(plot.svg()).count("epoch; 2 was kept") == 3


def test_a_run_that_finished_no_epoch_has_no_curves():
    assert learning_curves(EPOCHS[:1], "accuracy", None) is None


def test_attention_models_have_curves_of_their_attention(trained):
    titles = texts(learning_curves(Run(trained).read_log(), "accuracy", 3).svg())
    assert {"Penalty above its floor", "Entropy of the attention"} <= set(titles)


def test_the_files_of_a_plot_are_in_dark_letters_on_white(tiny_run):
    run = Run(tiny_run)
    path = run.save_plot("curves", learning_curves(run.read_log(), "accuracy", 1))
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    svg = path.with_suffix(".svg").read_bytes()
    assert b"var(" not in svg  # which few programs but browsers know
    assert ET.fromstring(svg).tag.endswith("svg")


@pytest.mark.parametrize("name", ["a", "wave_one_hand_above_the_head"])
def test_names_of_classes_are_whole(name):
    assert texts(confusion(np.eye(2, dtype=np.int64), [name, "b"]).svg()).count(name) == 2
    assert name in texts(maps(np.full((2, 2, 2), 0.25), [name, "b"]).svg())


def test_long_names_do_not_lie_over_each_other():
    plot = maps(np.full((4, 2, 2), 0.25), [f"wave_one_hand_above_the_head_{k}" for k in range(4)])
    figure = plot.figure
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
