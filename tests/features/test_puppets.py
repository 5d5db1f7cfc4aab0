from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_mask

from attnrec.datasets.dataset import VideoEntry
from attnrec.errors import DataError
from attnrec.features.puppets import mask_boxes, read_mask, read_puppets


def mask_of(*regions: tuple[int, int, int, int] | None, height: int = 24, width: int = 32):
    """A mask whose frames show a person in a region each, x0 y0 x1 y1, or nobody."""
    mask = np.zeros((height, width, len(regions)), np.uint8)
    for frame, region in enumerate(regions):
        if region is not None:
            x0, y0, x1, y1 = region
            mask[y0, x0:x1, frame] = 3
            mask[y0:y1, x1 - 1, frame] = 13
    return mask


def test_boxes_are_tight_and_half_open():
    boxes = mask_boxes(mask_of((4, 3, 20, 9), None, (0, 0, 32, 24), (7, 8, 8, 9)))
    assert [(box.when, box.corners) for box in boxes] == [
        (0, (4, 3, 20, 9)), (2, (0, 0, 32, 24)), (3, (7, 8, 8, 9)),
    ]  # fmt: skip


def test_a_mask_of_a_single_frame(tmp_path):
    path = write_mask(tmp_path, mask_of((1, 2, 3, 4))[:, :, 0])
    assert read_mask(path).shape == (24, 32, 1)


def test_a_mask_of_four_axes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"part_mask is of shape \(3, 2, 2, 2\), not height, width and frames"):
        read_mask(write_mask(tmp_path, np.ones((3, 2, 2, 2), np.uint8)))


def test_masks_of_a_data_set(tmp_path):
    names = ("whole", "absent", "broken", "empty")
    entries = [VideoEntry(Path(f"golf/{name}.avi"), ("golf",), name) for name in names]
    write_mask(tmp_path / "golf" / "whole", mask_of((4, 3, 20, 9), None))
    write_mask(tmp_path / "golf" / "empty", mask_of(None, None))
    write_mask(tmp_path / "golf" / "broken", mask_of(None, None), name="other")
    found = read_puppets(tmp_path, entries)
    assert list(found.table.videos) == ["golf/whole.avi"]
    assert found.masks == {"golf/whole.avi": ((32, 24), 2), "golf/empty.avi": ((32, 24), 2)}
    assert [(problem.what, problem.count) for problem in found.problems] == [
        ("videos without a puppet mask", 1), ("puppet masks that cannot be used, left out", 1),
    ]  # fmt: skip
    assert "golf/broken/puppet_mask.mat: no usable part_mask (no part_mask in it)" in str(found.problems[1])
