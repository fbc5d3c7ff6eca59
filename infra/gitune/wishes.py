"""What every agent wants trained, and which of its candidates are ruled out before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from gitune.spec import AgentSpec, Budgets


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

    @property
    def agent(self) -> str:
        return self.spec.name

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(request.key for request in self.requests)


def read_wishes(
    project: Project, recorded: Mapping[str, ModelState], deployment: Mapping[str, Any]
) -> tuple[Wish, ...]:
    """By name, after every file of every agent was checked. Raises InvalidInput, or UserError for a store.

    Budgets are applied here, once for all agents that have yet to be trained; so they hold whichever candidates the
    agents end up with (see budget.py). Nothing is estimated where there is no budget.
    """
    wishes: list[Wish] = []
    costs: dict[str, tuple[Range | None, ...]] = {}
    shared = project.stack.budget_usd != Budgets()
    for agent in each_checked_agent(project):
        wish = _wish(agent.spec, agent.dataset, project)
        wishes.append(wish)
        if (shared or agent.spec.budget_usd is not None) and not _is_paid(wish, recorded.get(wish.agent)):
            costs[wish.agent] = tuple(e.usd for e in estimates(agent.dataset, wish.requests, project))
    if not costs:
        return tuple(wishes)
    month = month_usd(read_spendings(project, deployment), this_month()) + running_usd(project, deployment)
    trainings = [Training(w.agent, costs[w.agent], w.spec.budget_usd) for w in wishes if w.agent in costs]
    over = refusals(trainings, project.stack.budget_usd, Committed(month=month))
    return tuple(_within(wish, over[wish.agent]) if wish.agent in over else wish for wish in wishes)


def _wish(spec: AgentSpec, dataset: Dataset, project: Project) -> Wish:
    requests = training_requests(spec, project, dataset.fingerprint)
    waits = tuple(candidate.wait_seconds for candidate in candidates_of(spec, project.stack))
    refused = tuple(unready(request.provider, project.settings(request.provider)) for request in requests)
    return Wish(spec, requests, len(dataset.train), waits, refused)


def _within(wish: Wish, over: Iterable[str | None]) -> Wish:
    return replace(wish, refused=tuple(a or b or "" for a, b in zip(wish.refused, over, strict=True)))


def _is_paid(wish: Wish, state: ModelState | None) -> bool:
    return state is not None and state.status in ("running", "succeeded") and state.key in wish.keys
