"""What can be said of a dataset: its card, and what its base model counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gitune.dataset.build import Dataset
from gitune.dataset.card import CardSource, data_card
from gitune.dataset.rules import Cleaned
from gitune.dataset.rules.report import summarise
from gitune.dataset.stats import Stats, dataset_stats
from gitune.dataset.tokens import token_counter
from gitune.spec import AgentSpec
from gitune.training.base_model import unpacked_base_model

CARD_FILE = "data-card.md"


@dataclass(frozen=True, slots=True)
class Description:
    """Of one dataset, for people and for programs."""

    stats: Stats
    card: str
    """Markdown."""


def describe_dataset(spec: AgentSpec, dataset: Dataset, base_model: str, root: Path) -> Description:
    """Count tokens with the base model's own tokenizer where it is at hand; what was counted before is not again."""
    assembled = dataset.assembled
    counter = token_counter(base_model, unpacked_base_model(base_model))
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
