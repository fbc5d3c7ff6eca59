"""What a dataset is made of: the facts that price a plan, and show what a change does to it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitune.dataset.chat import Example
from gitune.dataset.rules.content import spoken_language
from gitune.dataset.tokens import TokenCounter
from gitune.files import read_json, write_atomic
from gitune.hashing import canonical_json, sha256

_FORMAT = 1  # of the cached file; a new number counts anew
_MOST_CATEGORIES = 50
"""More distinct answers than that are texts, not categories."""
_LANGUAGE_SAMPLE = 1_000
"""Examples whose language is looked at, by hash: shares to about 3 points (2 standard errors)."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Examples of more tokens than the bucket before, up to and with `up_to`."""

    up_to: int
    examples: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Facts of one set of examples. Percentiles are nearest-rank: the value of an example, never between two."""

    examples: int
    tokens: int
    """Of all examples together, chat template included: one epoch."""
    p50: int
    p95: int
    longest: int
    histogram: tuple[Bucket, ...]
    tokenizer: str
    estimated: bool
    """Counted by rule of thumb, because the base model's tokenizer is not at hand."""
    categories: Mapping[str, int]
    """Examples by answer, most first; empty where answers are texts."""
    languages: Mapping[str, int]
    """Of a sample: examples by ISO 639-1 code, '?' for too short or unsure."""
    turns: int
    """User's messages of all examples together."""

    def describe_tokens(self) -> str:
        """One line: 12,345 tokens (p50 34, p95 120, longest 300)."""
        mark = " (estimated)" if self.estimated else ""
        return f"{self.tokens:,} tokens{mark}, p50 {self.p50:,}, p95 {self.p95:,}, longest {self.longest:,}"


def dataset_stats(
    examples: Sequence[Example], counter: TokenCounter, *, fingerprint: str | None = None, cache: Path | None = None
) -> Stats:
    """Count, or take what was counted before: `cache` is a folder, and a fingerprint and a tokenizer name one file."""
    if cache is None or fingerprint is None:
        return count_stats(examples, counter)
    known = known_stats(fingerprint, counter, cache)
    if known is not None:
        return known
    stats = count_stats(examples, counter)
    write_atomic(_cached(fingerprint, counter, cache), canonical_json(asdict(stats)) + "\n", durable=False)
    return stats


def known_stats(fingerprint: str, counter: TokenCounter, cache: Path) -> Stats | None:
    """What was counted before of a dataset; None if it was not."""
    return _from_json(read_json(_cached(fingerprint, counter, cache)))


def count_stats(examples: Sequence[Example], counter: TokenCounter) -> Stats:
    """All facts; the order of the examples does not matter."""
    tokens = sorted(counter.count(examples))
    return Stats(
        examples=len(examples),
        tokens=sum(tokens),
        p50=percentile(tokens, 0.5),
        p95=percentile(tokens, 0.95),
        longest=tokens[-1] if tokens else 0,
        histogram=histogram(tokens),
        tokenizer=counter.name,
        estimated=counter.estimated,
        categories=categories(examples),
        languages=languages(examples),
        turns=sum(m.role == "user" for example in examples for m in example.messages),
    )


def percentile(ordered: Sequence[int], share: float) -> int:
    """The smallest value that at least `share` of the values do not exceed (Hyndman and Fan 1996, type 1)."""
    if not ordered:
        return 0
    rank = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(rank, 1) - 1]


def histogram(values: Sequence[int]) -> tuple[Bucket, ...]:
    """By powers of two, from the first bucket that holds a value to the last."""
    counts = Counter(max(value - 1, 0).bit_length() for value in values)  # 2^k holds the values above 2^(k-1)
    if not counts:
        return ()
    return tuple(Bucket(2**power, counts[power]) for power in range(min(counts), max(counts) + 1))


def categories(examples: Sequence[Example]) -> dict[str, int]:
    """Examples by last answer, where few answers serve many examples, as in a classifier's dataset."""
    return category_counts(Counter(example.messages[-1].content.strip() for example in examples if example.messages))


def category_counts(answers: Mapping[str, int]) -> dict[str, int]:
    """The answers by count where they are categories; nothing where they are texts."""
    if not answers or len(answers) > _MOST_CATEGORIES or 2 * len(answers) > sum(answers.values()):
        return {}
    return dict(sorted(answers.items(), key=lambda item: (-item[1], item[0])))


def languages(examples: Sequence[Example]) -> dict[str, int]:
    """Examples by language, of those with the smallest hashes: the same sample on every machine."""
    sample = heapq.nsmallest(_LANGUAGE_SAMPLE, examples, key=lambda e: sha256(["language", e.canonical()]))
    counts = Counter(spoken_language(example)[0] or "?" for example in sample)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _cached(fingerprint: str, counter: TokenCounter, cache: Path) -> Path:
    return cache / f"{sha256([str(_FORMAT), fingerprint, counter.identity])[:32]}.json"


def _from_json(value: Any) -> Stats | None:
    """The cached facts; None for a file that is missing, cut short or of another shape."""
    try:
        buckets = tuple(Bucket(**bucket) for bucket in value["histogram"])
        known = Stats(**{**value, "histogram": buckets})
    except (TypeError, KeyError):
        return None
    ordered = {name: sorted(getattr(known, name).items(), key=lambda i: (-i[1], i[0])) for name in _MAPPINGS}
    return Stats(**{**value, "histogram": buckets, **{name: dict(items) for name, items in ordered.items()}})


_MAPPINGS = ("categories", "languages")
