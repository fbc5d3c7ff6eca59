"""Where a repository begins, and the names that its folders and files give away. Reads no file: completion is fast."""

from __future__ import annotations

import os
from pathlib import Path

from gitune.errors import UserError

PROJECT_FILE = "Pulumi.yaml"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that holds Pulumi.yaml; GITUNE_ROOT overrides. Raises UserError."""
    named = os.environ.get("GITUNE_ROOT")
    here = Path(named) if named else (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise UserError(
        f"no {PROJECT_FILE} in {here} or above it", hint="run gitune inside a repository that gitune init made"
    )


def agent_names(root: Path) -> list[str]:
    """Of all folders that have an agent.yaml, right or wrong."""
    return sorted(path.parent.name for path in root.glob("agents/*/agent.yaml"))


def stack_names(root: Path) -> list[str]:
    """Of all files Pulumi.<stack>.yaml."""
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in root.glob("Pulumi.*.yaml"))
