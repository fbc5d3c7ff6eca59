"""The command by which the engine runs Python.

Before each pass the engine's language host asks `python -m pip list -v --format json` which packages bring a plugin.
pip takes half a second for the answer, and virtual environments of uv have none. packages.py gives the same answer from
the same metadata, so the command is the interpreter itself but for this one question.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from gitune.engine.cache import cache_folder
from gitune.files import write_atomic

_PACKAGES = Path(__file__).with_name("packages.py")
_SCRIPT = """#!/bin/sh
# written by gitune for {python}
[ "$*" = "-m pip list -v --format json" ] && exec {python} -I {packages}
exec {python} "$@"
"""


def python_command(python: Path) -> Path:
    """The command for this interpreter, in gitune's folder of the user's cache."""
    script = _SCRIPT.format(python=shlex.quote(str(python)), packages=shlex.quote(str(_PACKAGES)))
    command = cache_folder() / "python" / hashlib.sha256(script.encode()).hexdigest()[:16]
    if not command.exists():
        write_atomic(command, script, mode=0o755)
    return command
