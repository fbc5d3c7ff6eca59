"""Two versions of the locks: what differs between them, and their models case by case where that can still be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gitune.benchmark.comparison import Comparison, compare
from gitune.benchmark.models import NamedLock, NamedModel, agent_of, find_version, model_of, names_version
from gitune.benchmark.run import OnProgress, open_benchmark
from gitune.errors import GituneError, ProviderError, UserError, explain
from gitune.lock_compare import LockComparison, compare_locks
from gitune.lock_facts import read_facts
from gitune.project import Project, checked_agents
from gitune.providers.base import LocalTarget


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """What two locks say, and what their models answered."""

    locks: LockComparison
    cases: Comparison | None
    unanswered: str = ""
    """Why no cases are compared."""

    @property
    def complete(self) -> bool:
        """Whether no answer is missing that may still come."""
        return self.cases is None or self.cases.complete

    def as_dict(self) -> dict[str, Any]:
        cases = self.cases.as_dict() if self.cases else {"unanswered": self.unanswered}
        return {**cases, "locks": self.locks.as_dict()}


def compare_versions(
    project: Project, old: NamedLock, new: NamedLock, agent: str, on_progress: OnProgress, cases: int | None
) -> VersionComparison:
    """Both locks, and the models on the agent's cases; why not, where the agent or a model is gone. Never raises."""
    locks = compare_locks(old.name, old.lock, new.name, new.lock)
    try:
        (spec,) = checked_agents(project, [agent])
        bench = open_benchmark(spec, project, on_progress, cases=cases)
        baseline, model = _models(project, old, new)
        return VersionComparison(locks, compare(bench, model, baseline))
    except GituneError as error:
        return VersionComparison(locks, None, explain(error))


def named_lock(project: Project, text: str) -> NamedLock:
    """The lock that AGENT@VERSION or AGENT means. Raises UserError."""
    if names_version(text):
        return find_version(project, text)
    agent = agent_of(project, text)
    file = project.lock_file(agent)
    if not file.is_file():
        hint = f"run: gitune up -s {project.stack.name}"
        raise UserError(f"{agent} has no model yet in the stack {project.stack.name}", hint=hint)
    return NamedLock(agent, read_facts(file.read_bytes()))


def _models(project: Project, old: NamedLock, new: NamedLock) -> tuple[NamedModel, NamedModel]:
    """What cannot be asked any more may have answered before: its answers are kept under where it was asked."""
    left, right = _model(project, old), _model(project, new)
    return _beside(left, right), _beside(right, left)


def _model(project: Project, named: NamedLock) -> NamedModel:
    try:
        return model_of(project, named)
    except ProviderError as error:
        provider, model_id = named.lock.model or ("", "")
        nowhere = LocalTarget(named.lock.base_model or "", None)
        return NamedModel(provider, model_id, nowhere, named.name, f"{named.name}: {explain(error)}")


def _beside(model: NamedModel, other: NamedModel) -> NamedModel:
    if model.gone and not other.gone and model.provider == other.provider:
        return replace(model, target=other.target)
    return model
