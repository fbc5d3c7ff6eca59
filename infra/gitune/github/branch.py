"""A branch of ours: one commit on top of main, made by GitHub's API, so that no key of git's is needed.

A commit that an App or Actions makes this way is signed by GitHub (docs.github.com: "Signature verification for bots").
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from github import GithubException, InputGitTreeElement
from github.GitCommit import GitCommit
from github.GitRef import GitRef

from gitune.github.client import Client, eventually
from gitune.hashing import canonical_json, sha256

Put = Literal["created", "updated", "unchanged", "theirs"]
_TRAILER = "Gitune-Content"


@dataclass(frozen=True, slots=True)
class Change:
    """What a branch makes of files of main."""

    branch: str
    message: str
    files: Mapping[str, str | None]
    """By path below the repository; None: deleted."""

    @property
    def content(self) -> str:
        """Hex SHA-256 of what it does."""
        return sha256([canonical_json(dict(self.files))])


def put_branch(client: Client, base: str, change: Change) -> Put:
    """Have the branch hold exactly this change on top of the commit `base`.

    A branch whose newest commit is not of ours is left alone: somebody works there. One that does the same already
    stays as it is, so that reviews of it stand.
    """
    ref = find_ref(client, change.branch)
    if ref is not None:
        made = _content_of(client.repository.get_git_commit(ref.object.sha))
        if made is None:
            return "theirs"
        if made == change.content:
            return "unchanged"
    commit = _commit(client, base, change)
    if ref is None:
        eventually(lambda: client.repository.create_git_ref(f"refs/heads/{change.branch}", commit.sha))
        return "created"
    eventually(lambda: ref.edit(commit.sha, force=True))
    return "updated"


def delete_branches(client: Client, prefix: str, keep: Collection[str]) -> None:
    """Delete the branches of ours that begin so, whose newest commit is ours, those excepted."""
    for ref in client.repository.get_git_matching_refs(f"heads/{prefix}"):
        branch = ref.ref.removeprefix("refs/heads/")
        if branch not in keep and _content_of(client.repository.get_git_commit(ref.object.sha)) is not None:
            ref.delete()


def find_ref(client: Client, branch: str) -> GitRef | None:
    """None where there is no such branch."""
    try:
        ref = client.repository.get_git_ref(f"heads/{branch}")
        return ref if ref.object.sha else None  # lazy: asked here
    except GithubException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _commit(client: Client, base: str, change: Change) -> GitCommit:
    repository = client.repository
    parent = repository.get_git_commit(base)
    elements = [
        InputGitTreeElement(path, "100644", "blob", content=text)
        if text is not None
        else InputGitTreeElement(path, "100644", "blob", sha=None)
        for path, text in change.files.items()
    ]
    tree = repository.create_git_tree(elements, base_tree=parent.tree)
    message = f"{change.message}\n\n{_TRAILER}: {change.content}\n"
    return eventually(lambda: repository.create_git_commit(message, tree, [parent]))


def _content_of(commit: GitCommit) -> str | None:
    found = re.search(rf"^{_TRAILER}: ([0-9a-f]{{64}})$", commit.message, re.MULTILINE)
    return found[1] if found else None
