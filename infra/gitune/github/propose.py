"""One pull request for each agent whose model has passed its gate: merging it is the promotion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from github import GithubException, RateLimitExceededException
from github.PullRequest import PullRequest

from gitune.errors import UserError
from gitune.git import changed_since, file_at, files_changed, find_commit
from gitune.github.branch import Change, delete_branches, put_branch
from gitune.github.client import Client, refusal_of
from gitune.github.main_branch import MainBranch
from gitune.github.marked import marker, marker_values
from gitune.github.pulls import Text, close, declined, open_from, put_pull_request
from gitune.hashing import sha256
from gitune.history import COMMITTED, history_of_folder
from gitune.lock import Lock, parse_lock, read_lock
from gitune.project import Project
from gitune.report.proposal import proposal_body, proposal_title

BRANCHES = "gitune/lock/"
_LOCK = "model.lock.yaml"
_PASSPORTS = "passports"
What = Literal["created", "updated", "unchanged", "left alone", "closed", "failed"]


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of one agent's lock."""

    agent: str
    what: What
    pull_request: str | None
    """Its page."""
    reason: str = ""
    """Why it was left alone, closed, or GitHub refused it."""


@dataclass(frozen=True, slots=True)
class NewLock:
    """A lock that differs from the commit's, and the passports that came with it."""

    lock: Lock
    previous: Lock | None
    files: Mapping[str, str]

    @property
    def marker(self) -> str:
        """Names the model: the same model proposed again is the same proposal."""
        return marker("lock", self.lock.agent, self.lock.version, model_mark(self.lock.provider, self.lock.model_id))


def model_mark(provider: str, model_id: str) -> str:
    """A short hash of what makes two models the same."""
    return sha256([provider, model_id])[:16]


def propose(client: Client, project: Project, outcomes: Sequence[Mapping[str, Any]] | None) -> Iterator[Proposed]:
    """A branch and a pull request for each new lock; those that are overtaken are closed.

    `outcomes` is what `gitune up --json` said, for the cases that got worse and for what is overtaken; None: it did not
    come to an end, and nothing is closed. Raises UserError and InvalidInput.
    """
    said = {str(outcome.get("agent")): outcome for outcome in outcomes or ()}
    locks = {one.lock.agent: one for one in new_locks(project)}
    main = MainBranch(client, project.root)
    opened = {one.head.ref.removeprefix(BRANCHES): one for one in open_from(client, main.name, BRANCHES)}
    for agent, new in locks.items():
        try:
            yield _propose_one(client, project, main, new, said.get(agent, {}).get("regressions") or ())
        except RateLimitExceededException:
            raise
        except GithubException as error:  # of one agent: the others go on
            yield Proposed(agent, "failed", None, refusal_of(error, client.context.repository).message)
    if outcomes is None:
        return
    kept = set(locks)
    for agent, one in opened.items():
        reason = "" if agent in locks else overtaken(project, agent, one, said.get(agent))
        if reason:
            close(one, reason)
            yield Proposed(agent, "closed", one.html_url, reason)
        else:
            kept.add(agent)
    delete_branches(client, BRANCHES, {BRANCHES + agent for agent in kept})


def new_locks(project: Project) -> Iterator[NewLock]:
    """What the working tree has that HEAD has not, by agent. Raises UserError and InvalidInput."""
    root = project.root
    if project.stack.locks != COMMITTED:
        message = f"the locks of stack {project.stack.name} are not committed: they are in {project.stack.locks}"
        raise UserError(message, hint="name the stack that trains: -s training")
    if find_commit(root, "HEAD") is None:
        raise UserError("nothing is committed here", hint="run it in the checkout that `gitune up` worked in")
    by_agent: dict[str, list[str]] = {}
    for file in files_changed(root, COMMITTED):
        parts = file.split("/")
        if len(parts) > 2 and (parts[2:] == [_LOCK] or parts[2] == _PASSPORTS) and (root / file).is_file():
            by_agent.setdefault(parts[1], []).append(file)
    for agent, files in sorted(by_agent.items()):
        lock = read_lock(project.lock_file(agent))
        place = f"{COMMITTED}/{agent}/{_LOCK}"
        if lock is None or place not in files:
            continue
        committed = _committed(root, place)
        yield NewLock(lock, committed, {file: (root / file).read_text(encoding="utf-8") for file in files})


def taken_back(project: Project, lock: Lock) -> str:
    """Why a model that main had before is not proposed again; empty: it is new, or the agent's files changed since.

    A rollback, or the revert of a failed deployment, is somebody's decision. What the agent is made from changes it.
    """
    entries = [one for one in history_of_folder(project.root, COMMITTED, lock.agent).entries if not one.lock.problem]
    model = (lock.provider, lock.model_id)
    had = next((place for place, entry in enumerate(entries) if entry.lock.model == model), None)
    if had in (None, 0):
        return ""
    replaced = entries[had - 1]
    folder = f"{COMMITTED}/{lock.agent}"
    kept = (f"{folder}/{_LOCK}", f"{folder}/{_PASSPORTS}")
    if changed_since(project.root, replaced.commit, folder, without=kept):
        return ""
    return f"main had this model, and took it back in {replaced.commit[:12]}; `gitune rollback` brings it back by hand"


def overtaken(project: Project, agent: str, opened: PullRequest, outcome: Mapping[str, Any] | None) -> str:
    """Why an open pull request is not wanted any more; empty: its model is still the agent's newest, or a person opened
    it."""
    values = marker_values(opened.body, "lock")
    if values is None or len(values) < 3:
        return ""
    if outcome is None:
        return f"agent {agent} is no longer declared"
    lock = read_lock(project.lock_file(agent))
    if lock is not None and model_mark(lock.provider, lock.model_id) == values[2]:
        return "main has this model"
    model = outcome.get("model") or {}
    trained = model_mark(str(model.get("provider")), str(model.get("model_id")))
    if trained != values[2]:
        return f"the files of {agent} want another model by now"
    return "" if outcome.get("verdict") in (None, "pass") else "the gate keeps the model back by now"


def _declined(client: Client, base: str, new: NewLock) -> str:
    found = declined(client, base, BRANCHES + new.lock.agent, new.marker)
    return f"#{found.number} proposed this model and was closed: reopen it, or train another" if found else ""


def _propose_one(
    client: Client, project: Project, main: MainBranch, new: NewLock, regressions: Sequence[Mapping[str, Any]]
) -> Proposed:
    agent, branch = new.lock.agent, BRANCHES + new.lock.agent
    moved = f"{COMMITTED}/{agent} has changed on main since: the next run goes on from there"
    why_not = moved if main.moved(agent) else taken_back(project, new.lock) or _declined(client, main.name, new)
    if why_not:
        return Proposed(agent, "left alone", None, why_not)
    title = proposal_title(new.lock, new.previous)
    if put_branch(client, main.tip, Change(branch, title, new.files, main.tree(agent))) == "theirs":
        return Proposed(agent, "left alone", None, f"branch {branch} has commits of somebody else")
    body = f"{new.marker}\n{proposal_body(new.lock, new.previous, regressions)}"
    what, made = put_pull_request(client, main.name, branch, Text(title, body))
    return Proposed(agent, what, made.html_url)


def _committed(root: Path, file: str) -> Lock | None:
    text = file_at(root, "HEAD", file)
    return None if text is None else parse_lock(text.encode(), f"HEAD:{file}")
