"""What trainings cost: remembered after state and locks have forgotten them, and never counted twice.

State and locks know only each agent's latest training. So every training's end is also noted in the stack's store, one
small file for each job, named by its training key: whoever notes it again finds the file. Clones that share a store
share these notes; for the others, and for what was trained before, git's history of the locks tells.

    <store>/spending/<training key>-<hash of the job's ID>.json    or .unknown.json, while its cost is
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gitune.dataset.store import Store
from gitune.errors import InvalidInput
from gitune.forecast import recorded_estimate
from gitune.git import read_blobs, side_changes
from gitune.hashing import canonical_json, sha256
from gitune.lock import Lock, parse_lock, read_lock
from gitune.prices import Range
from gitune.project import Project
from gitune.providers.base import TrainingRequest
from gitune.reconcile import ModelState
from gitune.state import RESOURCE_PREFIX, resource_outputs

_FOLDER = "spending"


@dataclass(frozen=True, slots=True)
class Spending:
    """What one ended job cost."""

    agent: str
    provider: str
    key: str
    """The training key."""
    job_id: str
    ended: datetime
    """UTC; when gitune first saw its end."""
    cost_usd: float | None
    """As the provider told it; None is unknown, never 0."""
    estimated_usd: Range | None

    @property
    def month(self) -> str:
        """Such as 2026-11."""
        return f"{self.ended:%Y-%m}"

    @property
    def job(self) -> tuple[str, str]:
        """What tells it from all others, whoever saw it."""
        return self.key, self.job_id

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ended": self.ended.isoformat(timespec="seconds")}


@dataclass(frozen=True, slots=True)
class Sum:
    """The trainings of one agent on one provider."""

    agent: str
    provider: str
    trainings: int
    spent_usd: float
    """Of those whose cost is known."""
    unknown: int
    """Trainings whose cost is not known."""
    estimated_usd: float | None
    """Expected dollars of those that had an estimate; None where none had."""
    estimated: int
    """How many had one."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_spendings(project: Project, deployment: Mapping[str, Any]) -> tuple[Spending, ...]:
    """Every ended job that anything tells of, oldest first. Raises UserError when the store cannot be read."""
    found: dict[tuple[str, str], Spending] = {}
    for spending in _noted(Store.of(project)):
        found[spending.job] = _merged(found.get(spending.job), spending)
    for spending, outputs in _in_state(deployment):
        before = found.get(spending.job)
        found[spending.job] = _merged(before, spending) if before else _estimated(spending, outputs, project)
    keys = {spending.key for spending in found.values()}
    for spending in _in_locks(project):
        if spending.key not in keys:
            found[spending.job] = spending
            keys.add(spending.key)
    return tuple(sorted(found.values(), key=lambda spending: (spending.ended, *spending.job)))


def note_spendings(project: Project, deployment: Mapping[str, Any]) -> tuple[Spending, ...]:
    """Note in the store what the recorded state tells of ended jobs and no note has yet. Returns what was noted.

    To be called after each pass of the engine: the next one may supersede a training. May be repeated, by anybody;
    where nothing is new, the names of the notes are listed and that is all. Raises UserError.
    """
    store = Store.of(project)
    names = store.note_names(_FOLDER)
    new = []
    for spending, outputs in _in_state(deployment):
        if not names.isdisjoint((_name(spending), _name(spending, known=True))):
            continue
        new.append(_estimated(spending, outputs, project))
        store.put_note(f"{_FOLDER}/{_name(spending)}", canonical_json(new[-1].as_dict()) + "\n")
    return tuple(new)


def running_usd(project: Project, deployment: Mapping[str, Any]) -> float:
    """The high estimates of the jobs that still run: dollars that are committed, though nobody has paid them yet.

    A job whose tokens were never counted on this machine has no estimate, and is not in the sum.
    """
    total = 0.0
    for outputs in resource_outputs(deployment, "FineTunedModel").values():
        if ModelState.from_outputs(outputs).status == "running":
            usd = _estimate(project, outputs)
            total += usd[2] if usd else 0.0
    return total


def month_usd(spendings: Iterable[Spending], month: str) -> float:
    """Dollars known to be spent in a month such as 2026-11."""
    return sum((spending.cost_usd or 0.0 for spending in spendings if spending.month == month), 0.0)


def this_month(now: datetime | None = None) -> str:
    """The calendar month in UTC."""
    return f"{(now or datetime.now(UTC)):%Y-%m}"


def sums(spendings: Iterable[Spending]) -> tuple[Sum, ...]:
    """One for each agent and provider, by name."""
    groups: dict[tuple[str, str], list[Spending]] = {}
    for spending in spendings:
        groups.setdefault((spending.agent, spending.provider), []).append(spending)
    return tuple(_sum(agent, provider, group) for (agent, provider), group in sorted(groups.items()))


def _sum(agent: str, provider: str, group: list[Spending]) -> Sum:
    costs = [spending.cost_usd for spending in group if spending.cost_usd is not None]
    estimates = [spending.estimated_usd[1] for spending in group if spending.estimated_usd is not None]
    return Sum(
        agent=agent,
        provider=provider,
        trainings=len(group),
        spent_usd=round(sum(costs), 6),
        unknown=len(group) - len(costs),
        estimated_usd=round(sum(estimates), 6) if estimates else None,
        estimated=len(estimates),
    )


def _merged(before: Spending | None, now: Spending) -> Spending:
    """Of one job: a cost that is told later completes what was noted; it ended when its end was first seen."""
    if before is None:
        return now
    cost = now.cost_usd if before.cost_usd is None else before.cost_usd
    return replace(before, cost_usd=cost, ended=min(before.ended, now.ended))


def _name(spending: Spending, *, known: bool = False) -> str:
    """Of its note. Nothing is written over: a cost that is told later makes a second note."""
    unknown = "" if known or spending.cost_usd is not None else ".unknown"
    return f"{spending.key}-{sha256([spending.job_id])[:8]}{unknown}.json"


def _noted(store: Store) -> list[Spending]:
    """What is in the store. A file that is no note is left alone."""
    found = []
    for data in store.notes(_FOLDER).values():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            facts = json.loads(data)
            estimated = tuple(facts["estimated_usd"]) if facts["estimated_usd"] else None
            ended = datetime.fromisoformat(facts["ended"]).astimezone(UTC)
            found.append(Spending(**{**facts, "ended": ended, "estimated_usd": estimated}))
    return found


def _in_state(deployment: Mapping[str, Any]) -> Iterator[tuple[Spending, Mapping[str, Any]]]:
    """Jobs of the recorded state that ended, without an estimate, and the outputs that tell of them."""
    for resource in deployment.get("resources", ()):
        outputs = resource.get("outputs", {})
        if resource["type"] != f"{RESOURCE_PREFIX}FineTunedModel" or "agent" not in outputs:
            continue
        state = ModelState.from_outputs(outputs)
        if state.status in ("succeeded", "failed") and state.job_id:
            ended = datetime.fromisoformat(resource["modified"]) if "modified" in resource else datetime.now(UTC)
            where = (outputs["agent"], state.provider, state.key, state.job_id)
            yield _spending(*where, ended, state.cost_usd, None), outputs


def _estimated(spending: Spending, outputs: Mapping[str, Any], project: Project) -> Spending:
    return replace(spending, estimated_usd=_estimate(project, outputs))


def _estimate(project: Project, outputs: Mapping[str, Any]) -> Range | None:
    """Of the recorded job, if its plan was made on this machine."""
    candidate = next((c for c in outputs.get("candidates", ()) if c["key"] == outputs.get("key")), None)
    if candidate is None:
        return None
    request = TrainingRequest.from_recorded(candidate, outputs["fingerprint"])
    return recorded_estimate(request, project).usd


def _in_locks(project: Project) -> list[Spending]:
    """Of every version of every lock, oldest first. A model that was adopted was paid for elsewhere."""
    found = []
    commits = side_changes(project.root, f"{project.stack.locks}/*/model.lock.yaml")
    texts = read_blobs(project.root, [change.blob for commit in commits for change in commit.changes if change.blob])
    for commit in reversed(commits):
        for change in commit.changes:
            if change.blob in texts:
                with contextlib.suppress(InvalidInput):
                    found.append((parse_lock(texts[change.blob], change.file), commit.when))
    for path in sorted((project.root / project.stack.locks).glob("*/model.lock.yaml")):
        lock = read_lock(path)
        if lock is not None:  # not committed yet, or it is among those above
            found.append((lock, datetime.fromtimestamp(path.stat().st_mtime, UTC)))
    return [_of_lock(lock, when) for lock, when in found if lock.job.get("key")]


def _of_lock(lock: Lock, when: datetime) -> Spending:
    estimated = lock.job.get("estimated_usd")
    usd = tuple(estimated) if estimated else None
    return _spending(lock.agent, lock.provider, lock.job["key"], lock.job["id"], when, lock.job.get("cost_usd"), usd)


def _spending(
    agent: str, provider: str, key: str, job_id: str, ended: datetime, cost: float | None, estimated: Any
) -> Spending:
    """As a note has it: whole seconds, so that what is read back is what was written."""
    ended = ended.astimezone(UTC).replace(microsecond=0)
    return Spending(agent, provider, key, job_id, ended, None if cost is None else float(cost), estimated)
