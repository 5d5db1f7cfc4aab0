import json
import os
import shutil
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from attnrec.comparison.compare import compare
from attnrec.errors import RunError
from attnrec.evaluation.evaluate import evaluate
from attnrec.info import describe
from attnrec.training.run import Run, find_runs, newest_run


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    """A folder with a good run, and one that is to be spoilt and would be the newest."""
    folder = tmp_path / "runs"
    for name, finished_at in (("good", "2026-01-01T00:00:00+00:00"), ("spoilt", "2030-01-01T00:00:00+00:00")):
        shutil.copytree(trained, folder / name)
        Run(folder / name).update(finished_at=finished_at)
        evaluate(folder / name)
    return folder


@pytest.fixture
def spoil(runs) -> Iterator[Callable[[Callable[[Path], None]], None]]:
    """Spoil the newer run; what hangs from then on fails. Making the file itself may take a while."""

    def fail(*_: object) -> None:
        raise AssertionError("hangs")

    def start(make: Callable[[Path], None]) -> None:
        make(runs / "spoilt")
        signal.alarm(30)

    signal.signal(signal.SIGALRM, fail)
    yield start
    signal.alarm(0)


def edited(**changes: object) -> Callable[[Path], None]:
    """Change fields of `config.json`, those of inner objects by `outer__inner`."""

    def edit(run: Path) -> None:
        document = json.loads((run / "config.json").read_text())
        for name, value in changes.items():
            outer, _, inner = name.partition("__")
            document[outer] = document[outer] | {inner: value} if inner else value
        (run / "config.json").write_text(json.dumps(document))

    return edit


def replaced(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda run: (run / name).write_bytes(data) and None


def fifo(name: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return make


def endless(name: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to("/dev/zero")

    return make


def tensors(size: int, held: int) -> Callable[[Path], None]:
    """A file that says to hold a tensor of `size` bytes, and holds `held`, none of which takes room on the disk."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()

    def make(run: Path) -> None:
        with (run / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + held)

    return make


def not_a_number(run: Path) -> None:
    state = load_file(run / "model.safetensors")
    name = sorted(state)[0]
    state[name] = np.full_like(state[name], np.nan)
    save_file(state, run / "model.safetensors")


def arrays(shape: tuple[int, ...], held: int, compression: int) -> Callable[[Path], None]:
    """Predictions whose columns say to be of a shape, and hold so many bytes, all zero."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

    def make(run: Path) -> None:
        with zipfile.ZipFile(run / "predictions-test.npz", "w", compression, compresslevel=1) as archive:
            for name in ("video_path", "video_group", "video_label", "video_probs"):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    file.write(header)
                    for _ in range(held // 2**20):
                        file.write(bytes(2**20))

    return make


CONFIGS = {
    "finished_at is a number": (edited(finished_at=7), "RunManifest: finished_at cannot be 7"),
    "finished_at is no time": (edited(finished_at="zzz"), "Invalid isoformat string"),
    "nested deeper than any parser goes": (replaced("config.json", "[" * 100_000), "recursion"),
    "nested deep": (edited(machine={"x": json.loads("[" * 500 + "]" * 500)}), "nested deeper than 16"),
    "huge": (replaced("config.json", "[" + "[]," * 10**7 + "[]]"), "larger than 8 MB"),
    "a FIFO": (fifo("config.json"), "not a regular file"),
    "a device": (endless("config.json"), "not a regular file"),
    "a number of 5000 digits": (edited(format="attnrec-run", version=1, feature_scale=10**400), "feature_scale cannot"),
    "a model of terabytes": (edited(model__hidden_dim=10**6), "hidden_dim must be from 1 to 16384"),
    "a model without end": (edited(model__num_layers=10**9), "num_layers must be from 1 to 32"),
    "other classes": (edited(classes=["a"]), "of other sizes"),
    "classes that are no names": (edited(classes=[1, 2, 3]), "classes cannot be 1"),
    "a store that is no record": (edited(store="x.h5"), "store cannot be 'x.h5'"),
    "a split without a hash": (edited(split={"name": "default"}), "split: leaking_groups is missing"),
    "a result of other types": (edited(result={"seconds": "long"}), "seconds cannot be 'long'"),
    "settings of other types": (edited(training__batch_size="16"), "batch_size cannot be '16'"),
    "given settings of other types": (edited(given={"fps": []}), "fps cannot be a list"),
    "a machine of other types": (edited(machine={"resumed_on": 7}), "resumed_on cannot be 7"),
    "not an object": (edited(model=[]), "model cannot be a list"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_cannot_be_is_named_and_left_out(runs, spoil, kind):
    make, message = CONFIGS[kind]
    spoil(make)
    for use in (Run, evaluate, describe, lambda path: compare([path])):
        with pytest.raises(RunError, match=message) as caught:
            use(runs / "spoilt")
        assert str(caught.value).startswith(f"{runs}/spoilt/config.json: cannot be ")
        assert len(str(caught.value).splitlines()) == 1
    said: list[str | None] = []
    (found,) = find_runs(runs, on_progress=lambda event: said.append(event.message))
    assert found.name == newest_run(runs).name == "good"
    (line,) = said
    assert line == f"left out: {caught.value}"
    (table,) = compare(runs_dir=runs).tables
    assert [run.run for row in table.rows for run in row.runs] == ["good"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fifo("model.safetensors"), "not a regular file"),
        (endless("model.safetensors"), "not a regular file"),
        (tensors(4 * 10**12, 0), "cannot be read"),
        (tensors(2**33, 2**33), r"holds 8589\.9 MB where the network has"),
        (not_a_number, "holds NaN or infinity; train again"),
        (replaced("model.safetensors", b""), "cannot be read"),
    ],
)
def test_weights_that_cannot_be_are_passed_over_for_the_next_run(runs, spoil, make, message):
    spoil(make)
    with pytest.raises(RunError, match=rf"spoilt/model\.safetensors: .*{message}"):
        evaluate(runs / "spoilt")
    said: list[str | None] = []
    assert newest_run(runs, on_progress=lambda event: said.append(event.message)).name == "good"
    (line,) = said
    assert line is not None
    assert line.startswith(f"left out: {runs}/spoilt/model.safetensors: ")


FIGURES = {
    "a log that is a FIFO": fifo("training.jsonl"),
    "a log without end": endless("training.jsonl"),
    "a log of other types": replaced("training.jsonl", '[]\n{"kind": "epoch"}\n'),
    "an epoch without a speed": replaced("training.jsonl", '{"kind": "epoch"}\n'),
    "figures that are a FIFO": fifo("evaluation-test.json"),
    "figures of other types": replaced("evaluation-test.json", '{"accuracy": "high"}'),
    "predictions that are a FIFO": fifo("predictions-test.npz"),
    "predictions of terabytes": arrays((10**12, 3), 0, zipfile.ZIP_STORED),
    "predictions that unpack to gigabytes": arrays((2**29,), 2**29, zipfile.ZIP_DEFLATED),
    "predictions that are no archive": replaced("predictions-test.npz", "PK"),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_that_cannot_be_are_named_and_left_out_of_the_table(runs, spoil, kind):
    spoil(FIGURES[kind])
    with pytest.raises(RunError, match=r"spoilt/.*: cannot be read"):
        compare([runs / "good", runs / "spoilt"])
    said: list[str] = []
    (table,) = compare(runs_dir=runs, on_progress=lambda event: said.append(event.message or "")).tables
    assert [run.run for row in table.rows for run in row.runs] == ["good"]
    assert table.rows[0].figure is not None
    (line,) = (line for line in said if line.startswith("left out: "))
    assert f"{runs}/spoilt/" in line


def test_a_log_that_is_a_fifo_is_not_written_to(runs, spoil):
    spoil(fifo("training.jsonl"))
    with pytest.raises(Exception, match=r"training\.jsonl: cannot be written"):
        Run(runs / "spoilt").log({"loss": 1.0})
