"""A plan as a file: canonical JSON, bound to the files and the state that it was made from.

What is in it depends on nothing else, so the same plan made twice is the same bytes. It holds no time and no secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gitune import __version__
from gitune.errors import InvalidInput, Problem, UserError
from gitune.files import write_atomic
from gitune.folder_hash import folder_hashes
from gitune.git import find_commit
from gitune.hashing import canonical_json, sha256
from gitune.plan import Change, Plan
from gitune.project import Project
from gitune.refusals import Ruling
from gitune.sunset import Notice, What

Schema = Literal["gitune.plan/1"]


@dataclass(frozen=True, slots=True)
class End:
    """What ends at a provider, without the days that are left: they change while the plan does not."""

    agent: str
    provider: str
    what: What
    base_model: str | None
    ends: date
    hint: str
    source: str


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """One stack's plan, and what it was made from."""

    schema: Schema
    stack: str
    gitune: str
    """The version that made it."""
    engine: str
    """Pulumi's version; empty: it was not asked."""
    commit: str | None
    """What the files are of: HEAD, which they may differ from, or what the caller says."""
    agents: Mapping[str, str]
    """By agent, what its folder's files were: see folder_hash.py."""
    settings: str
    """SHA-256 of what the stack's file says."""
    state: str | None
    """The version of the state; None: it was not read, and nothing can be done by this plan."""
    changes: tuple[Change, ...] = ()
    rulings: tuple[Ruling, ...] = ()
    ends: tuple[End, ...] = ()
    problems: tuple[Problem, ...] = ()
    """Of the files. Then there are no changes."""
    unknown: tuple[str, ...] = ()
    """What a static plan could not know, in words."""

    @property
    def blocked(self) -> bool:
        """`up` would do nothing."""
        return bool(self.problems) or any(ruling.stands for ruling in self.rulings)

    @property
    def checksum(self) -> str:
        """Hex SHA-256 over what decides. Two plans with the same checksum do the same, whenever and wherever."""
        return sha256([canonical_json(self.decides())])

    def decides(self) -> dict[str, Any]:
        """All but the words about it, and what follows from the rest: estimates, dates, the commit's name."""
        said = _SAVED.dump_python(self, mode="json")
        names = ("schema", "stack", "gitune", "agents", "settings", "state", "problems")
        changes = [{name: change[name] for name in ("agent", "action", "summary")} for change in said["changes"]]
        keys = [[(one["key"], one["taken"]) for one in change["candidates"]] for change in said["changes"]]
        rulings = [
            [ruling["refusal"]["agent"], ruling["refusal"]["rule"], ruling["allowed"]] for ruling in said["rulings"]
        ]
        return {**{name: said[name] for name in names}, "changes": changes, "keys": keys, "rulings": rulings}

    def text(self) -> str:
        """The file."""
        return canonical_json({**_SAVED.dump_python(self, mode="json"), "checksum": self.checksum}) + "\n"


_SAVED: TypeAdapter[SavedPlan] = TypeAdapter(SavedPlan)


def saved_plan(project: Project, plan: Plan, notices: Sequence[Notice]) -> SavedPlan:
    """A plan that was just made."""
    facts = plan_facts(project, plan.engine, plan.state)
    return SavedPlan(**facts, changes=plan.changes, rulings=plan.rulings, ends=ends_of(notices))


def wrong_plan(project: Project, problems: Sequence[Problem]) -> SavedPlan:
    """Of files that are not right: no plan can be made, and this says why."""
    return SavedPlan(**plan_facts(project, "", None), problems=tuple(problems))


def plan_facts(project: Project, engine: str, state: str | None) -> dict[str, Any]:
    """What a plan is bound to, as SavedPlan names it."""
    return {
        "schema": "gitune.plan/1",
        "stack": project.stack.name,
        "gitune": __version__,
        "engine": engine,
        "commit": find_commit(project.root, "HEAD"),
        "agents": folder_hashes(project.root, "agents"),
        "settings": sha256([canonical_json(project.stack.model_dump(mode="json"))]),
        "state": state,
    }


def ends_of(notices: Sequence[Notice]) -> tuple[End, ...]:
    """What a plan keeps of notices."""
    return tuple(End(n.agent, n.provider, n.what, n.base_model, n.ends, n.hint, n.source) for n in notices)


def write_plan(path: Path, plan: SavedPlan) -> None:
    """Replace the file in one step."""
    write_atomic(path, plan.text())


def read_plan(path: Path) -> SavedPlan:
    """Raises InvalidInput for a file that is not a saved plan, or was changed since."""
    hint = "make it anew: gitune plan --out FILE"
    try:
        data = json.loads(path.read_bytes())
        plan = _SAVED.validate_python(data, strict=False)
    except (ValueError, RecursionError, ValidationError) as error:
        raise InvalidInput([Problem(str(path), 0, f"not a saved plan: {_first(error)}", hint)]) from error
    if data.get("checksum") != plan.checksum:
        raise InvalidInput([Problem(str(path), 0, "the plan was changed after it was saved", hint)])
    return plan


def read_approved(path: Path) -> SavedPlan:
    """A saved plan that can be done. Raises InvalidInput, or UserError for one that only tells."""
    plan = read_plan(path)
    if plan.state is None:
        message = "a static plan, or one of files that are not right, only tells; it cannot be done"
        raise UserError(message, hint=f"save one of the engine's: gitune plan -s {plan.stack} --out FILE")
    return plan


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, found['loc'])) or 'it'}: {found['msg']}"
    return str(error).splitlines()[0]


def check_approved(approved: SavedPlan, now: SavedPlan) -> None:
    """Raises UserError, naming what differs, unless a plan made now does what was approved."""
    found = list(differences(approved, now))
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        hint = f"look at it anew: gitune plan -s {now.stack} --out FILE"
        raise UserError(f"the plan is not what was saved, nothing was done\n{lines}", hint=hint)


def differences(before: SavedPlan, now: SavedPlan) -> Iterator[str]:
    """What decides and is not the same, in words; nothing where the checksums are equal."""
    if before.stack != now.stack:
        yield f"stack: {before.stack} → {now.stack}"
        return
    if before.gitune != now.gitune:
        yield f"gitune: {before.gitune} → {now.gitune}"
    if before.settings != now.settings:
        yield f"Pulumi.{now.stack}.yaml says something else"
    for name in sorted(before.agents.keys() | now.agents.keys()):
        if name not in before.agents:
            yield f"agents/{name}: the folder is new"
        elif name not in now.agents:
            yield f"agents/{name}: the folder is gone"
        elif before.agents[name] != now.agents[name]:
            yield f"agents/{name}: its files changed"
    if before.state != now.state:
        yield "the state: something was recorded since"
    yield from _changes_between(before, now)
    if _rules(before) != _rules(now):
        yield f"rules that refuse: {_rules(before) or 'none'} → {_rules(now) or 'none'}"


def _changes_between(before: SavedPlan, now: SavedPlan) -> Iterator[str]:
    old, new = _by_agent(before), _by_agent(now)
    for agent in sorted(old.keys() | new.keys()):
        if old.get(agent) != new.get(agent):
            was, is_ = ("; ".join(said for _, said, _ in found.get(agent, ())) or "no change" for found in (old, new))
            yield f"{agent}: {was} → {is_}" if was != is_ else f"{agent}: {is_}, by another training key"


def _by_agent(plan: SavedPlan) -> dict[str, list[tuple[str, str, tuple[tuple[str, bool], ...]]]]:
    found: dict[str, list[tuple[str, str, tuple[tuple[str, bool], ...]]]] = {}
    for change in plan.changes:
        keys = tuple((one.key, one.taken) for one in change.candidates)
        found.setdefault(change.agent, []).append((change.action, change.summary, keys))
    return found


def _rules(plan: SavedPlan) -> str:
    named = (
        f"{r.refusal.rule} for {r.refusal.agent or 'all agents'}{'' if r.stands else ' (allowed)'}"
        for r in plan.rulings
    )
    return ", ".join(named)
