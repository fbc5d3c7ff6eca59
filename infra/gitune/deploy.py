"""The routes file: which model answers to which alias, what is being tried there, and what was sent back.

One file for each stack. The gateway reads it for every request, so a change takes effect with the next one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.files import locked, read_json, write_atomic
from gitune.lock import read_lock
from gitune.project import Project
from gitune.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class Route:
    """What an alias points to."""

    agent: str
    provider: str
    model_id: str
    version: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An alias: its route, and the one before it for as long as that may be needed."""

    route: Route
    previous: Route | None = None
    """Answers what the canary leaves, and is returned to when the smoke test fails."""
    canary: float | None = None
    """Share of the requests that `route` answers, 0 to 1; None: all."""
    untested: bool = False
    """A smoke test is due."""

    @property
    def stable(self) -> Route | None:
        """What has answered before this change, and passed its smoke test."""
        return self.previous if self.canary is not None or self.untested else self.route


@dataclass(frozen=True, slots=True)
class Refusal:
    """A model that failed its smoke test behind this alias, and was taken back."""

    model_id: str
    version: str
    reason: str

    def of(self, route: Route) -> bool:
        """Whether it is this route that was taken back."""
        return (self.model_id, self.version) == (route.model_id, route.version)


def locked_route(spec: AgentSpec, project: Project) -> Route | None:
    """What the agent's lock wants its alias to answer with. Raises InvalidInput."""
    lock = read_lock(project.lock_file(spec.name))
    return None if lock is None else Route(spec.name, lock.provider, lock.model_id, lock.version)


def read_routes(path: Path) -> Mapping[str, Route]:
    """Routes by alias; none when the file is missing or not JSON. Raises UserError for entries that are no routes."""
    return {alias: entry.route for alias, entry in read_entries(path).items()}


def read_entries(path: Path) -> Mapping[str, Entry]:
    """All that is known of each alias. Raises UserError for what is no such file."""
    return _read(path)[0]


def read_refusals(path: Path) -> Mapping[str, Refusal]:
    """What was taken back, by alias. Raises UserError for what is no such file."""
    return _read(path)[1]


def set_route(path: Path, alias: str, route: Route, *, canary: float | None = None, test: bool = False) -> None:
    """Point the alias at the model; the others stay as they are.

    `canary`: only for this share of the requests, where something has answered before. `test`: a smoke test is due.
    """
    with locked(path.with_suffix(".lock")):
        entries, refusals = _read(path)
        before = entries.get(alias)
        stable = before.stable if before is not None and before.route.agent == route.agent else None
        if before is not None and before.route == route:
            share = canary if before.previous else None
            entry = replace(before, canary=share, previous=before.previous if share or before.untested else None)
        else:
            entry = Entry(route, stable if canary or test else None, canary if stable else None, test)
        _write(path, {**entries, alias: entry}, {key: value for key, value in refusals.items() if key != alias})


def pass_route(path: Path, alias: str, route: Route) -> None:
    """The smoke test of this route has passed."""
    with locked(path.with_suffix(".lock")):
        entries, refusals = _read(path)
        entry = entries.get(alias)
        if entry is not None and entry.route == route:
            kept = entry.previous if entry.canary is not None else None
            _write(path, {**entries, alias: replace(entry, untested=False, previous=kept)}, refusals)


def return_route(path: Path, alias: str, route: Route, reason: str) -> Route | None:
    """The smoke test of this route has failed: the alias goes back to what answered before, or answers no more.

    What is returned to. Remembered, so that the next `up` does not try the same again.
    """
    with locked(path.with_suffix(".lock")):
        entries, refusals = _read(path)
        entry = entries.get(alias)
        if entry is None or entry.route != route:
            return entry.route if entry else None
        others = {name: other for name, other in entries.items() if name != alias}
        back = {alias: Entry(entry.previous)} if entry.previous else {}
        _write(path, {**others, **back}, {**refusals, alias: Refusal(route.model_id, route.version, reason)})
        return entry.previous


def forget_refusals(path: Path) -> None:
    """What was taken back may be tried again."""
    with locked(path.with_suffix(".lock")):
        entries, refusals = _read(path)
        if refusals:
            _write(path, entries, {})


def remove_route(path: Path, alias: str, *, agent: str) -> None:
    """Take the alias away, unless it belongs to another agent by now."""
    with locked(path.with_suffix(".lock")):
        entries, refusals = _read(path)
        kept = {name: entry for name, entry in entries.items() if (name, entry.route.agent) != (alias, agent)}
        _write(path, kept, {name: one for name, one in refusals.items() if name != alias})


def _read(path: Path) -> tuple[dict[str, Entry], dict[str, Refusal]]:
    data = read_json(path)
    data = data if isinstance(data, dict) else {}
    try:
        entries = {alias: _entry(dict(said)) for alias, said in data.get("routes", {}).items()}
        return entries, {alias: Refusal(**said) for alias, said in data.get("refused", {}).items()}
    except (TypeError, AttributeError, ValueError):
        hint = "delete the file and run gitune up, which writes it anew"
        raise UserError(f"{path}: not routes of aliases to models", hint=hint) from None


def _entry(said: dict[str, Any]) -> Entry:
    previous = said.pop("previous", None)
    canary, untested = said.pop("canary", None), said.pop("untested", False)
    return Entry(Route(**said), Route(**previous) if previous else None, canary, untested)


def _write(path: Path, entries: Mapping[str, Entry], refusals: Mapping[str, Refusal]) -> None:
    routes = {}
    for alias in sorted(entries):
        entry = entries[alias]
        told = {
            "previous": entry.previous and asdict(entry.previous),
            "canary": entry.canary,
            "untested": entry.untested,
        }
        routes[alias] = asdict(entry.route) | {key: value for key, value in told.items() if value}
    data: dict[str, Any] = {"routes": routes}
    if refusals:
        data["refused"] = {alias: asdict(refusals[alias]) for alias in sorted(refusals)}
    write_atomic(path, json.dumps(data, indent=2) + "\n")
