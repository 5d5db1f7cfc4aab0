from collections import Counter
from functools import cache

import numpy as np
import pytest

from attnrec.demo import sample
from attnrec.demo.sample import SAMPLE_ACTIONS, SampleClip, generate_clips

WIDTH, HEIGHT, NUM_FRAMES = 80, 60, 4


def make(num_groups: int, clips_per_group: int = 1, **kwargs) -> list[SampleClip]:
    sizes = {"num_frames": NUM_FRAMES, "width": WIDTH, "height": HEIGHT} | kwargs
    return list(generate_clips(num_groups=num_groups, clips_per_group=clips_per_group, **sizes))


@cache
def many_clips() -> list[SampleClip]:
    return make(12, 2, num_frames=2)


def test_a_clip_does_not_depend_on_how_many_are_asked_for():
    few, more = make(1, num_frames=3), {clip.name: clip for clip in make(2, 2, num_frames=3)}
    for clip in few:
        np.testing.assert_array_equal(clip.frames, more[clip.name].frames)
        np.testing.assert_array_equal(clip.boxes, more[clip.name].boxes)


def test_another_seed_gives_other_clips():
    for clip, other in zip(make(1, seed=0), make(1, seed=1), strict=True):
        assert clip.name == other.name
        assert (clip.frames != other.frames).any()


def test_names_labels_shapes_and_types():
    clips = make(2, 2, fps=5.0)
    assert len({clip.name for clip in clips}) == len(clips) == len(SAMPLE_ACTIONS) * 2 * 2
    assert Counter((clip.action, clip.group) for clip in clips) == {(a, g): 2 for a in SAMPLE_ACTIONS for g in (1, 2)}
    assert clips[0].name == f"v_{SAMPLE_ACTIONS[0]}_g01_c01"
    for clip in clips:
        assert clip.name.startswith(f"v_{clip.action}_g{clip.group:02d}_c")
        assert clip.fps == 5.0
        assert clip.frames.shape == (NUM_FRAMES, HEIGHT, WIDTH, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.boxes.shape == (NUM_FRAMES, 4)
        assert clip.boxes.dtype == np.int32


def test_no_two_clips_and_no_two_frames_are_the_same():
    clips = many_clips()
    assert len({clip.frames.tobytes() for clip in clips}) == len(clips)
    for clip in clips:
        assert (np.diff(clip.frames.astype(int), axis=0) != 0).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(("width", "height"), [(160, 120), (32, 32), (48, 90), (200, 40)])
def test_boxes_lie_inside_the_frame_and_are_small(width, height):
    for clip in make(2, width=width, height=height):
        x0, y0, x1, y1 = clip.boxes.T
        assert (x0 >= 0).all()
        assert (y0 >= 0).all()
        assert (x1 <= width).all()
        assert (y1 <= height).all()
        assert (x0 < x1).all()
        assert (y0 < y1).all()
        assert ((x1 - x0) * (y1 - y0)).max() < 0.25 * width * height


def test_the_actor_covers_a_small_share_and_keeps_off_the_centre():
    boxes = np.concatenate([clip.boxes for clip in many_clips()]).astype(float)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (WIDTH * HEIGHT)
    assert area.max() < 0.2
    off_centre = np.abs((boxes[:, 0] + boxes[:, 2]) / 2 / WIDTH - 0.5)
    assert off_centre.mean() > 0.15
    # On either side of it alike.
    assert 0.3 < (boxes[:, 0] + boxes[:, 2] < WIDTH).mean() < 0.7


def test_the_box_is_the_extent_of_what_the_actor_changes(monkeypatch):
    with_actor = make(2)
    monkeypatch.setattr(sample, "_paint_figure", lambda *_: (0, 0, 1, 1))
    for clip, empty in zip(with_actor, make(2), strict=True):
        changed = (clip.frames != empty.frames).any(axis=-1)
        for mask, (x0, y0, x1, y1) in zip(changed, clip.boxes, strict=True):
            rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
            extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert (extent[:2] >= (x0, y0)).all()
            assert (extent[2:] <= (x1, y1)).all()
            # A rim too faint to change a byte may widen the box by a pixel.
            assert np.abs(extent - (x0, y0, x1, y1)).max() <= 1


def test_actor_is_brighter_than_its_surroundings():
    for clip in make(2):
        inside = np.zeros(clip.frames.shape[:3], dtype=bool)
        for mask, (x0, y0, x1, y1) in zip(inside, clip.boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        assert np.percentile(clip.frames[inside], 90) > np.percentile(clip.frames[~inside], 99)


def test_place_and_background_do_not_tell_the_action():
    places, corners = [], []
    for action in SAMPLE_ACTIONS:
        clips = [clip for clip in many_clips() if clip.action == action]
        boxes = np.stack([clip.boxes for clip in clips]).astype(float)
        low, high = boxes[..., :2].min(axis=1), boxes[..., 2:].max(axis=1)
        places.append(((low + high) / 2 / (WIDTH, HEIGHT)).mean(axis=0))
        corners.append(np.mean([clip.frames[:, :6, :6].mean(axis=(0, 1, 2)) for clip in clips], axis=0))
    # 24 clips each: the tolerances are some four standard errors of the difference of two means.
    assert np.ptp(places, axis=0).max() < 0.25
    assert np.ptp(corners, axis=0).max() < 20


def test_a_group_shares_its_style_across_actions():
    palettes = {}
    for clip in make(2):
        palettes.setdefault(clip.group, []).append(clip.frames.mean(axis=(0, 1, 2)))
    within = max(np.ptp(colours, axis=0).max() for colours in palettes.values())
    between = np.abs(np.mean(palettes[1], axis=0) - np.mean(palettes[2], axis=0)).max()
    assert between > within


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_groups": 0}, "num_groups=0"),
        ({"clips_per_group": 0}, "clips_per_group=0"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"width": 31}, "width=31"),
        ({"height": 8}, "height=8"),
        ({"fps": 0.0}, r"fps=0\.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_misuse_is_refused(wrong, message):
    arguments = {"num_groups": 1, "num_frames": 2} | wrong
    with pytest.raises(ValueError, match=message):
        next(generate_clips(**arguments))


def test_one_frame_is_a_clip():
    assert [clip.frames.shape for clip in make(1, num_frames=1)] == [(1, HEIGHT, WIDTH, 3)] * len(SAMPLE_ACTIONS)
