"""What every agent wants trained, and which of its candidates are ruled out before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gitune.budget import Committed, Training, refusals
from gitune.costs import month_usd, read_spendings, running_usd, this_month
from gitune.dataset import Dataset
from gitune.forecast import estimates
from gitune.prices import Range
from gitune.project import Project, candidates_of, each_checked_agent, training_requests
from gitune.providers.base import TrainingRequest
from gitune.providers.needs import unready
from gitune.reconcile import ModelState
from gitune.spec import AgentSpec
from gitune.stack_spec import Budgets


@dataclass(frozen=True, slots=True)
class Wish:
    """One agent's candidates, in order."""

    spec: AgentSpec
    requests: tuple[TrainingRequest, ...]
    examples: int
    """Trained on, copies by weight included."""
    waits: tuple[float | None, ...]
    """By candidate: seconds that a limit is waited out."""
    refused: tuple[str, ...]
    """By candidate: why it must not be submitted; empty: it may be."""
    costs: tuple[Range | None, ...] = ()
    """By candidate: estimated dollars, where a budget asks for them."""

    @property
    def agent(self) -> str:
        return self.spec.name

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(request.key for request in self.requests)


def read_wishes(project: Project) -> tuple[Wish, ...]:
    """By name, after every file of every agent was checked. Calls nobody. Raises InvalidInput."""
    return tuple(_wish(agent.spec, agent.dataset, project) for agent in each_checked_agent(project))


def wished(project: Project) -> tuple[Wish, ...]:
    """Of a stack that declares models; one that only deploys wants nothing trained, and looks at no data."""
    return read_wishes(project) if "models" in project.stack.declare else ()


def within_budgets(
    wishes: Sequence[Wish], project: Project, recorded: Mapping[str, ModelState], deployment: Mapping[str, Any]
) -> tuple[Wish, ...]:
    """The wishes, without the candidates that a budget does not allow. Raises UserError for a store.

    Decided once for all agents that have yet to be trained, so that it holds whichever candidates they end up with (see
    budget.py). Where there is no budget nothing is asked.
    """
    unpaid = [wish for wish in wishes if wish.costs and not _is_paid(wish, recorded.get(wish.agent))]
    if not unpaid:
        return tuple(wishes)
    month = month_usd(read_spendings(project, deployment), this_month()) + running_usd(project, deployment)
    trainings = [Training(wish.agent, wish.costs, wish.spec.budget_usd) for wish in unpaid]
    over = refusals(trainings, project.stack.budget_usd, Committed(month=month))
    return tuple(_within(wish, over[wish.agent]) if wish.agent in over else wish for wish in wishes)


def _wish(spec: AgentSpec, dataset: Dataset, project: Project) -> Wish:
    requests = training_requests(spec, project, dataset.fingerprint)
    waits = tuple(candidate.wait_seconds for candidate in candidates_of(spec, project.stack))
    refused = tuple(unready(request.provider, project.settings(request.provider)) for request in requests)
    limited = spec.budget_usd is not None or project.stack.budget_usd != Budgets()
    costs = tuple(estimate.usd for estimate in estimates(dataset, requests, project)) if limited else ()
    return Wish(spec, requests, len(dataset.train), waits, refused, costs)


def _within(wish: Wish, over: Iterable[str | None]) -> Wish:
    return replace(wish, refused=tuple(a or b or "" for a, b in zip(wish.refused, over, strict=True)))


def _is_paid(wish: Wish, state: ModelState | None) -> bool:
    return state is not None and state.status in ("running", "succeeded") and state.key in wish.keys
