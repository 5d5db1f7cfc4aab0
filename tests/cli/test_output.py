import dataclasses
import json
import os
import re
import subprocess
import sys
import time

import pytest
from small_store import write_store

from attnrec.cli import lines as module
from attnrec.cli.lines import Lines, printable
from attnrec.cli.output import Output, size, table
from attnrec.runtime import Progress, duration, percent


def strict(text: str) -> object:
    """One JSON document, without the constants that are no JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clip one.mp4", "clip one.mp4"),
        ("épée 動画", "épée 動画"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bad\udcff", "bad\\udcff"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("", ""),
    ],
)
def test_printable_keeps_text_and_writes_out_the_rest(text, expected):
    assert printable(text) == expected
    assert printable(text).isprintable()
    printable(text).encode("utf-8")


@dataclasses.dataclass(frozen=True)
class Report:
    value: float
    items: list[tuple[str, float]]


def test_json_is_one_strict_document_on_stdout(capsys):
    report = Report(float("nan"), [("a\udcff", float("inf")), ("b", 0.1)])
    Output(json=True, quiet=False).result(report, lambda: print("not shown"))
    captured = capsys.readouterr()
    assert strict(captured.out) == {"value": None, "items": [["a\udcff", None], ["b", 0.1]]}
    assert captured.err == ""


def test_json_numbers_keep_every_digit(capsys):
    Output(json=True, quiet=False).result({"value": 0.1 + 0.2}, lambda: None)
    assert strict(capsys.readouterr().out) == {"value": 0.1 + 0.2}


def test_without_json_the_result_is_shown(capsys):
    Output(json=False, quiet=False).result(Report(1.0, []), lambda: print("shown"))
    assert capsys.readouterr().out == "shown\n"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with Output(json=False, quiet=False) as output:
        for second in range(13):
            clock[0] = 100.0 + second
            output.progress(Progress("extract", second, 25, f"clip\n{second}"))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "extract 5/25, 20.0 s left, clip\\n5",
        "extract 10/25, 15.0 s left, clip\\n10",
    ]
    assert captured.out == ""


def test_a_stage_that_begins_anew_is_timed_anew(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with Output(json=False, quiet=False) as output:
        for now, done in ((100, 90), (104, 0), (106, 1)):
            clock[0] = now
            output.progress(Progress("train", done, 100))
    assert capsys.readouterr().err == "train 1/100, 3.3 min left\n"


def test_work_that_reports_nothing_is_not_silent(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_SECONDS", 0.2)
    with Output(json=False, quiet=False) as output:
        output.begin("loading torch")
        deadline = time.monotonic() + 10
        seen = ""
        while seen.count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
            seen += capsys.readouterr().err
    first, second = seen.splitlines()[:2]
    assert re.fullmatch(r"start, loading torch, 0\.\d s", first)
    assert first < second


def test_nothing_is_printed_after_the_work(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_SECONDS", 0.05)
    lines = Lines()
    lines.show(Progress("extract", 1, 2))
    lines.stop()
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_messages_are_lines_on_stderr(capsys):
    output = Output(json=True, quiet=False)
    output.progress(Progress("extract", message="skipped a\nb"))
    output.note("next")
    captured = capsys.readouterr()
    assert captured.err == "skipped a\\nb\nnext\n"
    assert captured.out == ""


def test_quiet_silences_progress_and_notes_but_not_warnings(capsys, monkeypatch):
    output = Output(json=False, quiet=True)
    monkeypatch.setattr(module, "LINE_SECONDS", -1.0)
    output.progress(Progress("extract", 1, 2, message="skipped a"))
    output.note("next")
    assert capsys.readouterr().err == ""
    output.warn("a\x1b")
    assert capsys.readouterr().err == "warning: a\\x1b\n"


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Output(json=True, quiet=False) as output:
        output.progress(Progress("extract", 1, 4, "a [b]"))
        output.progress(Progress("extract", 4, 4, "c", message="half\nway"))
        output.result({"done": True}, lambda: None)
    captured = capsys.readouterr()
    assert strict(captured.out) == {"done": True}
    assert "4/4" in captured.err
    assert "half\\nway" in captured.err


def test_a_bar_ends_with_the_work_even_when_it_fails(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output = Output(json=True, quiet=False)

    def fail() -> None:
        with output:
            output.progress(Progress("extract", 1, 4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    shows_the_cursor = "\x1b[?25h"
    assert capsys.readouterr().err.rstrip("\n").endswith(shows_the_cursor)


def test_a_stage_of_unknown_length_goes_when_the_next_begins(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with Output(json=True, quiet=False) as output:
        output.begin("loading torch")
        output.progress(Progress("train", 3, 4, "loss 0.5, " + "x" * 100))
    *_, last = (line for line in capsys.readouterr().err.splitlines() if "━" in line)
    assert "train" in last
    assert "3/4" in last
    assert "start" not in last


def test_a_table_is_not_cut_where_stdout_is_no_terminal(capsys):
    table("A [title]", ["clip", "accuracy %"], [["x" * 120, "50.0"], ["[red]y[/red]\n", "7.5"]])
    text = capsys.readouterr().out
    assert "x" * 120 in text
    assert "[red]y[/red]\\n" in text
    assert "A [title]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.0, "0.0"), (0.12345, "12.3"), (1.0, "100.0")])
def test_percent(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (89.0, "89.0 s"), (90, "1.5 min"), (5400, "1.5 h")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_size(num_bytes, text):
    assert size(num_bytes) == text


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_what_a_terminal_cannot_show_is_an_escape(tmp_path, encoding):
    write_store(tmp_path / "имя.h5", classes=("прыжок", "дождь"))
    environment = os.environ | {"PYTHONIOENCODING": encoding}

    def info(name: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "attnrec", "info", name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        return done.stdout.decode(encoding), done.stderr.decode(encoding)

    as_is = encoding == "utf-8"
    assert ("прыжок" if as_is else r"\u043f\u0440\u044b\u0436\u043e\u043a") in info("имя.h5")[0]
    assert ("имя" if as_is else r"\u0438\u043c\u044f") in info("имя")[1]


def test_tables_are_even_where_names_are_escapes():
    script = "from attnrec.cli.output import table; table('', ['class', 'n'], [['прыжок', '1'], ['run', '22']])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    first, second = (line for line in done.stdout.splitlines() if "1" in line or "22" in line)
    assert first.replace("|", " ").split() == ["\\u043f\\u0440\\u044b\\u0436\\u043e\\u043a", "1"]
    assert len(first) == len(second)
