"""Reads the weights of Caffe's GoogLeNet from a .caffemodel without Caffe: a protocol buffer whose blobs are read.

Field numbers are those of caffe.proto: NetParameter.layer = 100 and, in older files, layers = 2.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attnrec.errors import WeightsError
from attnrec.features.caffe_googlenet import CaffeGoogLeNet
from attnrec.files import read_regular, reason_of

_MAX_BYTES = 1 << 28
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAYER, _OLD_LAYER = 100, 2
# For each kind of layer field: the fields of the layer's name and of its blobs.
_NAME_AND_BLOBS = {_LAYER: (1, 7), _OLD_LAYER: (4, 6)}
_DATA = 5  # field of a blob's floats
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}
_STEM = {
    "conv1/7x7_s2": "conv1.conv",
    "conv2/3x3_reduce": "conv2.conv",
    "conv2/3x3": "conv3.conv",
    "loss3/classifier": "fc",
}


@dataclass(frozen=True)
class ZooWeights:
    """Weights in Caffe's model zoo, with the methods of torchvision's weights used here."""

    url: str  # address of the .caffemodel
    sha1: str  # SHA-1 of the file, as the zoo publishes it

    def __str__(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def get_state_dict(self, *, progress: bool, check_hash: bool) -> dict[str, Tensor]:
        """Load the weights by torchvision's names, downloaded once into torch's cache.

        Raises:
            OSError: The weights cannot be downloaded or stored.
            RuntimeError: The file is not the one that the zoo publishes.
        """
        cached = Path(torch.hub.get_dir()) / "checkpoints" / str(self)
        if not cached.is_file():
            cached.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
                arriving = Path(folder) / cached.name
                torch.hub.download_url_to_file(self.url, str(arriving), progress=progress)
                self._check(arriving)
                arriving.replace(cached)
        elif check_hash:
            self._check(cached)
        with torch.device("meta"):
            network = CaffeGoogLeNet()
        return read_caffemodel(cached, {name: weight.shape for name, weight in network.state_dict().items()})

    def _check(self, path: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha1").hexdigest()
        if found != self.sha1:
            raise RuntimeError(f"{path} has SHA-1 {found}, not {self.sha1}; remove it")


def read_caffemodel(path: Path, shapes: Mapping[str, torch.Size], most_bytes: int = _MAX_BYTES) -> dict[str, Tensor]:
    """Read GoogLeNet's weights by torchvision's names, with the first convolution in RGB order.

    Args:
        path: The file, in Caffe's current or older format.
        shapes: Shapes of the weights to read; everything else in the file is ignored.
        most_bytes: Size of file above which it is refused.

    Raises:
        WeightsError: The file is damaged or too large, or has another number of values than a weight needs.
    """
    state: dict[str, Tensor] = {}
    try:
        for field, layer in _fields(memoryview(read_regular(path, most_bytes))):
            if field in _NAME_AND_BLOBS and isinstance(layer, memoryview):
                state |= _weights_of(layer, *_NAME_AND_BLOBS[field], shapes)
    except (IndexError, ValueError, OSError) as error:
        raise WeightsError(f"--weights {path}: not a .caffemodel of GoogLeNet: {reason_of(error)}") from None
    if (first := state.get("conv1.conv.weight")) is not None:
        state["conv1.conv.weight"] = first.flip(1)  # Caffe takes BGR
    return state


def _weights_of(
    layer: memoryview, name_field: int, blobs_field: int, shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Weight and bias of a layer, as far as they are in `shapes`."""
    fields = [(field, content) for field, content in _fields(layer) if isinstance(content, memoryview)]
    module = _module_name(next((bytes(text).decode() for field, text in fields if field == name_field), ""))
    blobs = [content for field, content in fields if field == blobs_field]
    found = {}
    for kind, blob in zip(("weight", "bias"), blobs, strict=False):
        if (shape := shapes.get(f"{module}.{kind}")) is not None:
            values = _values(blob)
            if len(values) != shape.numel():
                raise ValueError(f"{module}.{kind} has {len(values)} values, not {shape.numel()}")
            found[f"{module}.{kind}"] = torch.from_numpy(values).reshape(shape)
    return found


def _module_name(caffe_name: str) -> str:
    if block := re.fullmatch(r"inception_(\d[a-e])/(\w+)", caffe_name):
        return f"inception{block[1]}.{_BRANCHES.get(block[2], block[2])}.conv"
    return _STEM.get(caffe_name, "")


def _values(blob: memoryview) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """A blob's numbers, packed as Caffe writes them, or one per field."""
    parts = [bytes(content) for field, content in _fields(blob) if field == _DATA and isinstance(content, memoryview)]
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message with their content: a number for a varint, bytes otherwise."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind, content = key & 7, 0
        if kind == _VARINT:
            content, place = _varint(message, place)
            yield key >> 3, content
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if place + size > len(message):
            raise ValueError("it ends too early")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without an end")
