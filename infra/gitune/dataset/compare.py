"""What lies between two datasets."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE
from gitune.dataset.stats import category_counts
from gitune.report.text import fit, table

_ARROW = " => "
_SHOWN = 10  # examples of each kind on a terminal


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two datasets: what it is called, and its examples as canonical lines."""

    label: str
    fingerprint: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know to trust the comparison."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Canonical lines that only one side has, repeats counted, and how many examples each category has."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[tuple[str, str], ...]
    """The same prompt with another answer, other tools or another weight: (before, after)."""
    categories: Mapping[str, tuple[int, int]]
    """Categories whose count moved: (before, after); empty where answers are texts."""


def recorded_lines(folder: Path) -> list[str]:
    """The examples of a dataset, as they were written."""
    texts = ((folder / name).read_text(encoding="utf-8") for name in (TRAIN_FILE, VALIDATION_FILE))
    return [line for text in texts for line in text.split("\n") if line]


def compare(before: Sequence[str], after: Sequence[str]) -> Comparison:
    """Pure: an example whose prompt is on both sides with another answer is changed, not added and removed."""
    old, new = Counter(before), Counter(after)
    gone, come = _by_prompt(old - new), _by_prompt(new - old)
    pairs = [pair for prompt in sorted(gone.keys() | come.keys()) for pair in zip_longest(gone[prompt], come[prompt])]
    counts = Counter(map(_answer, before)), Counter(map(_answer, after))
    categorical = any(category_counts(count) for count in counts)
    answers = sorted(counts[0].keys() | counts[1].keys()) if categorical else []
    return Comparison(
        added=tuple(new for old, new in pairs if old is None),
        removed=tuple(old for old, new in pairs if new is None),
        changed=tuple((old, new) for old, new in pairs if old is not None and new is not None),
        categories={a: (counts[0][a], counts[1][a]) for a in answers if counts[0][a] != counts[1][a]},
    )


def comparison_dict(comparison: Comparison, before: Side, after: Side) -> dict[str, Any]:
    """For programs: every example of every kind."""
    sides = {"before": before, "after": after}
    return {
        **{
            name: {"label": side.label, "fingerprint": side.fingerprint, "examples": len(side.lines)}
            for name, side in sides.items()
        },
        "notes": list(dict.fromkeys((*before.notes, *after.notes))),
        **asdict(comparison),
    }


def comparison_text(comparison: Comparison, before: Side, after: Side, width: int = 80) -> str:
    """For a terminal of `width` cells: counts first, then some examples of each kind and the categories that moved."""
    lines = [
        f"before: {_named(before)}",
        f"after:  {_named(after)}",
        *(f"note: {note}" for note in dict.fromkeys((*before.notes, *after.notes))),
        f"{len(comparison.added):,} added, {len(comparison.removed):,} removed, {len(comparison.changed):,} changed",
    ]
    if not (comparison.added or comparison.removed or comparison.changed) and before.fingerprint != after.fingerprint:
        lines.append("the same examples, split otherwise into training and validation")
    shown = {
        "+": [_one_line(line, width - 2) for line in comparison.added[:_SHOWN]],
        "-": [_one_line(line, width - 2) for line in comparison.removed[:_SHOWN]],
        "~": [_changed(old, new, width - 2) for old, new in comparison.changed[:_SHOWN]],
    }
    totals = {"+": len(comparison.added), "-": len(comparison.removed), "~": len(comparison.changed)}
    for sign, examples in shown.items():
        lines += [f"{sign} {example}" for example in examples]
        if totals[sign] > _SHOWN:
            lines.append(f"{sign} and {totals[sign] - _SHOWN:,} more: --json shows all")
    if comparison.categories:
        lines += ["", *_categories(comparison, len(before.lines), len(after.lines), width)]
    return "\n".join(lines)


def _named(side: Side) -> str:
    return f"{side.label}: {len(side.lines):,} examples, dataset {side.fingerprint[:12]}"


def _categories(comparison: Comparison, before: int, after: int, width: int) -> list[str]:
    """The largest moves first."""
    moves = sorted(comparison.categories.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))
    rows = [
        (name, f"{old:,}", f"{new:,}", f"{new - old:+,}", f"{_share(old, before)} → {_share(new, after)}")
        for name, (old, new) in moves
    ]
    return table(("category", "before", "after", "", "share"), rows, width)


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"


def _by_prompt(lines: Counter[str]) -> defaultdict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in sorted(lines.elements()):
        found[_prompt(line)].append(line)
    return found


def _messages(line: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(line)["messages"]
    return messages


def _prompt(line: str) -> str:
    return json.dumps(_messages(line)[:-1], sort_keys=True)


def _answer(line: str) -> str:
    return str(_messages(line)[-1].get("content") or "").strip()


def _one_line(line: str, width: int) -> str:
    return _said(line, [_answer(line)], width)


def _changed(old: str, new: str, width: int) -> str:
    if _answer(old) == _answer(new):
        return _said(old, [_answer(old), "(other tools or weights)"], width)
    return _said(old, [_answer(old), _answer(new)], width)


def _said(line: str, answers: Sequence[str], width: int) -> str:
    """The last question and what was answered; the answers first get their room, up to half of the line."""
    question = next((m["content"] for m in reversed(_messages(line)[:-1]) if m["role"] == "user"), "")
    parts = [fit(text, max(width // 2 // len(answers) - 4, 8)) for text in answers]
    room = width - sum(cell_len(part) + len(_ARROW) for part in parts)
    return _ARROW.join((fit(question, max(room, 8)), *parts))
