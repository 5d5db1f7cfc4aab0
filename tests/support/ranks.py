"""Processes that work together as torchrun's do, started at once with everything imported."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["attnrec.training.train"])


def run_ranks(size: int, work: Callable[..., Any], *arguments: Any, **options: Any) -> list[int | None]:
    """Call a function in several processes at once; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        _FORK.Process(target=_as_rank, args=(rank, size, port, work, arguments, options)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def start(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function in another process, which is returned."""
    process = _FORK.Process(target=work, args=arguments, kwargs=options)
    process.start()
    return process


def _as_rank(rank: int, size: int, port: int, work: Callable[..., Any], arguments: tuple, options: dict) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    work(*arguments, **options)
