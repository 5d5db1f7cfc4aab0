from pathlib import Path

import h5py
import numpy as np
import pytest
from small_store import write_store

from attnrec.errors import FeatureStoreError
from attnrec.features.store import FeatureStore
from attnrec.features.stored_boxes import StoredBoxes, stored_boxes

BOXES = [(3, 0.5, (5.0, 6.0, 9.0, 12.0)), (1, 0.1, (1.0, 1.0, 1.0, 1.0)), (3, 0.5, (0.0, 0.0, 2.0, 2.0)),
         (3, 0.0, (0.5, 0.25, 64.0, 48.0))]  # fmt: skip


@pytest.fixture(scope="module")
def boxes() -> StoredBoxes:
    return stored_boxes(BOXES, {1: (20, 30), 3: (64, 48)}, 6)


@pytest.fixture(scope="module")
def whole(boxes, tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("boxed") / "s.h5", num_groups=2, boxes=boxes)


@pytest.fixture
def path(whole, tmp_path) -> Path:
    """A copy of a good store, to be spoilt."""
    copy = tmp_path / "copy.h5"
    copy.write_bytes(whole.read_bytes())
    return copy


def test_boxes_come_back_in_order(whole, boxes):
    found = FeatureStore(whole).boxes
    assert found.equals(boxes)
    assert found.video.tolist() == [1, 3, 3, 3]
    assert (len(found), found.num_videos) == (4, 2)
    assert found.size_of(0) is None
    assert found.size_of(3) == (64, 48)
    assert found.by_time(3) == {0.0: [(0.5, 0.25, 64, 48)], 0.5: [(5, 6, 9, 12), (0, 0, 2, 2)]}
    assert found.by_time(2) == {}


def test_boxes_are_no_part_of_the_fingerprint(whole, tmp_path):
    plain = FeatureStore(write_store(tmp_path / "s.h5", num_groups=2))
    assert plain.boxes is None
    assert plain.fingerprint == FeatureStore(whole).fingerprint


def test_equal_boxes(boxes):
    assert not boxes.equals(None)
    assert boxes.equals(stored_boxes(BOXES, {1: (20, 30), 3: (64, 48)}, 6))
    assert not boxes.equals(stored_boxes(BOXES, {1: (20, 31), 3: (64, 48)}, 6))
    assert not boxes.equals(stored_boxes(BOXES[:3], {1: (20, 30), 3: (64, 48)}, 6))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("video", np.array([1, 3, 3], np.int32), "columns of boxes that do not agree"),
        ("video", np.array([1, 3, 3, 6], np.int32), "boxes without a video"),
        ("video", np.array([-1, 3, 3, 3], np.int32), "boxes without a video"),
        ("video", np.array([3, 1, 3, 3], np.int32), "boxes out of order"),
        ("video", np.array([1, 2, 3, 3], np.int32), "boxes in videos of no size"),
        ("video", np.array([1.0, 3, 3, 3]), "boxes/video has type float64 and rank 1"),
        ("seconds", np.array([0.1, 0.6, 0.5, 0.5]), "boxes out of order"),
        ("seconds", np.array([0.1, 0, np.nan, 0.5]), "boxes at times that are no times"),
        ("seconds", np.array([-0.1, 0, 0.5, 0.5]), "boxes at times that are no times"),
        ("seconds", np.array([0.1, 0, 0.5, 1e10]), "boxes at times that are no times"),
        ("corners", np.zeros((4, 3), np.float32), "columns of boxes that do not agree"),
        ("corners", np.zeros(16, np.float32), "boxes/corners has type float32 and rank 1"),
        ("corners", np.full((4, 4), np.nan, np.float32), "boxes that are no boxes"),
        ("corners", np.array([[5, 5, 4, 9]] * 4, np.float32), "boxes that are no boxes"),
        ("corners", np.array([[5, 5, np.inf, 9]] * 4, np.float32), "boxes that are no boxes"),
        ("corners", np.array([[20, 5, 22, 9]] * 4, np.float32), "boxes outside of their videos"),
        ("size", np.ones((5, 2), np.int32), "columns of boxes that do not agree"),
        ("size", np.zeros((6, 2), np.int32), "boxes in videos of no size"),
        ("size", np.array([[9, 0], [20, 30], [0, 0], [64, 48], [0, 0], [0, 0]]), "boxes in videos of no size"),
        ("size", np.full((6, 2), -4, np.int32), "boxes in videos of no size"),
        ("size", np.full((6, 2), 2**31 - 1, np.int32), "boxes in videos of no size"),
    ],
)
def test_crafted_boxes_are_refused(path, name, data, message):
    with h5py.File(path, "a") as file:
        del file[f"boxes/{name}"]
        file[f"boxes/{name}"] = data
    with pytest.raises(FeatureStoreError, match=message):
        FeatureStore(path)


@pytest.mark.parametrize("name", ["boxes/video", "boxes/size", "boxes"])
def test_missing_or_linked_columns_are_refused(path, whole, name):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(whole), name)
    with pytest.raises(FeatureStoreError, match="is missing or a link"):
        FeatureStore(path)
    with h5py.File(path, "a") as file:
        del file[name]
    if name == "boxes":
        assert FeatureStore(path).boxes is None
    else:
        with pytest.raises(FeatureStoreError, match=f"{name} is missing or a link"):
            FeatureStore(path)


def test_absurd_sizes_are_not_believed(path):
    with h5py.File(path, "a") as file:
        del file["boxes/corners"]
        file.create_dataset("boxes/corners", (10**10, 4), "<f4")
    with pytest.raises(FeatureStoreError, match="boxes/corners claims more than the file holds"):
        FeatureStore(path)
