"""The facts of a dataset on a terminal: bars that fit its width, plain text elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from gitune.dataset.build import Dataset
from gitune.dataset.stats import Stats
from gitune.report.text import bar, fit, largest

_MOST_BAR = 40
_LEAST_BAR = 5  # cells; a shorter one says nothing and is left out
_STYLE = "cyan"


def print_stats(agent: str, dataset: Dataset, stats: Stats, console: Console | None = None) -> None:
    """Sources, tokens, categories and languages, on standard output."""
    console = console or Console(highlight=False, soft_wrap=True)
    sources = Counter(example.file for example in dataset.assembled.examples)
    lines = [
        Text(f"{agent}: {stats.examples:,} examples, {stats.describe_tokens()}"),
        Text(f"dataset {dataset.fingerprint[:12]}, tokens counted by: {fit(stats.tokenizer, 60)}"),
        *_section("tokens, up to", _buckets(stats), console),
        *_section("sources", largest(dict(sources.most_common())), console),
        *_section("categories", largest(stats.categories), console),
        *_section("languages, of a sample; ? is too short to tell", largest(stats.languages), console),
    ]
    for line in lines:
        console.print(line)


def _buckets(stats: Stats) -> list[tuple[str, int]]:
    """Numbers stand to the right."""
    digits = max((len(f"{bucket.up_to:,}") for bucket in stats.histogram), default=0)
    return [(f"{bucket.up_to:>{digits},}", bucket.examples) for bucket in stats.histogram]


def _section(title: str, counts: Sequence[tuple[str, int]], console: Console) -> Iterable[Text]:
    """A row for each count: label, bar, number and share, together at most as wide as the console."""
    if not counts:
        return
    total, most = sum(count for _, count in counts), max(count for _, count in counts)
    numbers = [f"{count:,}" for _, count in counts]
    digits = max(map(len, numbers))
    room = console.width - digits - len("  100.0%") - 4
    wide = min(max(cell_len(label) for label, _ in counts), max(room // 2, 8))
    labels = [label if cell_len(label) <= wide and label.isprintable() else fit(label, wide) for label, _ in counts]
    length = min(room - wide, _MOST_BAR)
    length = length if length >= _LEAST_BAR else 0
    mark = "█" if console.is_terminal and "utf" in console.encoding else "#"
    yield Text(f"\n{title}", style="bold")
    for label, number, (_, count) in zip(labels, numbers, counts, strict=True):
        row = Text(f"{set_cell_size(label, wide)}  ")
        row.append(f"{bar(count, most, length, mark):<{length}}", style=_STYLE)
        row.append(f"  {number:>{digits}}  {count / total if total else 0:>6.1%}")
        yield row
