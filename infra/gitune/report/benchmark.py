"""Benchmarks and comparisons, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gitune.benchmark.comparison import Comparison, Difference
from gitune.benchmark.safety import SafetyEvidence
from gitune.benchmark.safety_gate import judge_safety
from gitune.benchmark.scores import Scores, Unanswered
from gitune.report.markdown import escaped
from gitune.report.text import fit

_TITLES = ("agent", "cases", "baseline", "model", "difference, points", "latency")
_LONGEST = 1000
_MOST_DIFFERENCES = 20
_MOST_UNSAFE = 5
_SHORT = 160


def print_benchmarks(comparisons: Sequence[Comparison]) -> None:
    """One row for each agent; below them what was measured against what, and what to be careful about."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in _TITLES:
        table.add_column(title, no_wrap=True)
    for comparison in comparisons:
        table.add_row(*map(Text, _cells(comparison)))
    console.print(table)
    for comparison in comparisons:
        for line in _notes(comparison):
            console.print(Text(fit(f"{comparison.agent}: {line}", _LONGEST)))


def print_comparison(comparison: Comparison, most: int = _MOST_DIFFERENCES) -> None:
    """The row, then the cases that differ, with both answers: what was lost first."""
    print_benchmarks([comparison])
    console = Console(highlight=False, soft_wrap=True)
    for one in comparison.differences[:most]:
        console.print()
        console.print(Text(fit(f"{one.case_id}: {one.old_value:g} → {one.new_value:g}", _LONGEST)))
        for title, text in _told(one):
            console.print(Text(f"  {title:<9}{fit(text, _LONGEST)}"))
    left = len(comparison.differences) - most
    if left > 0:
        console.print(f"\n{left} more; all of them: --json or --markdown")


def benchmarks_markdown(comparisons: Sequence[Comparison], *, differences: bool = False) -> str:
    """A table, the notes, and the cases that differ if they are wanted; ends with a line feed."""
    parts = ["\n".join(_markdown_table(_TITLES, [_cells(comparison) for comparison in comparisons]))]
    notes = [f"- {escaped(f'{one.agent}: {line}')}" for one in comparisons for line in _notes(one)]
    parts.append("\n".join(notes))
    for comparison in comparisons if differences else ():
        rows = [
            (
                one.case_id,
                one.question,
                one.target,
                f"{one.old_value:g}: {one.old_answer}",
                f"{one.new_value:g}: {one.new_answer}",
            )
            for one in comparison.differences
        ]
        header = ("case", "question", "target", comparison.old_name, comparison.new_name)
        parts.append("\n".join(_markdown_table(header, rows)))
    return "\n\n".join(parts) + "\n"


def _cells(comparison: Comparison) -> tuple[str, ...]:
    new, old = comparison.new, comparison.old
    return (
        comparison.agent,
        f"{len(comparison.cases)}" + (f", {comparison.runs} runs" if comparison.runs > 1 else ""),
        "?" if isinstance(old, Unanswered) else _score(old),
        _score(new),
        _difference(comparison),
        f"{new.latency:.2f} s" if new.latencies else "-",
    )


def _notes(comparison: Comparison) -> Iterator[str]:
    yield f"model {comparison.new_name}; baseline {comparison.old_name}; scorer {comparison.scorer}"
    if comparison.paired is not None:
        count = len(comparison.new.latencies)
        yield f"the interval is of 95 %; the latency is the median of {count} answers, asked one at a time"
    if isinstance(comparison.old, Unanswered):
        yield f"the baseline could not be asked: {comparison.old.reason}"
    for scores in (comparison.new, comparison.old):
        if isinstance(scores, Scores) and scores.missing:
            first = scores.missing[0]
            yield (
                f"{len(scores.missing)} answers of {scores.model_id} are missing, neither right nor wrong; the "
                f"first for case {first.case_id}: {first.reason}; run it again: only these are asked"
            )
    if comparison.new.log:
        yield f"log .gitune/{comparison.new.log}; all: inspect view --log-dir .gitune/logs"
    if comparison.caution:
        yield comparison.caution
    if comparison.safety is not None:
        yield from _safety_notes(comparison.safety)


def _safety_notes(evidence: SafetyEvidence) -> Iterator[str]:
    """Each check, and the answers that a person should read."""
    for check in judge_safety(evidence):
        yield f"safety, {check.name}: {check.outcome}: {check.reason}"
    unsafe = [one for one in evidence.challenger.found if any(one.complied) and one.prompt.label == "harmful"]
    for one in unsafe[:_MOST_UNSAFE]:
        said = "both judges say" if all(one.complied) else "one judge says"
        yield f'{said} that it did {one.prompt.prompt_id}: "{fit(one.answer, _SHORT)}"'
    if len(unsafe) > _MOST_UNSAFE:
        yield f"{len(unsafe) - _MOST_UNSAFE} more such answers; all of them: --json"


def _told(one: Difference) -> Iterator[tuple[str, str]]:
    yield "question", one.question
    yield "target", one.target
    yield "baseline", one.old_answer
    yield "model", one.new_answer


def _score(scores: Scores) -> str:
    return f"{scores.accuracy:.1%}" if scores.scores else "?"


def _difference(comparison: Comparison) -> str:
    if comparison.paired is None:
        return "?"
    found = comparison.paired.interval()
    return f"{found.estimate * 100:+.1f} ({found.low * 100:+.1f} to {found.high * 100:+.1f})"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(escaped, header)) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(map(escaped, row)) + " |"
