"""The pull request that takes a deployment back which failed: the locks of before the push, on a branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from gitune.deploy import read_refusals
from gitune.errors import UserError
from gitune.git import file_at, files_between, find_commit
from gitune.github.branch import Change, find_ref, put_branch
from gitune.github.client import Client
from gitune.github.marked import marker
from gitune.github.pulls import Text, find_open, put_pull_request
from gitune.history import COMMITTED
from gitune.lock_facts import read_facts
from gitune.project import Project
from gitune.report.markdown import bullets, code, escaped

BRANCH = "gitune/revert"
_LOCKS = f"{COMMITTED}/*/model.lock.yaml"


@dataclass(frozen=True, slots=True)
class Reverted:
    """The pull request, and the agents whose locks it takes back."""

    what: Literal["created", "updated", "unchanged", "left alone"]
    pull_request: str | None
    agents: tuple[str, ...]
    reason: str = ""


def revert(client: Client, project: Project) -> Reverted:
    """Propose for main, in one pull request, the locks as they were before the push.

    What an open pull request of this kind takes back, and main still has, stays in it. Raises UserError where nobody
    says what was before.
    """
    root, before = project.root, _before(client, project.root)
    files = {file: file_at(root, before, file) for file in files_between(root, before, "HEAD", _LOCKS)}
    if not files:
        return Reverted("left alone", None, (), "the push changed no lock")
    base = client.repository.default_branch
    tip = client.repository.get_branch(base).commit.sha
    files = {**_still_open(client, root, base), **files}
    agents = tuple(sorted(PurePosixPath(file).parent.name for file in files))
    change = Change(BRANCH, _title(agents), files)
    if put_branch(client, tip, change) == "theirs":
        return Reverted("left alone", None, agents, f"branch {BRANCH} has commits of somebody else")
    body = f"{marker('revert')}\n{_body(project, files, client.context.run_url)}"
    what, made = put_pull_request(client, base, BRANCH, Text(_title(agents), body))
    return Reverted(what, made.html_url, agents)


def _before(client: Client, root: Path) -> str:
    named = client.context.before
    found = find_commit(root, named) if named else None
    if found is None:
        hint = "it is in the event of a push: run it in the deploy workflow, with fetch-depth: 0"
        raise UserError("what main was before is not known", hint=hint)
    return found


def _still_open(client: Client, root: Path, base: str) -> Mapping[str, str | None]:
    """What the pull request that waits takes back, as far as main still has it."""
    opened, ref = find_open(client, base, BRANCH), find_ref(client, BRANCH)
    if opened is None or ref is None or not client.is_ours(opened.user):
        return {}
    found: dict[str, str | None] = {}
    for file in opened.get_files():
        if not PurePosixPath(file.filename).match(_LOCKS):
            continue
        gone = file.status == "removed"
        found[file.filename] = None if gone else _content(client, file.filename, ref.object.sha)
    return {file: text for file, text in found.items() if text != file_at(root, "HEAD", file)}


def _content(client: Client, file: str, commit: str) -> str:
    found = client.repository.get_contents(file, ref=commit)
    if isinstance(found, list):
        raise UserError(f"{file} is a folder on {BRANCH}", hint=f"delete the branch {BRANCH}")
    return found.decoded_content.decode("utf-8")


def _title(agents: tuple[str, ...]) -> str:
    return f"Take back {agents[0] if len(agents) == 1 else f'{len(agents)} locks'}: the deployment failed"


def _body(project: Project, files: Mapping[str, str | None], run_url: str | None) -> str:
    where = f" in [this run]({run_url})" if run_url else ""
    lines = "".join(f"- {line}\n" for line in _lines(project, files))
    following = (
        "merge: main says again what answers, and the model that failed is not proposed again",
        f"close: {code('gitune up -s production --retry')} tries the failed model once more",
    )
    return f"The deployment failed{where}. What was there before answers again.\n\n{lines}\n{bullets(following)}"


def _lines(project: Project, files: Mapping[str, str | None]) -> Iterator[str]:
    reasons = {one.model_id: one.reason for one in read_refusals(project.routes_file).values()}
    for file, text in sorted(files.items()):
        now = read_facts((file_at(project.root, "HEAD", file) or "").encode())
        to = read_facts(text.encode()).version if text else None
        why = reasons.get(now.model_id or "", "")
        agent = escaped(PurePosixPath(file).parent.name)
        moved = f"{escaped(now.version or 'no version')} → {escaped(to) if to else 'no lock'}"
        yield f"**{agent}**: {moved}" + (f": {escaped(why)}" if why else "")
