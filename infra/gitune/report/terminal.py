"""What a person sees of plans and standings: tables and lines on standard output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from gitune.plan import Change
    from gitune.status import AgentStatus
    from gitune.sunset import Notice

_SIGNS = {"train": "+", "deploy": "+", "remove": "-", "stop": "!"}


def change_lines(change: Change) -> Iterable[str]:
    """A change, why, and what it costs."""
    yield f"{_SIGNS.get(change.action, '~')} {change.agent}: {change.summary}"
    yield from (f"    because {reason}" for reason in change.reasons)
    yield from (f"    {line}" for line in (change.forecast.lines() if change.forecast else ()))


def notice_lines(notices: Iterable[Notice]) -> Iterable[str]:
    """Each end that concerns an agent, and what to do next."""
    for notice in notices:
        yield f"! {notice.agent}: {notice.message}"
        yield f"    hint: {notice.hint}"


def print_plan(changes: Iterable[Change], notices: Iterable[Notice] = ()) -> None:
    """The changes in order, what ends at the agents' providers, and what follows from the changes."""
    console = Console(highlight=False, soft_wrap=True)
    changes, notices = tuple(changes), tuple(notices)
    for number, change in enumerate(changes):
        for line in change_lines(change):
            console.print(line, markup=False)
        if all(later.agent != change.agent for later in changes[number + 1 :]):
            for line in notice_lines(notice for notice in notices if notice.agent == change.agent):
                console.print(line, markup=False)
    changed = {change.agent for change in changes}
    for line in notice_lines(notice for notice in notices if notice.agent not in changed):
        console.print(line, markup=False)
    if not changes:
        console.print("no change")
    if any(change.action in ("train", "retrain", "start", "queue", "adopt") for change in changes):
        console.print("each model is then benchmarked, and deployed if it passes its gate")


def print_status(rows: Iterable[AgentStatus]) -> None:
    """One line for each agent, and what ends at its providers."""
    rows = tuple(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agent", "model", "on", "version", "accuracy", "alias", "note"):
        table.add_column(title, no_wrap=title != "note")
    for row in rows:
        accuracy = f"{row.accuracy:.0%}" if row.accuracy is not None else "-"
        table.add_row(row.agent, row.model, row.provider or "-", row.version or "-", accuracy, row.alias_note, row.note)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in notice_lines(notice for row in rows for notice in row.sunset):
        console.print(line, markup=False)
