from dataclasses import replace

import numpy as np
import pytest
from clips import write

from attnrec.evaluation.gaze import NOWHERE, gaze_advice, gaze_note
from attnrec.evaluation.predict import Recognizer
from attnrec.pictures.look import look_at
from attnrec.settings import PictureConfig


@pytest.mark.parametrize(("entropy", "note"), [(1.0, NOWHERE), (0.98, NOWHERE), (0.96, ""), (0.0, "")])
def test_words_for_pictures(entropy, note):
    assert gaze_note(entropy) == note


@pytest.mark.parametrize(
    ("entropy", "form", "advice"),
    [
        (0.9951, "location", "(entropy 0.995 of uniform); try --attention saliency or a longer training"),
        (0.9951, "saliency", "(entropy 0.995 of uniform); try a longer training"),
        (0.9, "location", ""),
        (None, None, ""),
    ],
)
def test_words_for_who_made_a_run(entropy, form, advice):
    assert gaze_advice(entropy, form) == (f"{NOWHERE} {advice}" if advice else "")


@pytest.mark.parametrize(("start", "duration", "note"), [(0.0, None, ""), (0.0, 0.6, ""), (1.0, None, NOWHERE)])
def test_a_picture_speaks_of_the_part_of_the_clip_that_it_shows(
    looking_run, tmp_path, monkeypatch, start, duration, note
):
    clip = write(tmp_path / "clip.mp4", np.zeros((12, 48, 64, 3), np.uint8), fps=6)
    recognizer = Recognizer(looking_run, device="cpu", jobs=1)
    attended = recognizer.attend(clip)
    attention = np.full_like(attended.attention, 1 / 49)
    attention[:4] = 0  # all on one cell at first, everywhere after that
    attention[:4, 2, 3] = 1
    monkeypatch.setattr(recognizer, "attend", lambda _: replace(attended, attention=attention))
    look = look_at(recognizer, clip, PictureConfig(start=start, duration=duration))
    assert look.note == note
