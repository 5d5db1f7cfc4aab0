import itertools

import numpy as np
import pytest

from attnrec.video.times import rising_times, thinned, typical_interval

FRAME = 0.04


def times_of(given: list[float]) -> list[float]:
    """Times that frames get, in the order in which they come."""
    numbers, seconds = zip(*rising_times(enumerate(given)), strict=True)
    assert list(numbers) == list(range(len(given)))
    assert all(later > earlier for earlier, later in itertools.pairwise(seconds))
    return list(seconds)


def test_times_of_the_container_are_kept():
    given = [3.0, 3.011, 3.044, 3.045, 12.3, 13.3]
    assert times_of(given) == pytest.approx([time - 3 for time in given])


@pytest.mark.parametrize("moved", [[5], [5, 6], [5, 6, 7], [1], [9], [1, 5, 9]])
@pytest.mark.parametrize("by", [0, -0.01, -0.039])
def test_a_repeated_or_backward_time_moves_that_frame_alone(moved, by):
    right = [k * FRAME for k in range(10)]
    given = list(right)
    for k in moved:
        before = max(j for j in range(k) if j not in moved)
        given[k] = right[before] + by
    found = times_of(given)
    for k in range(10):
        if k not in moved:
            assert found[k] == pytest.approx(right[k])
        else:
            before = max(j for j in range(k) if j not in moved)
            assert right[before] < found[k] < right[before] + FRAME / 2


def test_a_first_time_that_repeats_moves_the_second_frame():
    found = times_of([0, 0, 0.005, 0.01])
    assert found == pytest.approx([0, found[1], 0.005, 0.01])
    assert 0 < found[1] < 0.0025


def test_after_a_pause_a_repeated_time_moves_by_less_than_half_a_frame():
    given = [k * FRAME for k in range(5)] + [3.0, 3.0] + [3.0 + k * FRAME for k in range(1, 5)]
    found = times_of(given)
    assert found[:6] + found[7:] == pytest.approx(given[:6] + given[7:])
    assert 3.0 < found[6] < 3.0 + FRAME / 2


def test_times_that_start_again_go_on_from_there():
    again = [k * FRAME for k in range(50)]
    found = times_of(again + again)
    assert found[:50] == pytest.approx(again)
    assert np.diff(found[66:]) == pytest.approx([FRAME] * 33)  # once it is clear that they do not come back
    assert found[-1] == pytest.approx(99 * FRAME)


def test_frames_come_as_soon_as_their_time_is_known():
    taken = []

    def frames():
        for k in range(100):
            taken.append(k)
            yield k, k * FRAME

    for number, _ in rising_times(frames()):
        assert len(taken) == number + 1


def test_few_frames_are_held_back():
    taken = []

    def frames():
        for k in range(1000):
            taken.append(k)
            yield k, 0.0

    for number, _ in rising_times(frames()):
        assert len(taken) - number <= 16


@pytest.mark.parametrize("seed", range(200))
def test_random_faults_in_random_times(seed):
    """Rates, pauses and faults are drawn; frames that have a good time keep it, the others lie between them."""
    rng = np.random.default_rng(seed)
    interval = 1 / rng.choice([6, 12.5, 25, 29.97, 60, 200])
    right = np.concatenate([[0], np.cumsum(interval * np.where(rng.random(80) < 0.05, rng.integers(2, 300, 80), 1))])
    right += rng.choice([0, 1.4, 1000])
    kinds = rng.choice(["ok", "repeated", "backward", "none"], len(right), p=[0.8, 0.1, 0.05, 0.05])
    kinds[0] = "ok"
    given = right.copy()
    for k in np.flatnonzero(kinds != "ok"):
        earlier = max(j for j in range(k) if kinds[j] == "ok")
        given[k] = {"repeated": right[earlier], "backward": right[0], "none": np.nan}[kinds[k]]
    found = np.array(times_of(given.tolist()))
    good = kinds == "ok"
    assert found[good] == pytest.approx(right[good] - right[0], rel=0, abs=1e-9)


def test_times_that_never_rise_follow_a_usual_rate():
    assert times_of([5.0] * 40)[:33] == pytest.approx([k / 30 for k in range(33)], abs=0.04)


def test_the_typical_interval_ignores_pauses_and_averages_rounding():
    assert typical_interval(np.array([0.1])) == pytest.approx(0.1)
    assert typical_interval(np.array([0.04] * 24 + [9.0] + [0.04] * 24)) == pytest.approx(0.04)
    assert typical_interval(np.array([0.033, 0.033, 0.034])) == pytest.approx(1 / 30)
    assert typical_interval(np.array([1, 1, 1, 1, 2] * 6) / 30) == pytest.approx(1 / 30)
    assert typical_interval(np.array([0.1, 0.1, 0.5, 0.02])) == pytest.approx(0.1)
    assert typical_interval(np.array([0.04, 9.0])) == pytest.approx(0.04)


def test_thinning_keeps_the_frame_nearest_to_each_place_of_the_grid():
    frames = [(k, k / 59.94) for k in range(60)]
    assert [k for k, _ in thinned(frames, 29.97)] == list(range(0, 60, 2))
