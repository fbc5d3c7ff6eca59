"""The locks whose models failed behind their aliases: what git has of them, and what answers instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gitune.deploy import Route, read_refusals, read_routes
from gitune.git import file_at, read_blobs
from gitune.history import COMMITTED, history_of_folder
from gitune.lock import Lock, parse_lock
from gitune.project import Project
from gitune.spec import load_agents


@dataclass(frozen=True, slots=True)
class TakenBackLock:
    """A lock of the commit whose model was taken back, and the lock that main had before it."""

    agent: str
    file: str
    lock: Lock
    earlier: str | None
    """The text of the lock of what answers now, else of the model before; None: there was none."""
    reason: str


def taken_back_locks(project: Project) -> Iterator[TakenBackLock]:
    """By agent, of the stack. Reads the routes file and git. Raises InvalidInput and UserError."""
    refusals, routes = read_refusals(project.routes_file), read_routes(project.routes_file)
    for spec in load_agents(project.root) if refusals else ():
        file = project.lock_file(spec.name).relative_to(project.root).as_posix()
        text = file_at(project.root, "HEAD", file)
        refusal = refusals.get(spec.alias)
        if text is None or refusal is None:
            continue
        lock = parse_lock(text.encode(), f"HEAD:{file}")
        if refusal.of(Route(spec.name, lock.provider, lock.model_id, lock.version)):
            yield TakenBackLock(spec.name, file, lock, _earlier(project, lock, routes.get(spec.alias)), refusal.reason)


def _earlier(project: Project, lock: Lock, answers: Route | None) -> str | None:
    entries = history_of_folder(project.root, COMMITTED, lock.agent).entries
    others = [one for one in entries if one.blob and one.lock.model and one.lock.model_id != lock.model_id]
    same = [one for one in others if answers is not None and one.lock.model == (answers.provider, answers.model_id)]
    blob = next((one.blob for one in (*same, *others)), None)
    return read_blobs(project.root, [blob])[blob].decode("utf-8") if blob else None
