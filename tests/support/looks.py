"""Looks at clips with known numbers, for tests of pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from attnrec.evaluation.attended import Prediction
from attnrec.pictures.look import Look


def on_cell(row: int, column: int, K: int = 7) -> np.ndarray:
    attention = np.zeros((K, K), np.float32)
    attention[row, column] = 1
    return attention


def random_attention(K: int, num_samples: int | None = None, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).dirichlet(np.ones(K * K), num_samples or 1).astype(np.float32)
    return drawn.reshape(-1, K, K) if num_samples else drawn.reshape(K, K)


def predicting(name: str) -> Prediction:
    """That a clip is of this class, to 93 %."""
    return Prediction("jump.mp4", name, 0.93, [name], {name: 0.93}, 1, "ok")


def made_look(num_samples: int = 4, K: int = 7, seed: int = 0, **changes: object) -> Look:
    """A look at a clip of 64 x 48 px, four samples a second."""
    rng = np.random.default_rng(seed)
    look = Look(
        clip="jump.mp4",
        run="runs/attention-1",
        label="",
        prediction=predicting("jump"),
        truth=None,
        correct=None,
        classes=("bend", "jump", "run"),
        sample_fps=30.0,
        frames=np.arange(num_samples),
        times=np.arange(num_samples) / 4,
        end=num_samples / 4,
        attention=random_attention(K, num_samples, seed),
        frame_probs=rng.dirichlet(np.ones(3), num_samples).astype(np.float32),
        entropy=rng.uniform(0.3, 1, num_samples),
        size=(64, 48),
        region=(0, 0, 1, 1),
    )
    return replace(look, **changes)


def noise_frames(number: int, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).integers(0, 256, (number, height, width, 3), dtype=np.uint8)
    return list(drawn)


def shown(path: Path) -> tuple[np.ndarray, list[float]]:
    """Frames of a GIF or a PNG as a viewer shows them, and how long each stays in seconds."""
    frames, seconds = [], []
    with Image.open(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
            seconds.append(picture.info.get("duration", 0) / 1000)
    return np.stack(frames), seconds
