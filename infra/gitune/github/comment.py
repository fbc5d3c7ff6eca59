"""The plan on its pull request: one comment that is updated in place, and a check beside the commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, get_args

from github import GithubException
from github.Commit import Commit

from gitune.errors import UserError
from gitune.github.client import Client
from gitune.github.marked import ours
from gitune.report.markdown import COMMENT_LIMIT, length

CHECK = "gitune"
"""What a branch protection may require."""
Word = Literal["Safe", "Needs approval", "Blocked"]
_CONCLUSIONS: dict[Word, str] = {"Safe": "success", "Needs approval": "neutral", "Blocked": "failure"}
_STATES: dict[Word, str] = {"Safe": "success", "Needs approval": "success", "Blocked": "failure"}
_TITLE = 140
"""What GitHub takes as the description of a commit status."""


@dataclass(frozen=True, slots=True)
class Comment:
    """The text that `gitune plan --markdown` wrote, taken apart."""

    marker: str
    verdict: Word
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Commented:
    """What was done."""

    comment: Literal["created", "updated", "unchanged", "left alone"]
    url: str | None
    check: str
    """Its conclusion."""
    note: str = ""


def parse_comment(text: str, file: str) -> Comment:
    """Raises UserError for what is no comment of a plan."""
    found = re.match(r"(<!-- gitune:plan:[\w.,-]* -->)\n## ([\w ]+)\n\n([^\n]*)", text)
    if found is None or found[2] not in get_args(Word):
        raise UserError(f"{file}: not a plan's comment", hint=f"gitune plan --markdown {file} writes one")
    if length(text) > COMMENT_LIMIT:
        raise UserError(f"{file}: {length(text):,} characters, more than {COMMENT_LIMIT:,}", hint="write it anew")
    verdict: Word = found[2]  # type: ignore[assignment]
    return Comment(found[1], verdict, _unescaped(found[3]), text)


def put_comment(client: Client, number: int, head: str | None, comment: Comment) -> Commented:
    """Write or update our comment on a pull request, and the check of its newest commit.

    A plan of an older commit than the pull request has now writes its check and leaves the comment to the newer plan.
    """
    pull_request = client.repository.get_pull(number)
    newest = pull_request.head.sha
    check = _put_check(client, head or newest, comment)
    if head is not None and head != newest:
        note = f"the pull request is at {newest[:12]} by now: its own plan writes the comment"
        return Commented("left alone", None, check, note)
    issue = client.repository.get_issue(number)
    found = ours(client, issue.get_comments(), comment.marker)
    for twin in found[1:]:  # two runs at once
        twin.delete()
    if not found:
        return Commented("created", issue.create_comment(comment.text).html_url, check)
    if _same(found[0].body, comment.text):
        return Commented("unchanged", found[0].html_url, check)
    found[0].edit(comment.text)
    return Commented("updated", found[0].html_url, check)


def _put_check(client: Client, head: str, comment: Comment) -> str:
    """A check run, or a commit status for a token that is not of an App: only Apps may write check runs."""
    commit = client.repository.get_commit(head)
    title = f"{comment.verdict}: {comment.reason}"
    facts: dict[str, Any] = {
        "status": "completed",
        "conclusion": _CONCLUSIONS[comment.verdict],
        "output": {"title": title[:_TITLE], "summary": comment.text},
    }
    if client.context.run_url:
        facts["details_url"] = client.context.run_url
    try:
        before = _our_check(client, commit, comment.marker)
        if before is not None:
            before.edit(**facts)
        else:
            client.repository.create_check_run(CHECK, head, external_id=comment.marker, **facts)
        return _CONCLUSIONS[comment.verdict]
    except GithubException as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
    more = {"target_url": client.context.run_url} if client.context.run_url else {}
    commit.create_status(_STATES[comment.verdict], description=title[:_TITLE], context=CHECK, **more)
    return _STATES[comment.verdict]


def _our_check(client: Client, commit: Commit, marker: str) -> Any:
    """The run of before; of another App's with this name nothing is known."""
    slug = client.login.removesuffix("[bot]")
    runs = commit.get_check_runs(check_name=CHECK)
    return next((run for run in runs if run.external_id == marker and run.app.slug == slug), None)


def _same(left: str, right: str) -> bool:
    """GitHub may keep other line ends, and none at the end."""
    return left.replace("\r\n", "\n").rstrip() == right.rstrip()


def _unescaped(text: str) -> str:
    return re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text.replace("<!-- -->", ""))
