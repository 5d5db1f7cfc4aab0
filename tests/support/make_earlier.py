"""Make the files in `earlier/`: a feature store and runs of the program as it stands, for the tests of those to come.

Run once, by hand, at the commit whose formats are to be kept, with `src` and `tests` on PYTHONPATH. Everything goes
through the command line; `tests/test_earlier_formats.py` reads what is made.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clips import write_actions

OUT = Path(__file__).resolve().parent / "earlier"
# The first map of MobileNet: the trunk that every run carries is then 5 kB.
TRUNK = ("--backbone", "mobilenet_v3_large", "--layer", "features.1", "--weights", "random", "--grid-size", "4")
PRECISION = ("--precision", "fp32")  # the same on every machine, to rounding
SIZES = (
    "--fps", "4", "--block-frames", "3", "--block-stride", "2", "--hidden", "8", "--batch-size", "2",
    "--learning-rate", "0.05", "--epochs", "8", *PRECISION,
)  # fmt: skip
# Without dropout, so that a resumed run can be held against one that was not stopped, whatever draws the masks.
SALIENCY = ("--layers", "1", "--lambda", "0.1", "--dropout", "0")
AUTHORS = (
    "--attention", "content", "--preset", "authors-code", "--layers", "1", "--init-layers", "2",
    "--scorer-layers", "2", "--scorer-width", "6", "--input-dropout", "0.1", "--optimizer", "sgd", "--last-steps", "2",
)  # fmt: skip
PAPER = ("--attention", "location", "--preset", "paper", "--layers", "1", "--lambda", "1")
POOLED = ("--model", "avg-pool", "--layers", "2", "--split", "cv3-1")
QUIET = ("--device", "cpu", "--jobs", "1", "--quiet")


def attnrec(*arguments: str) -> str:
    command = [sys.executable, "-m", "attnrec", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def train(name: str, *options: str) -> None:
    """Train a run, evaluate it and give it a name."""
    run = json.loads(attnrec("train", "features.h5", *SIZES, *options, *QUIET, "--json"))["run"]
    Path(run).rename(f"runs/{name}")
    faithfulness = ("--faithfulness",) if name == "saliency" else ()
    attnrec("evaluate", "--run", f"runs/{name}", *faithfulness, *QUIET)


def train_and_kill(name: str, *options: str) -> None:
    """Kill a training within an epoch that is not its first."""
    command = [sys.executable, "-m", "attnrec", "train", "features.h5", *SIZES, *options, *QUIET]
    process = subprocess.Popen([*command, "--save-every", "0", "--runs", "killed"])
    while sum(len(log.read_text().splitlines()) for log in Path("killed").glob("*/training.jsonl")) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = Path("killed").iterdir()
    shutil.move(run, f"runs/{name}")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        rows = write_actions(Path("videos"), num_groups=4, num_frames=10, fps=8, width=96, height=72)
        with Path("videos/boxes.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "seconds", "x0", "y0", "x1", "y1"], *rows])
        attnrec("extract", "videos", "features.h5", *TRUNK, *PRECISION, "--fps", "4", *QUIET)
        train("saliency", *SALIENCY)
        train("authors", *AUTHORS)
        train("paper", *PAPER)
        train("pooled", *POOLED)
        train_and_kill("killed", *SALIENCY)
        (clip, *_) = sorted(Path("videos").rglob("*g01_c01.mp4"))
        predicted = attnrec("predict", str(clip), "--run", "runs/saliency", *QUIET, "--json")
        OUT.mkdir()
        (OUT / "prediction.json").write_text(predicted)
        (OUT / "store.json").write_text(attnrec("info", "features.h5", "--json"))
        shutil.copy(clip, OUT / clip.name)
        shutil.copy("features.h5", OUT / "features.hdf5")  # git ignores *.h5, and folders that are called runs
        shutil.copytree("runs", OUT / "trained")


if __name__ == "__main__":
    main()
