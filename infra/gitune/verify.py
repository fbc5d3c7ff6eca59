"""Is every link of a model's provenance as it was written: lock, passport, dataset, data card, logs, numbers?

A link is `ok`, `broken`, or `unchecked`: what is neither on this machine nor in a store that answers is not wrong.
Nothing is asked of a provider. A dataset that is not here is restored from the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gitune.dataset.folder import dataset_folder
from gitune.dataset.manifest import CARD_FILE, Damaged, FileFacts, file_facts, fingerprint_of
from gitune.dataset.store import Store
from gitune.errors import InvalidInput, UserError
from gitune.git import find_commit, text_at
from gitune.hints import did_you_mean
from gitune.lock import Lock, parse_lock, passport_line
from gitune.lock_facts import LockFacts, read_facts
from gitune.passport import Evaluation, Passport, lock_record, parse_passport, passport_file
from gitune.project import Project
from gitune.tag_lock import tag_mismatch, tagged_commits

State = Literal["ok", "broken", "unchecked"]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of an agent's chain, and what was found."""

    agent: str
    name: str
    state: State
    detail: str

    def as_dict(self) -> dict[str, str]:
        return {"agent": self.agent, "link": self.name, "state": self.state, "detail": self.detail}


def verify_agent(project: Project, agent: str) -> tuple[Link, ...]:
    """The links of one agent in order; none where it has no lock. Changes nothing but what is restored."""
    path = project.lock_file(agent)
    if not path.is_file():
        return ()
    return tuple(Link(agent, *found) for found in _Chain(project, agent, path).links())


def verify_project(project: Project, agent: str | None = None) -> tuple[Link, ...]:
    """The links of one agent, or of all that have a lock in the stack, by name. Raises UserError for no lock."""
    locks = sorted((project.root / project.stack.locks).glob("*/model.lock.yaml"))
    names = [path.parent.name for path in locks]
    if agent is not None and agent not in names:
        hint = did_you_mean(agent, names) or f"which agents have one: gitune status -s {project.stack.name}"
        raise UserError(f"no lock of '{agent}' in stack {project.stack.name}", hint=hint)
    chosen = names if agent is None else [agent]
    return tuple(link for name in chosen for link in verify_agent(project, name))


_Found: TypeAlias = tuple[str, State, str]
"""Link, state and detail."""


class _Chain:
    """One agent's files, read from the lock onwards."""

    def __init__(self, project: Project, agent: str, path: Path) -> None:
        self.project = project
        self.agent = agent
        self.path = path
        self.data = path.read_bytes()

    def links(self) -> Iterator[_Found]:
        try:
            lock = parse_lock(self.data, self.path.name)
        except InvalidInput as error:
            yield "lock", "broken", error.problems[0].message
            return
        if lock.passport is None:
            yield "lock", "ok", f"{lock.version}, {lock.model_id}"
            yield "passport", "unchecked", "the lock names none: it was written before there were any"
            yield from self._git_links()
            return
        named = str(lock.passport)
        own = self._pinning(named) if not passport_file(self.path, named).is_file() else named
        passport, found = self._passport(own)
        if passport is None:
            yield "lock", "unchecked", "without its passport nothing pins it but git"
        elif own != named:
            yield "lock", "broken", f"names passport {named[:12]}, but was written with {own[:12]}"
        else:
            yield self._lock(lock, passport)
        yield found
        yield from self._git_links()
        if passport is not None:
            yield from self._below(passport)

    def _below(self, passport: Passport) -> Iterator[_Found]:
        """What the passport pins. It holds the lock's fields, so a damaged lock does not matter here."""
        facts = LockFacts(passport.lock)
        yield self._code(passport)
        yield from self._dataset(passport, facts)
        logs = {name: self._log(name, evaluation) for name, evaluation in passport.evaluations.items()}
        yield from logs.values()
        if logs:
            yield self._numbers(passport, facts, {name for name, found in logs.items() if found[1] == "ok"})

    def _passport(self, name: str) -> tuple[Passport | None, _Found]:
        path = passport_file(self.path, name)
        shown = path.relative_to(self.path.parent).as_posix()
        if not path.is_file():
            return None, ("passport", "broken", f"no file {shown}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != name:
            return None, ("passport", "broken", f"{shown} is not what its name says")
        try:
            return parse_passport(data, shown), ("passport", "ok", shown)
        except InvalidInput as error:
            return None, ("passport", "unchecked", f"{error.problems[0].message}; of another gitune?")

    def _pinning(self, named: str) -> str:
        """The passport that was written with exactly this lock, where the lock names one that is not here."""
        body = self._body_sha256()
        for path in sorted((self.path.parent / "passports").glob("*.json")):
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == path.stem and f'"lock_sha256": "{body}"'.encode() in data:
                return path.stem
        return named

    def _lock(self, lock: Lock, passport: Passport) -> _Found:
        """Its bytes, and its fields to say what is different."""
        named = self.data.endswith(f"\n{passport_line(str(lock.passport))}".encode())
        if named and self._body_sha256() == passport.lock_sha256:
            return "lock", "ok", f"{lock.version}, {lock.model_id}"
        now = lock_record(lock)
        changed = [name for name, value in passport.lock.items() if now.get(name) != value]
        what = _difference(passport.lock, now, changed[0]) if changed else "its text is not as it was written"
        return "lock", "broken", f"the passport says otherwise: {what}"

    def _body_sha256(self) -> str:
        """Of the bytes before the line that names the passport."""
        return hashlib.sha256(self.data[: self.data.rfind(b"\npassport:") + 1]).hexdigest()

    def _git_links(self) -> Iterator[_Found]:
        root, file = self.project.root, self.path.relative_to(self.project.root).as_posix()
        commit = find_commit(root, "HEAD")
        if commit is None:
            yield "git", "unchecked", "not in a git repository with commits"
            return
        try:
            committed = text_at(root, commit, f"./{file}").encode()
        except UserError:
            yield "git", "unchecked", f"{file} is not committed"
            return
        if committed == self.data:
            yield "git", "ok", f"as in {commit[:12]}"
        else:
            yield "git", "unchecked", f"the lock is not what {commit[:12]} has: not committed yet"
        name, wrong = tag_mismatch(root, tagged_commits(root), file, self.agent, read_facts(self.data))
        if name is not None:
            yield "tag", "broken" if wrong else "ok", f"{name}: {wrong}" if wrong else name

    def _code(self, passport: Passport) -> _Found:
        code = passport.code
        if code.commit is None:
            return "code", "unchecked", f"gitune {code.gitune}, outside git"
        beside = ", with changes that no commit has" if code.dirty else ""
        if find_commit(self.project.root, code.commit) is None:
            return "code", "unchecked", f"commit {code.commit[:12]} is not in this clone"
        return "code", "ok", f"commit {code.commit[:12]}{beside}, gitune {code.gitune}"

    def _dataset(self, passport: Passport, facts: LockFacts) -> Iterator[_Found]:
        fingerprint = facts.fingerprint
        if fingerprint is None or passport.dataset is None:
            why = "trained outside gitune" if fingerprint is None else "the passport does not pin its files"
            yield "dataset", "unchecked", why
            return
        try:
            folder = self._dataset_folder(fingerprint)
        except Damaged as error:
            yield "dataset", "broken", error.message
            return
        except UserError as error:
            yield "dataset", "unchecked", f"not on this machine; {error.message}"
            return
        pinned = dict(passport.dataset.files)
        card = pinned.pop(CARD_FILE, None)
        wrong = next((name for name, facts in pinned.items() if not _is(folder / name, facts)), None)
        if wrong is not None:
            yield "dataset", "broken", f"{fingerprint[:12]}/{wrong} is not what the passport says"
        elif fingerprint_of(folder) != fingerprint:
            yield "dataset", "broken", f"its examples do not have the fingerprint {fingerprint[:12]}"
        else:
            yield "dataset", "ok", f"{fingerprint[:12]}, {facts.examples} examples"
        if card is not None:
            right = _is(folder / CARD_FILE, card)
            told = f"{fingerprint[:12]}/{CARD_FILE}"
            yield "data card", "ok" if right else "broken", told if right else f"{told} is not what the passport says"

    def _dataset_folder(self, fingerprint: str) -> Path:
        """As it is here, damaged or not; else restored. Raises UserError where that cannot be."""
        folder = dataset_folder(self.project.root, fingerprint)
        return folder if folder.is_dir() else Store.of(self.project).restore(fingerprint)

    def _log(self, name: str, evaluation: Evaluation) -> _Found:
        path, link = self.project.state_folder / evaluation.log, f"log {name}"
        if not path.is_file():
            return link, "unchecked", f"{evaluation.log} is not on this machine"
        right = _is(path, evaluation)
        return link, "ok" if right else "broken", evaluation.log if right else f"{evaluation.log} is not what it was"

    def _numbers(self, passport: Passport, facts: LockFacts, whole: set[str]) -> _Found:
        """What the logs say, against what the lock says."""
        try:
            from gitune.benchmark.inspect_logs import read_graded, read_latency  # imports inspect: seconds
        except ModuleNotFoundError as error:
            if error.name != "inspect_ai":
                raise
            return "numbers", "unchecked", "reading logs needs inspect: pip install 'gitune[benchmark]'"
        paths = {name: self.project.state_folder / passport.evaluations[name].log for name in whole}
        said: dict[str, float | None] = {}
        try:
            if "challenger" in paths:
                graded = read_graded(paths["challenger"])
                said |= {"cases": graded.cases, "accuracy": graded.accuracy}
            if "base" in paths:
                said["base_accuracy"] = read_graded(paths["base"]).accuracy
            if "latency" in paths:
                said["latency_seconds"] = read_latency(paths["latency"])
        except Exception as error:  # noqa: BLE001 - a log of another version of inspect may raise anything
            return "numbers", "unchecked", f"inspect cannot read the logs: {type(error).__name__}"
        if not said:
            return "numbers", "unchecked", "no log is here to count them again"
        locked = facts.data.get("benchmark")
        told = locked if isinstance(locked, Mapping) else {}
        wrong = [
            f"{name} is {value} by the log, {told.get(name)} in the lock"
            for name, value in said.items()
            if told.get(name) != (None if value is None else round(value, _DIGITS.get(name, 0)))
        ]
        return ("numbers", "broken", "; ".join(wrong)) if wrong else ("numbers", "ok", ", ".join(said))


_DIGITS: Mapping[str, int] = {"accuracy": 4, "base_accuracy": 4, "latency_seconds": 3}
"""To which the lock rounds."""


def _is(file: Path, facts: FileFacts) -> bool:
    if not file.is_file():
        return False
    found = file_facts(file)
    return (found.sha256, found.size) == (facts.sha256, facts.size)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], name: str) -> str:
    """The first value that is different, with its place."""
    old, new = before[name], now.get(name)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        inner = next((key for key in (*old, *new) if old.get(key) != new.get(key)), None)
        if inner is not None:
            return f"{name}.{inner}: {old.get(inner)} there, {new.get(inner)} here"
    return f"{name}: {old} there, {new} here"
