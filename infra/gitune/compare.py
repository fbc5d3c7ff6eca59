"""The status report's table "Options to complete the remaining agents", computed for what remains to be trained now."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from gitune.budget import Committed, Training, first_allowed, refusals
from gitune.costs import month_usd, read_spendings, running_usd, this_month
from gitune.dataset import build_dataset
from gitune.forecast import forecast
from gitune.lock import read_lock
from gitune.prices import Range
from gitune.project import Project, training_request, training_requests
from gitune.providers import PROVIDERS, provider_class
from gitune.providers.base import Estimate, TrainingRequest
from gitune.providers.needs import jobs_at_once, missing
from gitune.providers.settings import ProviderSettings
from gitune.reconcile import ModelState
from gitune.spec import AgentSpec, Candidate
from gitune.state import resource_outputs

AS_DECLARED = "as declared"
WAIT = "wait and retry"


@dataclass(frozen=True, slots=True)
class Approach:
    """One way to train what remains."""

    name: str
    """A provider's, `as declared` (each agent's first candidate that the budgets allow) or `wait and retry`."""
    base_models: tuple[str, ...]
    usd: Range | None
    """Of the agents whose cost is known; None where it is known of none."""
    unknown: int
    """Agents whose cost is not known."""
    minutes: Range | None
    """From the first job's start to the last one's end; None unless it is known of every agent."""
    at_once: int | None
    """Jobs at once that this time is reckoned with; None: all, because the account's limit is not known."""
    over_budget: int
    """Agents that a budget would refuse."""
    needs: tuple[str, ...]
    """What has to be done first; empty: it can be started now, for all that can be told without asking anybody."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What remains to be trained, and the ways to do it: as declared, the others by cost, waiting."""

    agents: tuple[str, ...]
    spent_usd: float
    """On every training until now whose cost is known."""
    spent_unknown: int
    approaches: tuple[Approach, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "approaches": [approach.as_dict() for approach in self.approaches]}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One training, and what it would take."""

    request: TrainingRequest
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class _Remaining:
    """An agent that has yet to be trained."""

    spec: AgentSpec
    state: ModelState | None
    declared: tuple[_Choice, ...]
    """Its candidates, in order."""
    by_provider: Mapping[str, _Choice]
    """Its first candidate on each provider; where it lists none, the provider's defaults."""


def compare(
    project: Project, deployment: Mapping[str, Any], specs: Sequence[AgentSpec], today: date | None = None
) -> Comparison:
    """The table for those of the agents that are neither trained nor being trained. Starts nothing.

    Calls nobody but whom a provider's estimate asks for its prices, and the stack's store for what was spent.
    """
    today = today or datetime.now(UTC).date()
    recorded = {
        agent: ModelState.from_outputs(outputs)
        for agent, outputs in resource_outputs(deployment, "FineTunedModel").items()
    }
    named = {candidate.provider for spec in specs for candidate in spec.training}
    remaining = [left for spec in specs if (left := _remaining(spec, project, recorded.get(spec.name), named))]
    spendings = read_spendings(project, deployment)
    committed = Committed(month=month_usd(spendings, this_month()) + running_usd(project, deployment))
    return Comparison(
        agents=tuple(left.spec.name for left in remaining),
        spent_usd=sum((spending.cost_usd or 0.0 for spending in spendings), 0.0),
        spent_unknown=sum(spending.cost_usd is None for spending in spendings),
        approaches=_approaches(remaining, project, committed, today) if remaining else (),
    )


def _approaches(
    remaining: Sequence[_Remaining], project: Project, committed: Committed, today: date
) -> tuple[Approach, ...]:
    def approach(name: str, choices: Sequence[_Choice]) -> Approach:
        return _approach(name, remaining, choices, project, committed, today)

    declared = approach(AS_DECLARED, _allowed(remaining, project, committed))
    others = [approach(name, [left.by_provider[name] for left in remaining]) for name in remaining[0].by_provider]
    others.sort(key=lambda other: (other.unknown > 0, other.usd[1] if other.usd else 0.0, other.name))
    return (declared, *others, _waiting(remaining))


def _remaining(spec: AgentSpec, project: Project, state: ModelState | None, others: Set[str]) -> _Remaining | None:
    """On its candidates, the built-in providers and `others`.

    None for an agent whose job succeeded or still runs, here or by its lock.
    """
    dataset = build_dataset(spec, project.root)
    declared = training_requests(spec, project, dataset.fingerprint)
    keys = {request.key for request in declared}
    lock = read_lock(project.lock_file(spec.name))
    if state is not None and state.status in ("succeeded", "running") and state.key in keys:
        return None
    if lock is not None and lock.job.get("key") in keys:
        return None
    elsewhere = [*spec.training, *(Candidate(provider=provider) for provider in sorted(PROVIDERS.keys() | others))]
    requests = [*declared, *(training_request(candidate, project, dataset.fingerprint) for candidate in elsewhere)]
    estimates = forecast(dataset, requests, project).estimates
    choices = [_Choice(request, estimate) for request, (_, estimate) in zip(requests, estimates, strict=True)]
    by_provider = {choice.request.provider: choice for choice in reversed(choices)}
    return _Remaining(spec, state, tuple(choices[: len(declared)]), by_provider)


def _allowed(remaining: Sequence[_Remaining], project: Project, committed: Committed) -> list[_Choice]:
    """Each agent's first candidate that the budgets allow; the first of all where they allow none."""
    trainings = [
        Training(left.spec.name, tuple(choice.estimate.usd for choice in left.declared), left.spec.budget_usd)
        for left in remaining
    ]
    reasons = refusals(trainings, project.stack.budget_usd, committed)
    return [left.declared[first_allowed(reasons[left.spec.name]) or 0] for left in remaining]


def _approach(
    name: str,
    remaining: Sequence[_Remaining],
    choices: Sequence[_Choice],
    project: Project,
    committed: Committed,
    today: date,
) -> Approach:
    """Every remaining agent as it is chosen for it."""
    known = [choice.estimate.usd for choice in choices if choice.estimate.usd is not None]
    settings = {choice.request.provider: _settings(project, choice.request.provider) for choice in choices}
    limits = {provider: jobs_at_once(provider, block) for provider, block in settings.items()}
    needs = [(provider, what) for provider, block in settings.items() for what in missing(provider, block, today)]
    trainings = [
        Training(left.spec.name, (choice.estimate.usd,), left.spec.budget_usd)
        for left, choice in zip(remaining, choices, strict=True)
    ]
    refused = refusals(trainings, project.stack.budget_usd, committed)
    return Approach(
        name=name,
        base_models=tuple(sorted({choice.request.base_model for choice in choices})),
        usd=_total(known) if known else None,
        unknown=len(choices) - len(known),
        minutes=_span([(choice.request.provider, choice.estimate.minutes) for choice in choices], limits),
        at_once=next(iter(limits.values())) if len(limits) == 1 else None,
        over_budget=sum(reason is not None for (reason,) in refused.values()),
        needs=tuple(what if len(settings) == 1 else f"{provider}: {what}" for provider, what in needs),
    )


def _settings(project: Project, provider: str) -> ProviderSettings:
    return provider_class(provider).settings.model_validate(project.stack.providers.get(provider, {}))


def _total(costs: Iterable[Range]) -> Range:
    low, expected, high = (sum(values) for values in zip(*costs, strict=True))
    return low, expected, high


def _span(jobs: Sequence[tuple[str, Range | None]], limits: Mapping[str, int | None]) -> Range | None:
    """The providers work side by side, each on so many jobs at once; a free slot takes the next job in order."""
    by_provider: dict[str, list[Range]] = {}
    for provider, minutes in jobs:
        if minutes is None:
            return None
        by_provider.setdefault(provider, []).append(minutes)
    spans = [
        [_last_end([minutes[end] for minutes in times], limits[provider]) for end in range(3)]
        for provider, times in by_provider.items()
    ]
    low, expected, high = (max(ends) for ends in zip(*spans, strict=True))
    return low, expected, high


def _last_end(times: Sequence[float], at_once: int | None) -> float:
    slots = [0.0] * min(at_once or len(times), len(times))
    for minutes in times:
        heapq.heappushpop(slots, slots[0] + minutes)
    return max(slots)


def _waiting(remaining: Sequence[_Remaining]) -> Approach:
    """What waiting changes: a limit of jobs at once frees up by itself, and nothing else does."""
    states = [left.state.status if left.state else "" for left in remaining]
    said = {
        "queued, and go on when other jobs end": states.count("queued"),
        "failed, and will not succeed by waiting": states.count("failed"),
        "not submitted yet": len(states) - states.count("queued") - states.count("failed"),
    }
    needs = tuple(f"{count} {words}" for words, count in said.items() if count)
    return Approach(WAIT, (), (0.0, 0.0, 0.0), 0, None, None, 0, needs)
