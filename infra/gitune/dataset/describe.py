"""What can be said of a dataset: its card, and what a tokenizer counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gitune.dataset.build import Dataset
from gitune.dataset.card import CardSource, data_card
from gitune.dataset.rules import Cleaned
from gitune.dataset.rules.report import summarise
from gitune.dataset.stats import Stats, dataset_stats
from gitune.dataset.tokens import TokenCounter
from gitune.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class Description:
    """Of one dataset, for people and for programs."""

    stats: Stats
    card: str
    """Markdown."""


def describe_dataset(spec: AgentSpec, dataset: Dataset, counter: TokenCounter, root: Path) -> Description:
    """The card and the facts in it; what the same counter counted before is not counted again."""
    assembled = dataset.assembled
    stats = dataset_stats(
        assembled.examples, counter, fingerprint=dataset.fingerprint, cache=root / ".gitune" / "stats"
    )
    cleaned = Cleaned(assembled.examples, assembled.findings)
    card = data_card(
        spec.name,
        dataset.fingerprint,
        [CardSource(source.file, source.licence, source.examples, source.sha256) for source in assembled.sources],
        summarise(cleaned),
        stats,
        train=len(dataset.train),
        validation=len(dataset.validation),
        severities=spec.dataset.rules,
    )
    return Description(stats, card)
