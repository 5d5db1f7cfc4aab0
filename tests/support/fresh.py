"""The program in a fresh interpreter, and what it loads there."""

import os
import subprocess
import sys

# Runs the program in one fresh interpreter, and says what it had loaded at the end.
SCRIPT = """
import sys
from attnrec.cli.app import main
for arguments in {runs!r}:
    sys.argv = ["attnrec", *arguments]
    try:
        main()
    except SystemExit as end:
        assert end.code in ({code}, None), (arguments, end.code)
print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def run_fresh(runs: list[list[str]], code: int = 0, **environment: str) -> tuple[str, set[str]]:
    """Output of the program after command lines that end with a code, and the modules that it had loaded by then."""
    env = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"} | environment
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(runs=runs, code=code)], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    text, _, loaded = done.stdout.rpartition("LOADED")
    return text, set(loaded.split())
