"""Which candidates a budget allows, decided before anything is paid for. Pure.

What counts is an estimate's high end: the team of the status report estimated $96.53, and the bill was $457. A
candidate is allowed only if no budget can be exceeded whichever allowed candidate each agent ends up with, so a
failover needs no second decision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gitune.prices import Range
from gitune.stack_spec import Budgets

_MICRO = 1_000_000  # sums are of whole millionths of a dollar, so that the order of adding changes nothing


@dataclass(frozen=True, slots=True)
class Training:
    """What an agent wants trained: by candidate, in order, the estimated dollars (None: unknown)."""

    agent: str
    usd: tuple[Range | None, ...]
    budget_usd: float | None = None
    """Most that this one training may cost."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Dollars that are gone already: paid, or the high estimate of a job that still runs."""

    plan: float = 0.0
    month: float = 0.0
    """This calendar month, that of the plan included."""


def refusals(
    trainings: Iterable[Training], budgets: Budgets, committed: Committed = Committed()
) -> dict[str, tuple[str | None, ...]]:
    """By agent: for each candidate None where every budget allows it, else why not, in words.

    What certainly costs nothing is always allowed; a cost that is unknown never is, where any budget applies.
    The budgets that agents share go first to each agent's cheapest candidate, the cheapest agents first and those of
    one price by name, then to the dearer candidates in the same order. So no agent is refused for another's wishes,
    the order of `trainings` does not matter, and more in a shared budget never refuses what less of it allowed.
    """
    wanted = {training.agent: training for training in trainings}
    said: dict[str, list[str | None]] = {
        agent: [_refused_alone(usd, training, budgets) for usd in training.usd] for agent, training in wanted.items()
    }
    reserved: dict[str, int] = {}
    total = 0
    for agent, number in _in_turn(wanted.values(), said):
        usd = wanted[agent].usd[number]
        high = _micro(usd[2]) if usd else 0
        before = total - reserved.get(agent, 0)
        total, reserved[agent] = before + high, high  # refused ones too: what follows must not depend on the budget
        if high:
            said[agent][number] = _refused_together(usd, before, budgets, committed)
    return {agent: tuple(reasons) for agent, reasons in said.items()}


def _in_turn(trainings: Iterable[Training], said: dict[str, list[str | None]]) -> list[tuple[str, int]]:
    """(agent, number of the candidate) of what its agent's own budget allows, in the order of sharing."""
    turns: list[tuple[bool, float, str, int]] = []
    for training in trainings:
        allowed = [n for n, reason in enumerate(said[training.agent]) if reason is None]
        highs = [(usd[2], n) for n in allowed if (usd := training.usd[n]) and math.isfinite(usd[2])]
        turns += [(place > 0, high, training.agent, n) for place, (high, n) in enumerate(sorted(highs))]
    return [(agent, number) for _, _, agent, number in sorted(turns)]


def _refused_alone(usd: Range | None, training: Training, budgets: Budgets) -> str | None:
    """What can be said of a candidate without the others."""
    limits = [
        (training.budget_usd, f"the budget for agent {training.agent}"),
        (budgets.plan, "the budget for a plan"),
        (budgets.month, "the budget for a month"),
    ]
    budget, whose = next(((limit, words) for limit, words in limits if limit is not None), (None, ""))
    if budget is None:
        return None
    if usd is None or not math.isfinite(usd[2]):
        return f"cost unknown, and {whose} is ${budget:,.2f}"
    if training.budget_usd is not None and _micro(usd[2]) > _micro(training.budget_usd):
        return f"{_cost(usd)}, over the budget of ${training.budget_usd:,.2f} for agent {training.agent}"
    return None


def _refused_together(usd: Range | None, before: int, budgets: Budgets, committed: Committed) -> str | None:
    """Against the budgets that agents share. `before`, in millionths, is what comes first."""
    for limit, spent, whose in (
        (budgets.plan, committed.plan, "this plan"),
        (budgets.month, committed.month, "this month"),
    ):
        taken = before + _micro(spent)
        if limit is not None and usd is not None and taken + _micro(usd[2]) > _micro(limit):
            first = f"and ${taken / _MICRO:,.2f} spent or planned before it, " if taken else ""
            return f"{_cost(usd)}, {first}over the budget of ${limit:,.2f} for {whose}"
    return None


def _cost(usd: Range) -> str:
    _, expected, high = usd
    return f"${high:,.2f}" if f"{expected:.2f}" == f"{high:.2f}" else f"${expected:,.2f} expected, up to ${high:,.2f}"


def _micro(usd: float) -> int:
    return round(usd * _MICRO)


def first_allowed(reasons: Sequence[str | None]) -> int | None:
    """The number of the first candidate that may be tried; None when all are refused."""
    return next((number for number, reason in enumerate(reasons) if reason is None), None)
