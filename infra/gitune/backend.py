"""Where the engine keeps its state, and reading it without the engine where that is possible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitune.project import Project
from gitune.root import PROJECT_FILE
from gitune.state import FileState
from gitune.yaml_source import parse_yaml


def project_settings(root: Path) -> Mapping[str, Any]:
    """Pulumi.yaml."""
    data = parse_yaml((root / PROJECT_FILE).read_bytes(), PROJECT_FILE).data
    return data if isinstance(data, dict) else {}


def backend_url(root: Path) -> str:
    """The backend's address: PULUMI_BACKEND_URL, else Pulumi.yaml. A relative folder is made absolute, because the
    engine takes it from the folder that it is called in. Empty: whatever `pulumi login` chose."""
    declared: str = (project_settings(root).get("backend") or {}).get("url", "")
    url = os.environ.get("PULUMI_BACKEND_URL") or declared
    return f"file://{root / url.removeprefix('file://')}" if url.startswith("file://.") else url


def file_state(project: Project) -> FileState | None:
    """The state's files; None when the backend is not a local folder."""
    name = str(project_settings(project.root).get("name", ""))
    return FileState.at(backend_url(project.root), project.root, name, project.stack.name)


def recorded_deployment(project: Project) -> Mapping[str, Any]:
    """What the engine recorded last; empty before its first pass. Raises EngineError."""
    files = file_state(project)
    if files is not None:
        return files.deployment()
    from gitune.stack import PulumiStack  # imports pulumi: half a second

    return PulumiStack.open(project).recorded()
