"""Pages in a headless Chromium: their document, their picture, and what they asked the network for."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--force-device-scale-factor=1",
)


@dataclass(frozen=True)
class Visit:
    """What a page did: its document or its picture (H, W, 3), console lines, and addresses it fetched."""

    dom: str
    picture: NDArray[np.uint8] | None
    console: list[str]
    fetched: list[str]


def visit(
    url: str,
    folder: Path,
    *,
    size: tuple[int, int] = (1280, 900),
    picture: bool = False,
    dark: bool = False,
) -> Visit:
    """Open a page; the test is skipped where there is no Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium to open pages with")
    shot, network = folder / "shot.png", folder / "network.json"
    command = [program, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}"]
    command += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--virtual-time-budget=5000",
        "--enable-logging=stderr",
        "--v=0",
        f"--log-net-log={network}",
    ]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    command += [f"--screenshot={shot}" if picture else "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = json.loads(network.read_text())
    start = events["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [
        event["params"] for event in events["events"] if event["type"] == start and "url" in event.get("params", {})
    ]
    return Visit(
        dom=done.stdout,
        picture=np.asarray(Image.open(shot).convert("RGB")) if picture else None,
        console=[line for line in done.stderr.splitlines() if "CONSOLE" in line],
        # Chromium asks for things of its own, which no page began.
        fetched=[request["url"] for request in asked if request["initiator"] != "not an origin"],
    )
