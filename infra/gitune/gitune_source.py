"""Where gitune itself comes from: the repository and commit that a team's workflows call and its machines install."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata

from gitune import __version__
from gitune.errors import UserError
from gitune.git import remote_commit

_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GITHUB = re.compile(r"(?:https://|ssh://git@|git@)github\.com[/:](?P<name>[^/]+/[^/]+?)(?:\.git)?/?")


@dataclass(frozen=True, slots=True)
class GituneSource:
    """A commit of gitune on GitHub."""

    repository: str
    """owner/name"""
    commit: str
    ref: str = ""
    """The tag or branch that named it; empty where the commit itself was given."""

    @property
    def comment(self) -> str:
        """What stands behind the pinned commit, so that people can read it."""
        return f" # {self.ref}" if self.ref else ""


def installed_source() -> GituneSource | None:
    """The commit that pip installed this gitune from; None where it came as a wheel or from a folder.

    PEP 610: direct_url.json says so beside the installed package.
    """
    try:
        said = json.loads(metadata.distribution("gitune").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, json.JSONDecodeError):
        return None
    found = _GITHUB.fullmatch(str(said.get("url", "")))
    commit = str(said.get("vcs_info", {}).get("commit_id", ""))
    return GituneSource(found["name"], commit) if found and _COMMIT.fullmatch(commit) else None


def find_source(repository: str | None, ref: str | None, written: GituneSource | None = None) -> GituneSource | None:
    """The named repository at the named tag, branch or commit; what is left out is as it is `written` in the workflows
    that are there, else as it was installed. None where nothing is known.

    Asks GitHub for the commit of a tag or branch. Raises UserError.
    """
    known = written or installed_source()
    if repository is None:
        if known is None or ref is None:
            return known
        repository = known.repository
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"'{repository}' is not a repository on GitHub", hint="write it as owner/name")
    if ref is None and known is not None and known.repository == repository:
        return known
    ref = ref or f"v{__version__}"
    if _COMMIT.fullmatch(ref):
        return GituneSource(repository, ref)
    return GituneSource(repository, _commit_of(repository, ref), ref)


def _commit_of(repository: str, ref: str) -> str:
    hint = "--gitune-ref takes a tag, a branch, or a commit of 40 hexadecimal digits, of which nothing is asked"
    try:
        commit = remote_commit(f"https://github.com/{repository}", ref)
    except UserError as error:
        raise UserError(f"cannot ask {repository} for '{ref}': {error.message}", hint=hint) from error
    if commit is None:
        raise UserError(f"{repository} has no tag or branch '{ref}'", hint=hint)
    return commit
