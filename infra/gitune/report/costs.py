"""What trainings cost and would cost, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gitune.compare import WAIT, Approach, Comparison
from gitune.costs import Spending, Sum, month_usd, sums
from gitune.forecast import describe_cost, describe_minutes
from gitune.stack_spec import Budgets

_HEADER = ("approach", "cost", "with what was spent", "time", "at once", "first")


def costs_dict(
    spendings: Sequence[Spending], shown: Sequence[Spending], month: str, budgets: Budgets
) -> dict[str, Any]:
    """What `gitune costs --json` prints. `month` is the one that the budget is of."""
    spent = month_usd(spendings, month)
    return {
        "sums": [row.as_dict() for row in sums(shown)],
        "total_usd": month_total(shown),
        "unknown": sum(spending.cost_usd is None for spending in shown),
        "month": month,
        "month_usd": round(spent, 6),
        "month_unknown": sum(s.cost_usd is None for s in spendings if s.month == month),
        "budget_usd": budgets.month,
        "left_usd": None if budgets.month is None else round(max(budgets.month - spent, 0.0), 6),
        "trainings": [spending.as_dict() for spending in shown],
    }


def month_total(shown: Sequence[Spending]) -> float:
    """Dollars that are known."""
    return round(sum((spending.cost_usd or 0.0 for spending in shown), 0.0), 6)


def print_costs(spendings: Sequence[Spending], shown: Sequence[Spending], month: str, budgets: Budgets) -> None:
    """A row for each agent and provider, their sum, and what is left of the month's budget."""
    console = Console(highlight=False, soft_wrap=True)
    facts = costs_dict(spendings, shown, month, budgets)
    if shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("agent", "on", "trainings", "spent", "estimated", "unknown"):
            table.add_column(title, justify="left" if title in ("agent", "on") else "right", no_wrap=True)
        for row in sums(shown):
            table.add_row(row.agent, row.provider, str(row.trainings), *_money(row), str(row.unknown or "-"))
        console.print(table)
    console.print(f"total: {_dollars(facts['total_usd'])} for {len(shown)} training(s){_unknown(facts['unknown'])}")
    this = f"{month}: {_dollars(facts['month_usd'])}{_unknown(facts['month_unknown'])}"
    if budgets.month is not None:
        this += f", {_dollars(facts['left_usd'])} left of the budget of {_dollars(budgets.month)}"
    console.print(this, markup=False)


def _money(row: Sum) -> tuple[str, str]:
    if row.estimated_usd is None:
        return _dollars(row.spent_usd), "-"
    share = f" ({row.estimated} of {row.trainings})" if row.estimated < row.trainings else ""
    return _dollars(row.spent_usd), f"{_dollars(row.estimated_usd)}{share}"


def _unknown(count: int) -> str:
    return f", and {count} whose cost is unknown" if count else ""


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}"


def print_comparison(comparison: Comparison) -> None:
    """For a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(_title(comparison), markup=False)
    if not comparison.approaches:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in _HEADER[:-1]:
        table.add_column(title, no_wrap=title == "approach")
    for approach in comparison.approaches:
        table.add_row(approach.name, *_cells(approach, comparison)[1:-1])
    console.print(table)
    for approach in comparison.approaches:  # too long for a column
        name, *_, first = _cells(approach, comparison)
        console.print(f"{name}: {first}", markup=False)


def comparison_markdown(comparison: Comparison) -> str:
    """For a pull request or a report."""
    lines = [_title(comparison)]
    if comparison.approaches:
        rows = [_HEADER, ("---",) * len(_HEADER), *(_cells(a, comparison) for a in comparison.approaches)]
        lines += ["", *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _title(comparison: Comparison) -> str:
    spent = f"spent until now: {_dollars(comparison.spent_usd)}{_unknown(comparison.spent_unknown)}"
    if not comparison.agents:
        return f"nothing remains to be trained; {spent}"
    return f"{len(comparison.agents)} agent(s) to train: {', '.join(comparison.agents)}; {spent}"


def _cells(approach: Approach, comparison: Comparison) -> tuple[str, ...]:
    spent = comparison.spent_usd
    total = tuple(usd + spent for usd in approach.usd) if approach.usd else None
    waits = approach.name == WAIT
    name = f"{approach.name} ({', '.join(approach.base_models)})" if approach.base_models else approach.name
    whole = total if not approach.unknown and not comparison.spent_unknown else None
    return (
        name,
        "nothing yet" if waits else _cost(approach),
        "-" if waits else describe_cost(whole),  # type: ignore[arg-type]
        describe_minutes(approach.minutes),
        str(approach.at_once or "-"),
        "; ".join(_first(approach, len(comparison.agents))) or "ready",
    )


def _cost(approach: Approach) -> str:
    if approach.usd is None or not approach.unknown:
        return describe_cost(approach.usd)
    return f"{describe_cost(approach.usd)}, unknown for {approach.unknown}"


def _first(approach: Approach, agents: int) -> list[str]:
    over = [f"{approach.over_budget} of {agents} over a budget"] if approach.over_budget else []
    return [*approach.needs, *over]
