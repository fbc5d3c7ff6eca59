"""What lies between two datasets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitune.dataset.manifest import TRAIN_FILE, VALIDATION_FILE

_SHOWN = 10  # examples of each kind on a terminal


@dataclass(frozen=True, slots=True)
class Comparison:
    """Canonical lines that only one side has, and how often each answer stands on either side."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[tuple[str, str], ...]
    """The same prompt with another answer: (before, after)."""
    answers: Mapping[str, tuple[int, int]]
    """Answers whose count moved: (before, after)."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def recorded_lines(folder: Path) -> list[str]:
    """The examples of a dataset, as they were written."""
    texts = ((folder / name).read_text(encoding="utf-8") for name in (TRAIN_FILE, VALIDATION_FILE))
    return [line for text in texts for line in text.split("\n") if line]


def compare(before: Sequence[str], after: Sequence[str]) -> Comparison:
    """Pure: an example whose prompt is on both sides with another answer is changed, not added and removed."""
    old, new = set(before), set(after)
    removed = {_prompt(line): line for line in sorted(old - new)}
    added = {_prompt(line): line for line in sorted(new - old)}
    both = sorted(removed.keys() & added.keys())
    counts = Counter(map(_answer, before)), Counter(map(_answer, after))
    moved = sorted(a for a in counts[0].keys() | counts[1].keys() if counts[0][a] != counts[1][a])
    return Comparison(
        added=tuple(line for prompt, line in added.items() if prompt not in both),
        removed=tuple(line for prompt, line in removed.items() if prompt not in both),
        changed=tuple((removed[prompt], added[prompt]) for prompt in both),
        answers={answer: (counts[0][answer], counts[1][answer]) for answer in moved},
    )


def comparison_text(comparison: Comparison) -> str:
    """For a terminal: counts first, then some examples of each kind."""
    lines = [
        f"{len(comparison.added)} added, {len(comparison.removed)} removed, {len(comparison.changed)} changed",
    ]
    for sign, examples in (("+", comparison.added), ("-", comparison.removed)):
        lines += [f"{sign} {_one_line(line)}" for line in examples[:_SHOWN]]
        if len(examples) > _SHOWN:
            lines.append(f"{sign} and {len(examples) - _SHOWN} more: --json shows all")
    lines += [f"~ {_one_line(old)} => {_short(_answer(new))}" for old, new in comparison.changed[:_SHOWN]]
    lines += [
        f"answer {_short(answer)}: {before} → {after}"
        for answer, (before, after) in list(comparison.answers.items())[:_SHOWN]
    ]
    return "\n".join(lines)


def _messages(line: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(line)["messages"]
    return messages


def _prompt(line: str) -> str:
    return json.dumps(_messages(line)[:-1], sort_keys=True)


def _answer(line: str) -> str:
    return str(_messages(line)[-1].get("content") or "")


def _one_line(line: str) -> str:
    said = next((m["content"] for m in reversed(_messages(line)[:-1]) if m["role"] == "user"), "")
    return f"{_short(said)} => {_short(_answer(line))}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 70 else f"{flat[:69]}…"
