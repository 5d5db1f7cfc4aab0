"""The rules of the house: who may import whom, and one owner for each dependency."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import attnrec

ROOT = Path(attnrec.__file__).parent
MODULES = {
    ".".join(["attnrec", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

COMMON = {"errors", "checks", "settings", "specs", "runtime", "files", "metrics"}
# The chain of rooms is the chain of commands: each may import those before it that it names.
MAY_IMPORT = {
    "errors": set(),
    "checks": {"errors"},
    "settings": {"errors", "checks"},
    "specs": {"checks", "settings"},
    "runtime": {"errors"},
    "files": {"errors"},
    "distributed": {"errors"},
    "capture": set(),
    "metrics": {"errors"},
    "video": COMMON,
    "drawing": COMMON | {"video"},
    "datasets": COMMON | {"video"},
    "features": COMMON | {"capture", "distributed", "video", "drawing", "datasets"},
    "models": COMMON | {"capture"},
    "training": COMMON | {"capture", "distributed", "drawing", "datasets", "features", "models"},
    "evaluation": COMMON | {"capture", "video", "drawing", "datasets", "features", "models", "training"},
    "pictures": COMMON | {"video", "drawing", "datasets", "features", "training", "evaluation"},
    "comparison": COMMON
    | {"distributed", "drawing", "datasets", "features", "models", "training", "evaluation", "pictures"},
    "demo": COMMON | {"video", "datasets", "features", "training", "evaluation", "pictures", "comparison"},
    "export": COMMON | {"features", "models", "training"},
    "info": COMMON | {"capture", "video", "datasets", "features", "training"},
    "cli": COMMON
    | {"distributed", "drawing", "datasets", "features", "training", "evaluation", "pictures", "comparison", "demo"}
    | {"export", "info"},
    "__init__": COMMON | {"features", "models", "training", "evaluation", "pictures", "comparison", "export", "cli"},
    "__main__": {"cli"},
}

OWNERS = {
    "onnx": (),  # imported by name, as it may not be installed
    "onnxruntime": (),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "click": (),
    "docutils": ("cli/reference.py", "cli/manpage.py"),
    "markdown_it": ("cli/manpage.py",),
    "h5py": ("features/store.py", "features/pack.py", "features/hdf5.py"),
    "imageio_ffmpeg": ("video/ffmpeg.py",),
    "torchvision": ("features/backbone.py", "features/networks.py"),
    "timm": ("features/timm_networks.py",),
    "sklearn": ("metrics.py", "datasets/splits.py"),
    "scipy": ("evaluation/measures.py", "drawing/light.py"),
    "safetensors": ("training/run.py", "features/weights.py"),
    "PIL": ("drawing/", "pictures/"),
    "jinja2": ("drawing/",),
    "matplotlib": ("drawing/",),
}


def imports(path: Path, *, at_load_only: bool = False) -> Iterator[str]:
    """Absolute names of the modules that a file imports; `at_load_only` leaves out those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _load_time_nodes(tree) if at_load_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else str(node.module)


def _load_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _load_time_nodes(node)


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_the_modules_are_found():
    assert {"attnrec", "attnrec.cli.app", "attnrec.training.train", "attnrec.models"} <= MODULES.keys()
    assert {layer(module) for module in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    here = layer(module)
    above = {
        name for name in imports(MODULES[module])
        if name.split(".")[0] == "attnrec" and layer(name) not in MAY_IMPORT[here] | {here}
    }  # fmt: skip
    assert not above


def test_no_module_imports_itself_through_others():
    graph = {
        module: {name for name in imports(path, at_load_only=True) if name in MODULES}
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("dependency", OWNERS)
def test_every_dependency_has_its_owner(dependency):
    users = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES.values()
        if dependency in {name.split(".")[0] for name in imports(path)}
    }
    owners = OWNERS[dependency]
    assert not {user for user in users if not user.startswith(owners)} if owners else not users
    assert not owners or users or dependency == "matplotlib"


def test_tensors_stay_out_of_settings_figures_and_the_command_line():
    plain = ("errors", "checks", "settings", "specs", "metrics", "cli")
    figures = [f"attnrec.evaluation.{name}" for name in ("intervals", "significance", "measures")]
    for module, path in MODULES.items():
        if layer(module) in plain or module in figures:
            assert "torch" not in {name.split(".")[0] for name in imports(path)}, module


def test_only_the_command_line_prints_or_exits():
    for module, path in MODULES.items():
        if layer(module) == "cli":
            continue
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        assert not called & {"print", "sys.exit", "exit", "quit", "input"}, module


def test_one_place_prints():
    """Where names from files are made safe for a terminal; the program's own errors and its reference aside."""
    for module, path in MODULES.items():
        if layer(module) != "cli" or module.rpartition(".")[2] in ("output", "lines", "app", "reference"):
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        assert not called & {"print", "typer.echo", "sys.stdout.write", "sys.stderr.write"}, module


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_left_undone(module):
    text = MODULES[module].read_text(encoding="utf-8")
    names = {token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == 1}
    assert "NotImplementedError" not in names
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    assert not [comment for comment in comments if any(mark in comment for mark in ("TODO", "FIXME", "XXX", "HACK"))]


def test_every_command_is_one_file_above_and_one_below():
    from attnrec.cli.app import COMMANDS

    below = {module.rpartition(".")[2] for module in MODULES if layer(module) != "cli"}
    for name in COMMANDS.keys() - {"guide"}:  # which only prints what is written
        assert f"attnrec.cli.{name}" in MODULES
        assert name in below


def test_tensors_are_never_unpickled():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("pickle.load", "pickle.loads"), module
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if called == "torch.load":
                    assert given.get("weights_only") == "True", module
                if called == "np.load":
                    assert given.get("allow_pickle") == "False", module
