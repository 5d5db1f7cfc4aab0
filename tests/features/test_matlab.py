import contextlib
import random
import time

import numpy as np
import pytest
import scipy.io
from dataset_trees import write_mask

from attnrec.errors import DataError
from attnrec.features.matlab import MOST_BYTES, read_uint8_array

SHAPE = (24, 32, 5)
MASK = np.random.default_rng(0).integers(0, 14, SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (24, 32), (1, 1, 3), (3, 2, 2, 2)])
def test_what_scipy_writes_is_read(tmp_path, compressed, shape):
    mask = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    path = write_mask(tmp_path, mask, compressed=compressed)
    found = read_uint8_array(path, "part_mask")
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(found, scipy.io.loadmat(path)["part_mask"])


def test_a_file_of_a_machine_of_the_other_byte_order(tmp_path):
    def element(kind: int, data: bytes) -> bytes:
        return np.array([kind, len(data)], ">u4").tobytes() + data + bytes(-len(data) % 8)

    head = element(6, np.array([9, 0], ">u4").tobytes()) + element(5, np.array([2, 3], ">i4").tobytes())
    data = element(1, b"part_mask") + element(2, bytes(range(6)))
    path = tmp_path / "m.mat"
    path.write_bytes(b" " * 124 + b"\1\0MI" + element(14, head + data))
    assert read_uint8_array(path, "part_mask").tolist() == [[0, 2, 4], [1, 3, 5]]
    np.testing.assert_array_equal(scipy.io.loadmat(path)["part_mask"], read_uint8_array(path, "part_mask"))


def test_a_file_of_millions_of_variables_costs_a_moment(tmp_path):
    path = tmp_path / "m.mat"
    path.write_bytes(b" " * 124 + b"\0\1IM" + np.array([1, 0], "<u4").tobytes() * (MOST_BYTES // 8 - 16))
    started = time.monotonic()
    refused(path, "no part_mask in it")
    assert time.monotonic() - started < 3  # a look at each takes more than ten


def refused(path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_uint8_array(path, "part_mask")
    assert str(caught.value).startswith(f"{path}: no usable part_mask (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask": MASK}, "no part_mask in it"),
        ({"part_mask": MASK.astype(np.float64)}, "not uint8, or of impossible shape"),
        ({"part_mask": "text"}, "not uint8, or of impossible shape"),
        ({"part_mask": {"a": 1}}, "not uint8, or of impossible shape"),
        ({"part_mask": MASK[:0]}, r"of impossible shape \(0, 32, 5\)"),
    ],
)
def test_another_array_is_refused(tmp_path, values, message):
    scipy.io.savemat(tmp_path / "m.mat", values, do_compression=True)
    refused(tmp_path / "m.mat", message)


def test_a_size_beyond_reason_is_not_believed(tmp_path):
    path = write_mask(tmp_path, np.zeros((1024, 1024, 65), np.uint8))
    assert path.stat().st_size < 200_000
    refused(path, rf"shape \(1024, 1024, 65\) is larger than {MOST_BYTES} bytes")
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    refused(path, "larger than|more than|too large")


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "m.mat"
    refused(path, "No such file")
    refused(tmp_path, "not a regular file|Is a directory")
    for content in (b"", b"x" * 200, b"\x89HDF\r\n\x1a\n" + bytes(600)):
        path.write_bytes(content)
        refused(path, "not a file of MATLAB 5 to 7; save it with -v7")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_of_one_line(tmp_path, compressed):
    path = write_mask(tmp_path, MASK, compressed=compressed)
    data, rng = path.read_bytes(), random.Random(0)
    for size in rng.sample(range(len(data) - 1), 60):
        path.write_bytes(data[:size])
        refused(path, "ends too early|not a file of|incomplete|no part_mask|without a shape|unpack_from")
    for _ in range(600):
        spoilt = bytearray(data)
        for _ in range(rng.choice((1, 3))):
            spoilt[rng.randrange(400)] = rng.randrange(256)
        path.write_bytes(spoilt)
        with contextlib.suppress(DataError):
            assert read_uint8_array(path, "part_mask").dtype == np.uint8
