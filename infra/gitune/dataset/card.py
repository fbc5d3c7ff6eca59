"""The data card: what a dataset is, in Markdown that a reviewer can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitune.dataset.rules import DEFAULTS
from gitune.dataset.rules.report import Summary
from gitune.dataset.stats import Stats
from gitune.report.text import bar, largest
from gitune.spec import RuleId, Severity

_BAR = 30  # characters of the longest bar


@dataclass(frozen=True, slots=True)
class CardSource:
    """One source as the card shows it. `sha256` is of the file's bytes, where it was recorded."""

    path: str
    licence: str | None
    examples: int
    sha256: str | None = None


def data_card(
    agent: str,
    fingerprint: str,
    sources: Sequence[CardSource],
    summary: Summary,
    stats: Stats,
    *,
    train: int,
    validation: int,
    severities: Mapping[RuleId, Severity] | None = None,
) -> str:
    """The whole card; the same for the same dataset, so it holds no date."""
    parts = [
        f"# Dataset of {_cell(agent)}",
        f"Fingerprint `{fingerprint}`: {train:,} examples to train on, {validation:,} held back to follow the loss.",
        "## Sources",
        _table(
            ("source", "licence", "examples", "SHA-256"),
            [
                (s.path, s.licence or "not declared", f"{s.examples:,}", f"`{s.sha256[:16]}`" if s.sha256 else "-")
                for s in sources
            ],
        ),
        "## Rules",
        f"{summary.read:,} examples read, {summary.kept:,} kept, {summary.read - summary.kept:,} dropped.",
        _table(("rule", "on a finding", "findings", "dropped"), _rules(summary, severities or {})),
        "## Tokens",
        f"{stats.describe_tokens()}. Counted by: {_cell(stats.tokenizer)}.",
        _histogram(stats),
    ]
    if stats.categories:
        parts += ["## Categories", _shares("answer", stats.categories)]
    if stats.languages:
        parts += ["## Languages", "Of a sample; `?` is too short to tell.", _shares("language", stats.languages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rules(summary: Summary, severities: Mapping[RuleId, Severity]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for rule, default in DEFAULTS.items():
        severity = severities.get(rule, default)
        dropped = summary.dropped.get(rule, 0)
        found = dropped + summary.errors.get(rule, 0) + summary.warnings.get(rule, 0)
        rows.append((rule, severity, "-" if severity == "off" else f"{found:,}", f"{dropped:,}" if dropped else "-"))
    return rows


def _histogram(stats: Stats) -> str:
    most = max((bucket.examples for bucket in stats.histogram), default=0)
    lines = [
        f"{bucket.up_to:>9,}  {bar(bucket.examples, most, _BAR):<{_BAR}}  {bucket.examples:,}"
        for bucket in stats.histogram
    ]
    return "\n".join(["```", "up to tokens", *lines, "```"]) if lines else ""


def _shares(name: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    rows = [(key, f"{count:,}", f"{count / total:.1%}") for key, count in largest(counts)]
    return _table((name, "examples", "share"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line that cannot leave its cell, nor become markup of the page: answers are data, not text of ours."""
    line = " ".join(text.split())
    cut = line if len(line) <= 80 else f"{line[:79]}…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
