"""History and one version of it, for a terminal and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gitune.history import Entry, History
from gitune.lock_facts import LockFacts
from gitune.report.markdown import escaped
from gitune.report.text import fit

_TITLES = (
    "agent",
    "version",
    "what",
    "when",
    "who",
    "pull request",
    "dataset",
    "base model",
    "on",
    "accuracy",
    "verdict",
    "cost",
    "deployed",
    "until",
)
_FIRST = 6
"""So many of them on the first of two lines."""
_LONGEST = 1000
_CELL = 40


def print_history(entries: Sequence[Entry], history: History, left: int) -> None:
    """One row for each change of a lock, newest first; below it what is not shown or not known.

    On a terminal that is too narrow for the row: two lines.
    """
    console = Console(highlight=False, soft_wrap=True)
    rows = [tuple(fit(cell, _CELL) for cell in _cells(entry)) for entry in entries]
    wide = sum(max(map(cell_len, column)) + 2 for column in zip(_TITLES, *rows, strict=True)) - 2
    if console.is_terminal and wide > console.width:
        for row in rows:
            first, second = row[:_FIRST], zip(_TITLES[_FIRST:], row[_FIRST:], strict=True)
            console.print(Text(fit(" ".join(first), console.width), style="bold"))
            below = ", ".join(f"{title} {cell}" for title, cell in second if cell != "-")
            for line in textwrap.wrap(below, console.width - 2):
                console.print(Text(f"  {line}"))
    else:
        print_table(_TITLES, rows)
    for line in _notes(entries, history, left):
        console.print(Text(fit(line, _LONGEST)))


def history_markdown(entries: Sequence[Entry], history: History, left: int) -> str:
    """The same as a table of Markdown, with the model IDs and the commits; ends with a line feed."""
    header = (*_TITLES, "model", "commit")
    rows = [(*_cells(entry), entry.lock.model_id or "-", entry.commit[:12]) for entry in entries]
    notes = [f"- {escaped(line)}" for line in _notes(entries, history, left)]
    references = _TITLES.index("pull request")
    return "\n".join([*markdown_table(header, rows, as_it_is=references), *([""] if notes else []), *notes]) + "\n"


def print_version(entries: Sequence[Entry], history: History) -> None:
    """Everything about one version: what its lock says, then what became of it."""
    console = Console(highlight=False, soft_wrap=True)
    newest = entries[0]
    console.print(Text(fit(_name(newest), _LONGEST), style="bold"))
    for name, value in _flat(newest.lock):
        console.print(Text(f"  {fit(f'{name}: {value}', _LONGEST)}"))
    for line in _life(entries, history):
        console.print(Text(fit(line, _LONGEST)))


def version_markdown(entries: Sequence[Entry], history: History) -> str:
    """The same as Markdown; ends with a line feed."""
    newest = entries[0]
    lines = [f"## {escaped(_name(newest))}", ""]
    lines += markdown_table(("field", "value"), list(_flat(newest.lock)))
    lines += ["", *(f"- {escaped(line)}" for line in _life(entries, history))]
    return "\n".join(lines) + "\n"


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As wide as it is: a terminal wraps it, a file keeps it whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(Text(fit(title, _CELL)), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(fit(cell, _CELL)) for cell in row))
    Console(highlight=False, soft_wrap=True, width=_LONGEST).print(table)


def _name(entry: Entry) -> str:
    return f"{entry.agent} {entry.version or '?'}"


def _cells(entry: Entry) -> tuple[str, ...]:
    lock, cut = entry.lock, entry.kind == "earlier"
    return (
        entry.agent,
        lock.version or "-",
        f"{entry.kind} to {entry.returns_to}" if entry.returns_to not in (None, lock.version) else entry.kind,
        f"by {_day(entry.when)}" if cut else _day(entry.when),
        "?" if cut else _who(entry),
        "?" if cut else entry.pull_request or "-",
        _dataset(lock),
        lock.base_model or "-",
        lock.provider or "-",
        _accuracy(lock),
        lock.verdict or "-",
        "-" if lock.cost_usd is None else f"${lock.cost_usd:.2f}",
        _day(entry.in_production.when) if entry.in_production else "-",
        _until(entry),
    )


def _who(entry: Entry) -> str:
    merged = entry.merged_by
    return entry.author.name if merged is None or merged == entry.author else f"{entry.author.name}, {merged.name}"


def _dataset(lock: LockFacts) -> str:
    examples = "-" if lock.examples is None else f"{lock.examples:,}"
    return f"{lock.fingerprint[:12]} ({examples})" if lock.fingerprint else examples


def _accuracy(lock: LockFacts) -> str:
    if lock.accuracy is None:
        return "-"
    return f"{'?' if lock.base_accuracy is None else f'{lock.base_accuracy:.0%}'} → {lock.accuracy:.0%}"


def _until(entry: Entry) -> str:
    if entry.rolled_back:
        return f"{_day(entry.rolled_back)}, rolled back"
    return _day(entry.replaced) if entry.replaced else "-"


def _notes(entries: Sequence[Entry], history: History, left: int) -> Iterator[str]:
    if not entries:
        yield f"no lock below {history.folder}/ is committed"
    if left:
        yield f"{left} older: --limit {len(entries) + left} shows all"
    for entry in entries:
        if entry.kind == "unreadable":
            yield f"{entry.agent}: the lock of {entry.commit[:12]} cannot be read: {entry.lock.problem}"
    if history.missing:
        yield history.missing


def _life(entries: Sequence[Entry], history: History) -> Iterator[str]:
    for entry in reversed(entries):
        if entry.kind == "earlier":
            yield f"there by {_time(entry.when)}, when this clone was cut, in {entry.commit[:12]}"
        else:
            merged = entry.merged_by
            merger = "" if merged is None or merged == entry.author else f", merged by {merged.name}"
            pull = f", pull request {entry.pull_request}" if entry.pull_request else ""
            yield f"{entry.kind}: {_time(entry.when)} by {entry.author.name}{merger}{pull}, {entry.commit[:12]}"
        for one in entry.deployed:
            yield f"deployed to {one.stage}: {_time(one.when)} by {one.who}, tag {one.tag}"
        if entry.rolled_back:
            yield f"rolled back: {_time(entry.rolled_back)}"
        elif entry.replaced:
            yield f"replaced: {_time(entry.replaced)}"
    if history.missing:
        yield history.missing


def _flat(lock: LockFacts) -> Iterator[tuple[str, str]]:
    if lock.problem:
        yield "problem", lock.problem
    for name, value in lock.data.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{name}.{inner}", shown_value(found)) for inner, found in value.items())
        else:
            yield name, shown_value(value)


def shown_value(value: Any) -> str:
    """A field of a lock in one line."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown_value(found)}" for name, found in value.items()) or "-"
    return "; ".join(map(shown_value, value)) if isinstance(value, list) else str(value)


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, as_it_is: int | None = None
) -> Iterator[str]:
    """Lines of a table whose cells are text and nothing else, but for the column `as_it_is`."""
    yield "| " + " | ".join(map(escaped, header)) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell if place == as_it_is else escaped(cell) for place, cell in enumerate(row)) + " |"
