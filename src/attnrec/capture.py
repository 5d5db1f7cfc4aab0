"""Work of fixed shape on a CUDA device, launched as one piece: a CUDA graph that is captured at its first use.

Launching hundreds of small kernels one by one takes longer than the kernels themselves, and holds Python's lock.
"""

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

SWITCH = "ATTNREC_CUDA_GRAPHS"
_WARM_UPS = 3  # of the libraries' choices and workspaces, as torch's documentation advises

Function = TypeVar("Function", bound=Callable[..., object])
Outputs = TypeVar("Outputs")
_fuses = False  # whether `fused` compiles; autograd works in a thread of its own, so this is not of a thread


def captures(device: torch.device) -> bool:
    """Whether work on a device is captured: on CUDA, where `SWITCH` is 1 in the environment."""
    return device.type == "cuda" and os.environ.get(SWITCH) == "1"


def fused(function: Function) -> Function:
    """A pure function of tensors, for recorded work compiled by torch to few kernels; elsewhere as it is."""
    if not _fuses:
        return function
    compiled: Function = _compiled(function)
    return compiled


@functools.cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, dynamic=False)


class Captured(Generic[Outputs]):
    """A function without arguments that reads and writes tensors which always lie in the same memory.

    The first call on a device that captures runs the function a few times and records it; every later call replays
    the recording. Elsewhere, and where recording fails, each call is a call of the function.

    Args:
        work: The function. It must neither wait for the device nor depend on values of its tensors.
        device: Device of the tensors.
        generator: Source of randomness that `work` draws from, on that device; its seed may be set before each call.
        plain_calls: Calls before it is recorded, which takes as long as some tens of calls.
    """

    def __init__(
        self,
        work: Callable[[], Outputs],
        device: torch.device,
        generator: torch.Generator | None = None,
        plain_calls: int = 0,
    ) -> None:
        self._work = work
        self._device = device
        self._generator = generator
        self._plain_calls = plain_calls
        self._records = captures(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: Outputs

    def __call__(self) -> Outputs:
        """Do the work. On CUDA its outputs may still be being computed, and the next call overwrites them."""
        self._plain_calls -= 1
        if self._plain_calls < 0:
            self.prepare()
        if self._graph is None:
            return self._work()
        self._graph.replay()
        return self._outputs

    def prepare(self) -> None:
        """Record the work, unless that is done or has failed before; runs it on what its tensors hold now."""
        if not self._records or self._graph is not None:
            return
        for fuses in (True, False):
            try:
                self._record(fuses)
                return
            except Exception as error:  # whatever an old driver, a missing compiler or an operation raises
                what = "unfused CUDA graph" if fuses else "no CUDA graph"
                reason = str(error).partition("\n")[0]
                warnings.warn(f"{what}, so slower: {reason}", stacklevel=2)
        self._records = False

    def _record(self, fuses: bool) -> None:
        global _fuses
        _fuses = fuses
        try:
            self._graph = self._recording()
        finally:
            _fuses = False

    def _recording(self) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
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
        return graph
