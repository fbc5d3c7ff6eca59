"""Pull requests of ours: one for each branch, updated in place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from github.PullRequest import PullRequest

from gitune.github.client import Client, eventually


@dataclass(frozen=True, slots=True)
class Text:
    """What a pull request says. The body's first line is its marker."""

    title: str
    body: str


def put_pull_request(
    client: Client, base: str, branch: str, text: Text
) -> tuple[Literal["created", "updated", "unchanged"], PullRequest]:
    """Open the branch's pull request, or have the open one say this. One that a person opened keeps its words."""
    opened = find_open(client, base, branch)
    if opened is None:
        made = eventually(lambda: client.repository.create_pull(base, branch, title=text.title, body=text.body))
        return "created", made
    if not is_ours(opened) or _says(opened, text):
        return "unchanged", opened
    opened.edit(title=text.title, body=text.body)
    return "updated", opened


def find_open(client: Client, base: str, branch: str) -> PullRequest | None:
    """The open pull request from this branch, of this repository and not of a fork's branch with the same name."""
    head = f"{client.context.owner}:{branch}"
    found = client.repository.get_pulls(state="open", base=base, head=head)
    return next((one for one in found if _is_here(client, one)), None)


def open_from(client: Client, base: str, prefix: str) -> Iterator[PullRequest]:
    """Those from branches of this repository that begin so, whoever opened them, all pages."""
    for one in client.repository.get_pulls(state="open", base=base):
        if one.head.ref.startswith(prefix) and _is_here(client, one):
            yield one


def is_ours(pull_request: PullRequest) -> bool:
    """Whether gitune opened it, by whichever token: of a branch of this repository, its marker says so."""
    return re.match(r"<!-- gitune:[a-z]+(:.*)? -->", pull_request.body or "") is not None


def declined(client: Client, base: str, branch: str, first_line: str) -> PullRequest | None:
    """The pull request with this marker that somebody closed without merging it: their word stands."""
    head = f"{client.context.owner}:{branch}"
    for one in client.repository.get_pulls(state="closed", base=base, head=head, sort="created", direction="desc"):
        if (
            one.merged_at is None
            and _is_here(client, one)
            and (one.body or "").partition("\n")[0].rstrip() == first_line
        ):
            return one
    return None


def close(pull_request: PullRequest, reason: str) -> None:
    """Close one of ours that is overtaken, so that it does not count as declined."""
    pull_request.create_issue_comment(f"Closed: {reason}.")
    body = (pull_request.body or "").replace("<!-- gitune:lock:", "<!-- gitune:overtaken:", 1)
    pull_request.edit(body=body, state="closed")


def _is_here(client: Client, pull_request: PullRequest) -> bool:
    """Whether its branch is of this repository: a fork within the organisation has the same owner."""
    return getattr(pull_request.head.repo, "full_name", None) == client.context.repository  # None: it is deleted


def _says(opened: PullRequest, text: Text) -> bool:
    """GitHub may keep other line ends, and none at the end."""
    body = (opened.body or "").replace("\r\n", "\n").rstrip()
    return opened.title == text.title and body == text.body.rstrip()
