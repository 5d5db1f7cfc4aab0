import re
import shlex
from importlib.metadata import version

import pytest
import typer
from fresh import run_fresh
from typer.testing import CliRunner

from attnrec.cli.app import app

ROOT = typer.main.get_command(app)
COMMANDS = sorted(ROOT.commands)
HEAVY = {"torch", "torchvision", "h5py", "sklearn", "scipy", "rich", "numpy", "PIL", "safetensors"}


def test_help_loads_nothing_heavy():
    text, loaded = run_fresh([["--help"], ["-h"], ["--version"], *([name, "--help"] for name in COMMANDS)])
    assert text.count("Usage: ") == 2 + len(COMMANDS)
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("attnrec ", set(COMMANDS)),
        ("attnrec tr", {"train"}),
        ("attnrec train --lam", {"--lambda"}),
        ("attnrec train --model ", {"attention", "avg-pool", "max-pool", "avg-max-pool", "softmax"}),
    ],
)
def test_completion_in_bash_loads_nothing_heavy(words, expected):
    environment = {
        "_ATTNREC_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    text, loaded = run_fresh([[]], **environment)
    assert set(text.split()) == expected
    assert not loaded & HEAVY


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_in_other_shells_loads_nothing_heavy(shell):
    environment = {
        "_ATTNREC_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "attnrec ev",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    text, loaded = run_fresh([[]], **environment)
    assert "evaluate" in text
    assert "train" not in text
    assert not loaded & (HEAVY - {"rich"})  # typer itself renders the help texts that these shells show with rich


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, version("attnrec") + "\n")


def test_the_commands_are_those_of_the_tour():
    tour = {"extract", "train", "evaluate", "visualize", "compare"}
    assert set(COMMANDS) == tour | {"predict", "export", "info", "demo", "guide"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options_and_examples(name):
    options = {option for parameter in ROOT.commands[name].params for option in parameter.opts}
    assert {"--json", "--quiet", "-q"} <= options
    text = CliRunner().invoke(app, [name, "--help"]).stdout
    assert re.search(rf"\n\s*Examples:\n\s*attnrec {name}", text)
    assert "--json" in text


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"info", "guide", "export"}))
def test_device_and_jobs_are_options_wherever_something_is_computed(name):
    options = {option for parameter in ROOT.commands[name].params for option in parameter.opts}
    assert {"--device", "--jobs"} <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_parse(name):
    lines = [line.strip() for line in ROOT.commands[name].epilog.splitlines() if line.strip().startswith("attnrec ")]
    assert lines
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        assert words[:2] == ["attnrec", name]
        context = ROOT.commands[name].make_context(name, words[2:])
        assert not context.args


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_has_a_help_text(name):
    assert all(parameter.help for parameter in ROOT.commands[name].params if parameter.name != "help")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tarin"],
        ["train", "--lamda", "1"],
        ["train", "--lambda", "much"],
        ["train", "--lambda", "-1"],
        ["train", "--model", "transformer"],
        ["train", "--epochs", "0"],
        ["extract"],
        ["extract", "videos"],
        ["extract", "videos", "out.h5", "--resize", "squeeze"],
        ["visualize"],
        ["visualize", "clip.mp4", "--fps", "six"],
        ["predict"],
        ["extract", "videos", "out.h5", "--fps", "fast"],
        ["evaluate", "--reduce", "max"],
        ["evaluate", "--part", "tset"],
        ["evaluate", "--jobs", "0"],
        ["info", "a", "b"],
        ["info", "a", "--backbones"],
        ["guide", "dance"],
    ],
)
def test_wrong_usage_exits_with_two(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
    assert list(tmp_path.iterdir()) == []
