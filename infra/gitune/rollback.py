"""Back to an earlier model: the lock of an earlier commit, byte for byte. Nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gitune.errors import ProviderError, UserError, explain
from gitune.files import write_atomic
from gitune.git import SHALLOW, read_blobs
from gitune.history import COMMITTED, Entry, History, history_of_folder
from gitune.lock import parse_lock
from gitune.lock_facts import read_facts
from gitune.project import Project


@dataclass(frozen=True, slots=True)
class Rollback:
    """An earlier lock, and what it takes the place of."""

    agent: str
    before: str | None
    """The version that the lock file says now; None: there is no file."""
    to: Entry
    text: bytes
    file: Path

    @property
    def changes(self) -> bool:
        """Whether the file says something else now."""
        return not self.file.is_file() or self.file.read_bytes() != self.text


def find_rollback(project: Project, agent: str, version: str | None) -> Rollback:
    """The lock of `version`, or of the version before the present one. Asks nobody, writes nothing.

    Raises UserError for what git does not hold and for a lock file with changes that only it holds, and InvalidInput
    for an earlier lock that this gitune cannot read.
    """
    history = _committed(project)
    entries = [entry for entry in history.of(agent) if entry.blob and not entry.lock.problem]
    texts = read_blobs(project.root, [entry.blob for entry in entries if entry.blob])
    file = project.lock_file(agent)
    now = file.read_bytes() if file.is_file() else None
    if now is not None and now.replace(b"\r\n", b"\n") not in texts.values():
        told = f"{file.relative_to(project.root)} has changes that no commit has"
        raise UserError(told, hint="commit it first, or take the changes back with git checkout")
    facts = read_facts(now) if now is not None else None
    if version is not None:
        to = history.version(agent, version)[0]
    elif facts is None:
        to = entries[0]
    else:
        to = _before(history, agent, entries, facts.model)
    text = texts[to.blob or ""]
    parse_lock(text, f"{to.commit[:12]}:{to.file}")
    return Rollback(agent, facts.version if facts else None, to, text, file)


def check_model(project: Project, rollback: Rollback) -> None:
    """Ask the provider whether the model is still there. Raises UserError where it is not, or nobody answers."""
    lock, agent = rollback.to.lock, rollback.agent
    provider, model_id = lock.provider or "", lock.model_id or ""
    name = f"{model_id}, the model of {agent} {lock.version}"
    try:
        model = project.provider(provider).get_model(model_id)
    except ProviderError as error:
        by_hand = f"git checkout {rollback.to.commit[:12]} -- {rollback.to.file} writes the lock without asking"
        message = f"nothing was changed: {provider} does not say whether it still has {name}: {explain(error)}"
        raise UserError(message, hint=by_hand) from error
    if model is None:
        hint = "go back to another version with --to VERSION, or train it again: gitune up -s training"
        raise UserError(f"nothing was changed: {provider} no longer has {name}", hint=hint)
    if model.archived:
        hint = f"unarchive it at {provider}, or go back to another version with --to VERSION"
        raise UserError(f"nothing was changed: {name} is archived at {provider}", hint=hint)


def write_rollback(rollback: Rollback) -> None:
    """Replace the lock file in one step."""
    write_atomic(rollback.file, rollback.text.decode("utf-8"))


def _committed(project: Project) -> History:
    history = history_of_folder(project.root, project.stack.locks)
    if not history.entries:
        folder, name = project.stack.locks, project.stack.name
        hint = "commit a lock first" if folder == COMMITTED else "name a stack whose locks are committed: -s production"
        raise UserError(f"no lock of stack {name} is committed below {folder}/: nothing to go back to", hint=hint)
    return history


def _before(history: History, agent: str, entries: list[Entry], model: tuple[str, str] | None) -> Entry:
    """The newest lock of the model that came before this one came first: so two rollbacks go back two models."""
    order = list(dict.fromkeys(entry.lock.model for entry in reversed(entries)))
    place = order.index(model)
    if place == 0:
        hint = SHALLOW if history.shallow else "a version by its name: --to VERSION; all of them: gitune history"
        raise UserError(f"git knows no version of {agent} before the present one", hint=hint)
    return next(entry for entry in entries if entry.lock.model == order[place - 1])
