"""Two versions side by side, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from gitune.benchmark.versions import VersionComparison
from gitune.report.benchmark import benchmarks_markdown, print_comparison
from gitune.report.history import markdown_table, print_table, shown_value
from gitune.report.markdown import escaped
from gitune.report.text import fit

_LONGEST = 1000


def print_versions(comparison: VersionComparison) -> None:
    """What differs between two locks, field by field; then the cases, or why there are none."""
    console = Console(highlight=False, soft_wrap=True)
    rows = _rows(comparison)
    if rows:
        print_table(_titles(comparison), rows)
    for line in _notes(comparison):
        console.print(Text(fit(line, _LONGEST)))
    if comparison.cases is not None:
        console.print()
        print_comparison(comparison.cases)


def versions_markdown(comparison: VersionComparison) -> str:
    """The same as Markdown, with every case that differs; ends with a line feed."""
    rows = _rows(comparison)
    parts = ["\n".join(markdown_table(_titles(comparison), rows))] if rows else []
    parts += ["\n".join(f"- {escaped(line)}" for line in notes)] if (notes := list(_notes(comparison))) else []
    parts += [benchmarks_markdown([comparison.cases], differences=True).rstrip("\n")] if comparison.cases else []
    return "\n\n".join(parts) + "\n"


def _titles(comparison: VersionComparison) -> tuple[str, ...]:
    return "differs", comparison.locks.old, comparison.locks.new


def _rows(comparison: VersionComparison) -> list[tuple[str, ...]]:
    return [(one.field, shown_value(one.old), shown_value(one.new)) for one in comparison.locks.differences]


def _notes(comparison: VersionComparison) -> Iterator[str]:
    if not comparison.locks.differences:
        yield f"the locks of {comparison.locks.old} and {comparison.locks.new} say the same"
    yield from comparison.locks.notes
    if comparison.cases is None:
        yield f"no cases are compared: {comparison.unanswered}"
