import numpy as np
import pytest
from looks import made_look


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((320, 240), (240, 180)),
        ((64, 64), (240, 240)),
        ((1920, 1080), (240, 136)),
        ((144, 256), (240, 426)),
        ((10, 1000), (4, 480)),
        ((1000, 1), (240, 2)),
    ],
)
def test_frames_keep_their_aspect_in_a_box(size, shown):
    assert made_look(size=size).shown_size(240) == shown


def test_the_samples_nearest_in_time():
    look = made_look(5)  # at 0, 0.25, 0.5, 0.75, 1
    assert look.nearest_steps(np.array([0.0, 0.3, 0.99])).tolist() == [0, 1, 4]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_samples_keep_their_own_boxes_when_there_are_fewer(step):
    look = made_look(7, boxes={k: [(k, 0, k + 1, 9)] for k in range(1, 7)})
    fewer = look.every(step)
    assert fewer.times.tolist() == look.times[::step].tolist()
    assert fewer.attention.shape == look.attention[::step].shape
    assert fewer.boxes == {k: look.boxes[k * step] for k in range(1, len(fewer))}
