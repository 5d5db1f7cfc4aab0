"""Writes what benchmarks and experiments found into README and the guide, between markers."""

from collections.abc import Sequence
from pathlib import Path

import torch

from attnrec.files import write_text
from attnrec.runtime import default_jobs, processor

TOP = Path(__file__).resolve().parents[2]
README = TOP / "README.md"
SPEED = TOP / "src/attnrec/guide/speed.md"


def between(text: str, mark: str, body: str) -> str:
    """A Markdown text with what stands between the two markers of a name replaced."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed) or begin in rest:
        raise SystemExit(f"the file to write needs one {begin} and behind it one {end}")
    return f"{head}{begin}\n{body.strip()}\n{end}{tail}"


def write_between(path: Path, mark: str, body: str) -> None:
    """Replace what stands between the markers of a file."""
    write_text(path, between(path.read_text(encoding="utf-8"), mark, body))


def hardware(device: torch.device) -> str:
    """The device that figures were measured on, and the version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()[0]
    return f"{name}, {default_jobs()} cores, torch {torch.__version__}"


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [[f" {cell} " if cell else " " for cell in cells] for cells in (heads, *lines)]
    rows.insert(1, ["---"] * len(heads))
    return "\n".join(f"|{'|'.join(cells)}|" for cells in rows)
