"""Reads uint8 arrays from untrusted MATLAB files (version 5 to 7).

scipy's reader crashes on some damaged files; this one reads a single kind of array and trusts no size in the file.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.errors import DataError
from attnrec.files import read_regular, reason_of

MOST_BYTES = 2**26  # largest file, and largest array
_HEADER_BYTES, _TAG_BYTES = 128, 8
_MOST_VARIABLES = 1000  # most variables of a file that are looked at
_HEAD_BYTES = 1024  # beginning of a variable that holds its name and shape
_UINT8, _INT32, _MATRIX, _COMPRESSED = 2, 5, 14, 15  # types of elements
_UINT8_CLASS = 9  # class of uint8 arrays


def read_uint8_array(path: Path, name: str) -> NDArray[np.uint8]:
    """Read an array of unsigned 8-bit integers from a file that MATLAB saved.

    Args:
        path: The file.
        name: Name of the variable.

    Returns:
        The array in its stored shape; MATLAB drops trailing axes of length one.

    Raises:
        DataError: The file cannot be read, is of another version, or holds no such array.
    """
    try:
        data = read_regular(path, MOST_BYTES)
        order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
        if order is None or struct.unpack_from(f"{order}H", data, 124)[0] >> 8 != 1:
            raise ValueError("not a file of MATLAB 5 to 7; save it with -v7")
        for kind, start, stop in itertools.islice(_elements(data, _HEADER_BYTES, order), _MOST_VARIABLES):
            variable = data[start:stop]
            if kind == _COMPRESSED:
                _, start, _ = _first(_elements(_inflated(variable, _TAG_BYTES), 0, order, cut=True))
                head = _inflated(variable, _HEAD_BYTES)[start:]
            elif kind == _MATRIX:
                head = variable[:_HEAD_BYTES]
            else:
                continue
            claim = _Claim(head, order)
            if claim.name == name:
                claim.check()
                content = _inflated(variable, _HEAD_BYTES + claim.size)[start:] if kind == _COMPRESSED else variable
                return claim.array(content)
        raise ValueError(f"no {name} in it")
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: no usable {name} ({reason_of(error)})") from None


def _inflated(data: bytes, most: int) -> bytes:
    return zlib.decompressobj().decompress(data, most)


Element = tuple[int, int, int]  # type, start and stop


def _first(elements: Iterator[Element]) -> Element:
    found = next(elements, None)
    if found is None:
        raise ValueError("it ends too early")
    return found


def _elements(data: bytes, at: int, order: str, *, cut: bool = False) -> Iterator[Element]:
    """The elements of a file or a variable.

    Raises:
        ValueError: An element extends beyond the data, unless the data is `cut` off on purpose.
    """
    while at + _TAG_BYTES <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # short ones are within their tag
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 0
            if size > 4:
                raise ValueError("an element of impossible size")
        else:
            start, step = at + _TAG_BYTES, size if kind == _COMPRESSED else -(-size // 8) * 8
        if start + size > len(data) and not cut:
            raise ValueError("it ends too early")
        yield kind, start, start + size
        at += _TAG_BYTES + step


class _Claim:
    """The name, type and shape that a variable claims in its first bytes."""

    def __init__(self, head: bytes, order: str) -> None:
        elements = _elements(head, 0, order, cut=True)
        _, start, _ = _first(elements)
        (flags,) = struct.unpack_from(f"{order}I", head, start)
        self.is_uint8 = flags & 0xFF == _UINT8_CLASS and not flags & 0x800  # the flag of complex numbers
        kind, start, stop = _first(elements)
        if kind != _INT32 or stop > len(head):
            raise ValueError("a variable without a shape")
        self.shape = struct.unpack_from(f"{order}{(stop - start) // 4}i", head, start)
        _, start, stop = _first(elements)
        self.name = head[start:stop].decode("latin-1")
        self._order = order
        self.size = math.prod(self.shape)

    def check(self) -> None:
        """Raise ValueError for another type than uint8 and for impossible or too large shapes."""
        if not self.is_uint8 or len(self.shape) < 2 or min(self.shape) < 1:
            raise ValueError(f"not uint8, or of impossible shape {self.shape}")
        if self.size > MOST_BYTES:
            raise ValueError(f"shape {self.shape} is larger than {MOST_BYTES} bytes")

    def array(self, content: bytes) -> NDArray[np.uint8]:
        """Read the array from the whole variable."""
        for number, (kind, start, stop) in enumerate(_elements(content, 0, self._order)):
            if number == 3:  # after flags, shape and name
                if kind != _UINT8 or stop - start != self.size:
                    raise ValueError("numbers that do not fit its shape")
                return np.frombuffer(content[start:stop], np.uint8).reshape(self.shape, order="F")
        raise ValueError("it ends too early")
