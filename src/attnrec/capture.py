"""Work of fixed shape on a CUDA device, launched as one piece: a CUDA graph that is captured at its first use.

Launching hundreds of small kernels one by one takes longer than the kernels themselves, and holds Python's lock.
"""

import os
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

SWITCH = "ATTNREC_CUDA_GRAPHS"
_WARM_UPS = 3  # of the libraries' choices and workspaces, as torch's documentation advises

Outputs = TypeVar("Outputs")


def captures(device: torch.device) -> bool:
    """Whether work on a device is captured: on CUDA, where `SWITCH` is 1 in the environment."""
    return device.type == "cuda" and os.environ.get(SWITCH) == "1"


class Captured(Generic[Outputs]):
    """A function without arguments that reads and writes tensors which always lie in the same memory.

    The first call on a device that captures runs the function a few times and records it; every later call replays
    the recording. Elsewhere, and where recording fails, each call is a call of the function.

    Args:
        work: The function. It must neither wait for the device nor depend on values of its tensors.
        device: Device of the tensors.
        generator: Source of randomness that `work` draws from, on that device; its seed may be set before each call.
    """

    def __init__(
        self, work: Callable[[], Outputs], device: torch.device, generator: torch.Generator | None = None
    ) -> None:
        self._work = work
        self._device = device
        self._generator = generator
        self._records = captures(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: Outputs

    def __call__(self) -> Outputs:
        """Do the work. On CUDA its outputs may still be being computed, and the next call overwrites them."""
        self.prepare()
        if self._graph is None:
            return self._work()
        self._graph.replay()
        return self._outputs

    def prepare(self) -> None:
        """Record the work, unless that is done or has failed before; runs it on what its tensors hold now."""
        if not self._records or self._graph is not None:
            return
        try:
            self._record()
        except Exception as error:  # whatever an old driver or an operation that cannot be recorded raises
            self._records = False
            reason = str(error).partition("\n")[0]
            warnings.warn(f"no CUDA graph, so slower: {reason}", stacklevel=2)

    def _record(self) -> None:
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    self._work()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            if self._generator is not None:
                graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph):
                self._outputs = self._work()
            self._graph = graph
