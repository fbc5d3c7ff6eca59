"""Annotated tags for what the locks of the checked-out commit say, named as GTO names them. A tag is never moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitune.errors import UserError
from gitune.git import SHALLOW, create_tag, delete_tags, push_tags, tags_of, text_at
from gitune.gto import assigned, next_counter, stage_tag, version_tag
from gitune.history import Entry, History
from gitune.lock_facts import LockFacts, read_facts

LockAt = Callable[[str, str], LockFacts]
"""(commit, file) → the lock as that commit has it."""


@dataclass(frozen=True, slots=True)
class WantedTag:
    """A tag that the locks call for."""

    name: str
    commit: str
    message: str
    exists: bool


def wanted_tags(history: History, agents: Sequence[str], stage: str | None, lock_at: LockAt) -> tuple[WantedTag, ...]:
    """For each agent the tag of its locked version; with `stage` also the one that assigns this version to it.

    Raises UserError for an agent without a lock in git, and for a tag of the name that says something else.
    """
    found: list[WantedTag] = []
    for agent in agents or history.agents:
        entry = history.current(agent)
        if entry is None:
            found += _withdrawn(history, agent, stage) if stage else ()
            continue
        version = _of_version(history, entry, lock_at)
        found.append(version)
        if stage is not None:
            found += _assigned(history, entry, stage, version.commit)
    return tuple(found)


def write_tags(root: Path, tags: Sequence[WantedTag], remote: str | None) -> None:
    """Write those that are missing, then push all in one step; what could not be pushed is taken back.

    Raises UserError.
    """
    missing = [tag for tag in tags if not tag.exists]
    if missing:
        _let_a_second_pass(root)
    for tag in missing:
        create_tag(root, tag.name, tag.commit, tag.message)
    if remote is None or not tags:
        return
    try:
        push_tags(root, remote, [tag.name for tag in tags])
    except UserError as error:
        if missing:
            delete_tags(root, [tag.name for tag in missing])
        hint = "nothing was tagged; somebody else may have tagged meanwhile: run the same command again"
        raise UserError(error.message, hint=hint) from error


def _let_a_second_pass(root: Path) -> None:
    """Git dates tags by the second, and GTO takes the latest assignment: two within one second would be a toss-up."""
    newest = max((tag.when.timestamp() for tag in tags_of(root) if tag.when is not None), default=0.0)
    if int(newest) == int(time.time()):
        time.sleep(newest + 1 - time.time())


def read_lock_at(root: Path) -> LockAt:
    """Locks as commits of a repository have them."""

    def lock_at(commit: str, file: str) -> LockFacts:
        try:
            return read_facts(text_at(root, commit, f"./{file}").encode())
        except UserError as error:
            return LockFacts(problem=error.message)

    return lock_at


def _of_version(history: History, entry: Entry, lock_at: LockAt) -> WantedTag:
    agent, version = entry.agent, entry.version
    if version is None or entry.lock.model is None:
        hint = "restore the file with git, or run gitune up"
        raise UserError(f"the lock of {agent} names no version and model", hint=hint)
    same = history.version(agent, version)
    other = next((one for one in same if one.lock.model != entry.lock.model), None)
    if other is not None:
        told = f"{agent} {version} was {other.lock.model_id} in {other.commit[:12]}, and is {entry.lock.model_id} now"
        raise UserError(told, hint=f"a version is one model: give the lock of {agent} a version of its own")
    first, name = same[-1], version_tag(agent, version)
    existing = next((tag for tag in history.tags if tag.name == name), None)
    if existing is None:
        if first.kind == "earlier":
            raise UserError(f"which commit brought {agent} {version} is not known here", hint=SHALLOW)
        return WantedTag(name, first.commit, _message(entry), exists=False)
    if not existing.annotated:
        raise UserError(f"tag {name} is not annotated, so GTO does not read it", hint=f"git tag -d {name}")
    if existing.commit not in {one.commit for one in same}:
        tagged = lock_at(existing.commit, entry.file)
        if (tagged.version, tagged.model) != (version, entry.lock.model):
            told = tagged.problem or f"{tagged.version or 'no version'}, {tagged.model_id or 'no model'}"
            message = f"tag {name} is at {existing.commit[:12]}, whose lock says something else: {told}"
            raise UserError(message, hint=f"tags are not moved; if this one is wrong: git tag -d {name}")
    return WantedTag(name, existing.commit, existing.message, exists=True)


def _assigned(history: History, entry: Entry, stage: str, commit: str) -> Iterator[WantedTag]:
    """GTO knows the version of an assignment by its commit, so a rollback is a tag at the earlier version's commit."""
    latest = assigned(history.events, entry.agent, stage)
    if latest is not None and latest.tag.commit == commit:
        yield WantedTag(latest.tag.name, commit, latest.tag.message, exists=True)
    else:
        name = stage_tag(entry.agent, stage, next_counter(history.tags, entry.agent))
        yield WantedTag(name, commit, _message(entry), exists=False)


def _withdrawn(history: History, agent: str, stage: str) -> Iterator[WantedTag]:
    latest = assigned(history.events, agent, stage)
    if latest is not None:
        name = stage_tag(agent, stage, next_counter(history.tags, agent), cancel=True)
        yield WantedTag(name, latest.tag.commit, f"{agent} left {stage}: its lock is deleted\n", exists=False)


def _message(entry: Entry) -> str:
    lock = entry.lock
    lines = [
        f"{entry.agent} {lock.version}",
        "",
        f"model: {lock.model_id} on {lock.provider or '?'}",
        f"base model: {lock.base_model or '?'}",
        f"dataset: {lock.fingerprint or '?'}, {'?' if lock.examples is None else lock.examples} examples",
        f"accuracy: {'?' if lock.accuracy is None else lock.accuracy}, verdict: {lock.verdict or '?'}",
    ]
    return "\n".join(lines) + "\n"
