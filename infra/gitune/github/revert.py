"""The pull request that takes back, on main, the models that failed behind their aliases and were taken back there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gitune.github.branch import Change, put_branch
from gitune.github.client import Client
from gitune.github.main_branch import MainBranch
from gitune.github.marked import marker
from gitune.github.pulls import Text, close, find_open, is_ours, put_pull_request
from gitune.lock import parse_lock
from gitune.project import Project
from gitune.report.markdown import bullets, code, escaped
from gitune.taken_back import TakenBackLock, taken_back_locks

BRANCH = "gitune/revert"


@dataclass(frozen=True, slots=True)
class Reverted:
    """The pull request, and the agents whose locks it takes back."""

    what: Literal["created", "updated", "unchanged", "closed", "left alone"]
    pull_request: str | None
    agents: tuple[str, ...]
    reason: str = ""


def revert(client: Client, project: Project) -> Reverted:
    """Have one open pull request that brings back the lock before each model that was taken back, or none.

    What an agent's folder on main became since is not touched. Raises InvalidInput and UserError.
    """
    main = MainBranch(client, project.root)
    found = [one for one in taken_back_locks(project) if not main.moved(one.agent)]
    agents = tuple(one.agent for one in found)
    if not found:
        waiting = find_open(client, main.name, BRANCH)
        if waiting is None or not is_ours(waiting):
            return Reverted("left alone", None, (), "no model that main locks was taken back")
        close(waiting, "no model that main locks is taken back any more")
        return Reverted("closed", waiting.html_url, ())
    files = {one.file: one.earlier for one in found}
    change = Change(BRANCH, _title(agents), files, ",".join(map(main.tree, agents)))
    if put_branch(client, main.tip, change) == "theirs":
        return Reverted("left alone", None, agents, f"branch {BRANCH} has commits of somebody else")
    body = f"{marker('revert')}\n{_body(found, client.context.run_url)}"
    what, made = put_pull_request(client, main.name, BRANCH, Text(_title(agents), body))
    return Reverted(what, made.html_url, agents)


def _title(agents: Sequence[str]) -> str:
    return f"Take back {agents[0] if len(agents) == 1 else f'{len(agents)} locks'}: the deployment failed"


def _body(found: Sequence[TakenBackLock], run_url: str | None) -> str:
    where = f" in [this run]({run_url})" if run_url else ""
    following = (
        "merge: main says again what answers, and the model that failed is not proposed again",
        f"close: {code('gitune up -s production --retry')} tries the failed model once more",
    )
    said = f"The deployment failed{where}, and what was there before answers again."
    return f"{said}\n\n{bullets(_lines(found))}\n{bullets(following)}"


def _lines(found: Sequence[TakenBackLock]) -> Iterator[str]:
    for one in found:
        to = parse_lock(one.earlier.encode(), one.file).version if one.earlier else None
        moved = f"{escaped(one.lock.version)} → {escaped(to) if to else 'no lock'}"
        yield f"**{escaped(one.agent)}**: {moved}: {escaped(one.reason)}"
