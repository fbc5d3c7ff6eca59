"""Which repository, commit and pull request a command is about: as GitHub Actions says, else as the checkout does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.git import find_commit, remote_url

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_REMOTE = re.compile(r"(?:https?://[^/]+/|ssh://[^/]+/|[^@/]+@[^:/]+:)([\w.-]+/[\w.-]+?)(?:\.git)?/?", re.ASCII)
_NOTHING = "0" * 40
"""What a push event calls the commit before the first."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a command runs. None: nobody says."""

    repository: str
    """As owner/name."""
    api_url: str = "https://api.github.com"
    server_url: str = "https://github.com"
    commit: str | None = None
    """The commit that is checked out."""
    before: str | None = None
    """What the branch was before the push that started this."""
    pull_request: int | None = None
    head: str | None = None
    """The newest commit of the pull request, when this was started."""
    run_url: str | None = None
    """This run's page."""

    @property
    def owner(self) -> str:
        return self.repository.partition("/")[0]

    def file_url(self, file: str) -> str:
        """The page of a file at the commit."""
        return f"{self.server_url}/{self.repository}/blob/{self.commit}/{file}"


def read_context(environment: Mapping[str, str], root: Path) -> Context:
    """From the variables that GitHub sets for every job (docs.github.com: "Variables reference"), and its event file.

    Raises UserError where no repository is named, or the event cannot be read.
    """
    repository = environment.get("GITHUB_REPOSITORY") or _of_remote(remote_url(root, "origin"))
    if repository is None or not _REPOSITORY.fullmatch(repository):
        raise UserError("which repository of GitHub is not known", hint="set GITHUB_REPOSITORY=owner/name")
    context = Context(repository, commit=find_commit(root, "HEAD"))
    if url := environment.get("GITHUB_API_URL"):
        context = replace(context, api_url=url.rstrip("/"))
    if url := environment.get("GITHUB_SERVER_URL"):
        context = replace(context, server_url=url.rstrip("/"))
    if run := environment.get("GITHUB_RUN_ID"):
        context = replace(context, run_url=f"{context.server_url}/{repository}/actions/runs/{run}")
    event = environment.get("GITHUB_EVENT_PATH")
    return replace(context, **_of_event(Path(event))) if event else context


def _of_remote(url: str | None) -> str | None:
    found = _REMOTE.fullmatch(url or "")
    return found[1] if found else None


def _of_event(path: Path) -> dict[str, Any]:
    try:
        event = json.loads(path.read_bytes())
        pull_request = event.get("pull_request") or {}
        before = event.get("before")
        return {
            "before": None if before in (None, _NOTHING) else str(before),
            "pull_request": pull_request.get("number"),
            "head": (pull_request.get("head") or {}).get("sha"),
        }
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not an event of GitHub", hint="unset GITHUB_EVENT_PATH outside of Actions") from error
