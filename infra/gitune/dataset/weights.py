"""Weights of whole examples, which no provider honours: refused, or applied by repeating and leaving out examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from gitune.dataset.chat import Example
from gitune.errors import Problem
from gitune.hashing import sha256


def refused_weights(examples: Iterable[Example]) -> Iterator[Problem]:
    """Every example that wants to count for more or less than one."""
    for example in examples:
        if example.weight != 1.0:
            hint = "declare dataset.weights: sample, which repeats and leaves out examples, or remove the weights"
            message = f"no provider honours the weight {example.weight:g} of an example"
            yield Problem(example.file, example.line, message, hint)


def lines_and_weights(examples: Iterable[Example]) -> dict[str, float]:
    """Each conversation's line without its weight, and the sum of its weights; those of weight 0 are left out."""
    weights: dict[str, float] = {}
    for example in examples:
        if example.weight > 0:
            line = replace(example, weight=1.0).canonical()
            weights[line] = weights.get(line, 0.0) + example.weight
    return weights


def repeated(lines: Sequence[str], weights: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Each line as often as its weight says: first copies in the order of the lines, then second ones, and so on."""
    counts = [copies(line, weights[line], seed) for line in lines]
    rounds = range(max(counts, default=0))
    return tuple(line for n in rounds for line, count in zip(lines, counts, strict=True) if n < count)


def copies(line: str, weight: float, seed: int) -> int:
    """How often a weighted example is trained on: weight 2.3 is 2 copies, and a third for 30 % of the examples.

    Which 30 % is decided by the example's hash alone, so an added example changes no other, and neither the order nor
    the machine matters. Over n examples the total is the sum of weights up to about sqrt(n) / 2 (binomial).
    """
    whole = math.floor(weight)
    share = int(sha256([str(seed), "weight", line])[:16], 16) / 2**64
    return whole + (share < weight - whole)
