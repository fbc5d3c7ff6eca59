"""Which model of each agent was production when, and who decided so: from git alone.

The branch that is checked out is read along its first parents, so that every merge, squash or direct commit is one
change of production, as `git log --first-parent -p` shows it. The commits that a merge brought tell who wrote the lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from gitune.errors import UserError
from gitune.git import (
    SHALLOW,
    Commit,
    Person,
    Tag,
    branch_changes,
    read_blobs,
    shallow_boundary,
    side_changes,
    tags_of,
)
from gitune.gto import PRODUCTION, Event, events_of
from gitune.hints import did_you_mean, one_of
from gitune.lock_facts import LockFacts, read_facts
from gitune.project import Project

COMMITTED = "agents"
"""Where locks are committed, unless the stack commits its own."""

Kind = Literal["new", "update", "rollback", "roll forward", "restored", "deleted", "unreadable", "earlier"]
"""`update`: the same model, such as judged anew; `rollback`: back to the model of an earlier version; `roll forward`:
from there to a later one again; `restored`: a model that was there before the lock was deleted; `earlier`: it was there
when a shallow clone was cut."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A tag that says that a version was assigned to a stage."""

    stage: str
    when: datetime
    """UTC."""
    who: str
    tag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit of the branch made of an agent's lock."""

    agent: str
    kind: Kind
    lock: LockFacts
    """Without data where the lock was deleted or cannot be read."""
    blob: str | None
    """The lock's hash in git; None: deleted."""
    file: str
    """Below the repository's root."""
    commit: str
    when: datetime
    """UTC; when the commit came to the branch. Of an `earlier` entry: when it had come at the latest."""
    author: Person
    """Who wrote the lock."""
    merged_by: Person | None
    """Who brought it to the branch; None where git does not say, as for a squash by GitHub."""
    pull_request: str | None
    """As #12, or !12 at GitLab."""
    subject: str
    returns_to: str | None = None
    """The version that had this model first, for a return to one."""
    deployed: tuple[Deployed, ...] = ()
    replaced: datetime | None = None
    """When another model or none took its place; None: it is what the branch says now."""
    rolled_back: datetime | None = None
    """When a rollback took its place."""

    @property
    def version(self) -> str | None:
        return self.lock.version

    @property
    def in_production(self) -> Deployed | None:
        """The first time that it was tagged as deployed to production."""
        return next((one for one in self.deployed if one.stage == PRODUCTION), None)

    def as_dict(self) -> dict[str, Any]:
        lock, cut = self.lock, self.kind == "earlier"
        return {
            "agent": self.agent,
            "version": lock.version,
            "kind": self.kind,
            "returns_to": self.returns_to,
            "when": _spoken(self.when),
            "author": None if cut else self.author._asdict(),
            "merged_by": None if cut or self.merged_by is None else self.merged_by._asdict(),
            "pull_request": None if cut else self.pull_request,
            "commit": self.commit,
            "subject": self.subject,
            "dataset": {"fingerprint": lock.fingerprint, "examples": lock.examples},
            "base_model": lock.base_model,
            "provider": lock.provider,
            "model_id": lock.model_id,
            "accuracy": lock.accuracy,
            "base_accuracy": lock.base_accuracy,
            "verdict": lock.verdict,
            "cost_usd": lock.cost_usd,
            "deployed": [{**_plain(one), "when": _spoken(one.when)} for one in self.deployed],
            "replaced": _spoken(self.replaced),
            "rolled_back": _spoken(self.rolled_back),
            "problem": lock.problem or None,
        }


@dataclass(frozen=True, slots=True)
class History:
    """What the branch's commits made of all locks."""

    folder: str
    """Where the locks are, below the repository's root."""
    entries: tuple[Entry, ...]
    """Newest first."""
    tags: tuple[Tag, ...]
    shallow: bool
    """The clone was cut, so something may be missing."""

    @property
    def agents(self) -> tuple[str, ...]:
        """By name; also those whose lock is deleted."""
        return tuple(sorted({entry.agent for entry in self.entries}))

    @property
    def events(self) -> tuple[Event, ...]:
        """What the tags say, oldest first."""
        return events_of(self.tags)

    @property
    def missing(self) -> str | None:
        """What this clone cannot tell, and what to do."""
        told = "this clone is shallow: who brought the oldest lock of each agent, what was before it, and tags may be"
        return f"{told} missing; {_DEEPEN}" if self.shallow else None

    def of(self, agent: str) -> tuple[Entry, ...]:
        """The agent's entries, newest first. Raises UserError for an agent that never had a lock."""
        found = tuple(entry for entry in self.entries if entry.agent == agent)
        if not found:
            hint = did_you_mean(agent, self.agents) or one_of(self.agents)
            raise UserError(f"git knows no lock of an agent '{agent}'", hint=hint or self._nothing())
        return found

    def versions(self, agent: str) -> tuple[str, ...]:
        """Newest first, each once. Raises UserError."""
        return tuple(dict.fromkeys(entry.version for entry in self.of(agent) if entry.version))

    def version(self, agent: str, version: str) -> tuple[Entry, ...]:
        """The entries of a version, such as 1.2.0 or v1.2.0, newest first. Raises UserError where there is none."""
        wanted = version.removeprefix("v")
        found = tuple(entry for entry in self.of(agent) if entry.version == wanted)
        if not found:
            known = self.versions(agent)
            hint = SHALLOW if self.shallow else did_you_mean(wanted, known)
            raise UserError(f"{agent} has no version {wanted} in git", hint=hint or one_of(known))
        return found

    def newest(self, agent: str) -> tuple[Entry, ...]:
        """The entries of the version that the branch says now, or said last before it had none. Raises UserError."""
        return self.version(agent, self.versions(agent)[0]) if self.versions(agent) else self.of(agent)

    def current(self, agent: str) -> Entry | None:
        """What the branch says now; None: the lock is deleted. Raises UserError."""
        latest = self.of(agent)[0]
        return None if latest.kind == "deleted" else latest

    def _nothing(self) -> str:
        return (
            f"no lock below {self.folder}/ was ever committed: gitune up -s training writes them, a merge makes history"
        )


_DEEPEN = SHALLOW.partition(": ")[2]


def read_history(project: Project) -> History:
    """Of the locks of the stack; where these are not committed, as those of `dev`, of agents/. Raises UserError."""
    history = history_of_folder(project.root, project.stack.locks)
    return history if history.entries or history.folder == COMMITTED else history_of_folder(project.root, COMMITTED)


def history_of_folder(root: Path, folder: str, agent: str = "*") -> History:
    """Of the locks below a folder of the repository, or of one agent's. Raises UserError."""
    pattern = f"{folder}/{agent}/model.lock.yaml"
    branch = branch_changes(root, pattern)
    merges = any(len(commit.parents) > 1 for commit in branch)
    side = side_changes(root, pattern) if merges else []
    blobs = read_blobs(root, [change.blob for commit in branch for change in commit.changes if change.blob])
    boundary = shallow_boundary(root)
    tags = tuple(tags_of(root))
    facts = {blob: read_facts(text) for blob, text in blobs.items()}
    return History(folder, entries_of(branch, side, facts, events_of(tags), boundary), tags, bool(boundary))


def entries_of(
    branch: Sequence[Commit],
    side: Sequence[Commit],
    facts: Mapping[str, LockFacts],
    events: Sequence[Event],
    boundary: frozenset[str] = frozenset(),
) -> tuple[Entry, ...]:
    """All entries, newest first, from what git says (`branch` and `side` newest first). Pure."""
    authors = _Authors(branch, side, boundary)
    by_agent: dict[str, list[Entry]] = {}
    for commit in reversed(branch):
        for change in commit.changes:
            lock = facts.get(change.blob, LockFacts(problem="git does not hold it")) if change.blob else LockFacts()
            agent = PurePosixPath(change.file).parent.name
            entry = Entry(
                agent=agent,
                kind="earlier" if commit.commit in boundary else "new",
                lock=lock,
                blob=change.blob,
                file=change.file,
                commit=commit.commit,
                when=commit.when,
                author=authors.of(commit, change.file, change.blob),
                merged_by=_merged_by(commit),
                pull_request=pull_request_of(commit.message),
                subject=commit.message.partition("\n")[0],
            )
            by_agent.setdefault(agent, []).append(entry)
    place = {commit.commit: number for number, commit in enumerate(branch)}
    known = [entry for agent, entries in by_agent.items() for entry in _judged(agent, entries, events)]
    return tuple(sorted(known, key=lambda entry: (place[entry.commit], entry.agent)))


def _judged(agent: str, entries: Sequence[Entry], events: Sequence[Event]) -> Iterator[Entry]:
    """One agent's entries, oldest first, with what each one is to the others."""
    kinds = list(_kinds(entries))
    deployed = _deployments(agent, kinds, events)
    for number, entry in enumerate(kinds):
        following = (one for one in kinds[number + 1 :] if one.kind != "unreadable" and _model(one) != _model(entry))
        successor = None if entry.kind in ("deleted", "unreadable") else next(following, None)
        yield replace(
            entry,
            deployed=tuple(deployed.get(number, ())),
            replaced=successor.when if successor else None,
            rolled_back=successor.when if successor and successor.kind == "rollback" else None,
        )


def _kinds(entries: Sequence[Entry]) -> Iterator[Entry]:
    first: dict[tuple[str, str], tuple[int, str | None]] = {}
    live: tuple[str, str] | None = None
    for number, entry in enumerate(entries):
        if entry.blob is None:
            live = None
            yield replace(entry, kind="deleted")
            continue
        if entry.lock.problem:
            yield replace(entry, kind="unreadable")
            continue
        model = _model(entry)
        kind = entry.kind
        if model == live:
            kind = "update"
        elif model in first:
            kind = "restored" if live is None else "rollback" if first[model] < first[live] else "roll forward"
        returns = first[model][1] if kind in ("restored", "rollback", "roll forward") else None
        first.setdefault(model, (number, entry.version))
        live = model
        yield replace(entry, kind=kind, returns_to=returns)


def _model(entry: Entry) -> tuple[str, str]:
    """What tells models apart; a lock that names none is one of its own."""
    return entry.lock.model or ("", entry.blob or "")


def _deployments(agent: str, entries: Sequence[Entry], events: Sequence[Event]) -> Mapping[int, list[Deployed]]:
    """By number of the entry: what was assigned to a stage, while it was the latest of its version."""
    ours = [event for event in events if event.agent == agent and not event.cancelled]
    registered = {event.tag.commit: event.version for event in ours if event.version}
    locked = {entry.commit: entry.version for entry in entries}
    found: dict[int, list[Deployed]] = {}
    for event in ours:
        if event.stage is None or event.tag.when is None:
            continue
        version = registered.get(event.tag.commit) or locked.get(event.tag.commit)
        same = [number for number, entry in enumerate(entries) if entry.version and entry.version == version]
        before = [number for number in same if entries[number].when <= event.tag.when]
        if same:
            one = Deployed(event.stage, event.tag.when, event.tag.who.name, event.tag.name)
            found.setdefault((before or same[:1])[-1], []).append(one)
    return found


class _Authors:
    """Who wrote what a merge brought: each commit belongs to the first change of the branch that contains it."""

    def __init__(self, branch: Sequence[Commit], side: Sequence[Commit], boundary: frozenset[str]) -> None:
        known = {commit.commit: commit for commit in side}
        order = {commit.commit: number for number, commit in enumerate(side)}
        claimed: set[str] = set()
        self._brought: dict[str, list[Commit]] = {}
        for change in reversed(branch):
            waiting, found = [change.commit], []
            while waiting:
                name = waiting.pop()
                if name in known and name not in claimed:
                    claimed.add(name)
                    found.append(known[name])
                    waiting += known[name].parents
            new = [commit for commit in found if commit.commit not in boundary]
            self._brought[change.commit] = sorted(new, key=lambda commit: order[commit.commit])

    def of(self, commit: Commit, file: str, blob: str | None) -> Person:
        """The newest commit that made this of the file; the merge's author where it settled a conflict itself."""
        if len(commit.parents) < 2:
            return commit.author
        wrote = (
            one.author for one in self._brought[commit.commit] for c in one.changes if (c.file, c.blob) == (file, blob)
        )
        return next(wrote, commit.author)


_WEB_FLOW = "noreply@github.com"
"""Who commits what is merged on GitHub's pages."""


def _merged_by(commit: Commit) -> Person | None:
    if len(commit.parents) > 1:
        return commit.author
    return None if commit.committer.email == _WEB_FLOW else commit.committer


_PULL_REQUESTS = (
    (re.compile(r"\AMerge pull request #(\d+)\b"), "#"),  # GitHub, Gitea
    (re.compile(r"\A[^\n]*\(#(\d+)\)[ \t]*$", re.MULTILINE), "#"),  # a squash
    (re.compile(r"\A[^\n]*\((?:pull request #(\d+))\)", re.MULTILINE), "#"),  # Bitbucket
    (re.compile(r"\AMerged PR (\d+):"), "#"),  # Azure
    (re.compile(r"^See merge request \S*!(\d+)$", re.MULTILINE), "!"),  # GitLab
    (re.compile(r"^(?:Pull[- ]Request|PR)(?:[- ]URL)?: *\S*?(\d+)[ \t]*$", re.MULTILINE | re.IGNORECASE), "#"),
)


def pull_request_of(message: str) -> str | None:
    """The pull request that a commit's message names, as #12 or !12."""
    found = ((pattern.search(message), sign) for pattern, sign in _PULL_REQUESTS)
    return next((f"{sign}{match[1]}" for match, sign in found if match), None)


def split_version(text: str) -> tuple[str, str | None]:
    """`support@1.2.0` or `support@v1.2.0` → the agent and the version; without one: None."""
    agent, at, version = text.partition("@")
    return agent, version.removeprefix("v") if at else None


def _spoken(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="seconds")


def _plain(one: Deployed) -> dict[str, Any]:
    return {"stage": one.stage, "who": one.who, "tag": one.tag}


def taken_versions(project: Project, agent: str) -> Mapping[str, tuple[str, str]]:
    """(provider, model ID) of each version that the agent had in git; both empty where only a tag tells of it."""
    history = history_of_folder(project.root, project.stack.locks, agent)
    tagged = {event.version: ("", "") for event in history.events if event.version and event.agent == agent}
    locked = {entry.version: entry.lock.model for entry in history.entries if entry.version and entry.lock.model}
    return {**(tagged if history.entries else {}), **locked}
