"""Made-up frames for tests of the CNN trunk."""

import numpy as np
from numpy.typing import NDArray


def pictures(num_frames: int, size: int = 224, seed: int = 0) -> NDArray[np.uint8]:
    """Seeded frames with structure at several scales, (n, H, W, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((num_frames, size, size, 3))
    for cells in (2, 8, 32):
        noise = rng.uniform(0, 255 / 3, (num_frames, cells, cells, 3))
        steps = np.arange(size) * cells // size
        total += noise[:, steps][:, :, steps]
    return total.round().astype(np.uint8)
