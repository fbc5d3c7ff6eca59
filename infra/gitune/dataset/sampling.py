"""How many examples of each class, and which: exact shares and a choice by hash. Pure.

Every example has a place on a ring, its SHA-256; a seed is a point on the ring, and a sample of k is the next k
examples from there. So the order of the input does not matter, a larger sample holds the smaller one, and a collection
that grows by 1 % changes about 1 % of the sample.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

_K = TypeVar("_K", bound=str)
RING_BYTES = 16
ARCS = 64
"""Equal parts of the ring, in order."""


def largest_remainder(total: int, weights: Mapping[_K, int | Fraction], seed: int = 0) -> dict[_K, int]:
    """`total` items dealt in proportion to `weights`, to the last item (Hamilton's method).

    Each gets the whole part of its share; what is left goes one by one to the largest fractions. Ties go by a hash, so
    that no class is favoured for its name; all arithmetic is exact.
    """
    whole = sum(weights.values())
    if total < 0 or whole < 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError("sizes and weights must not be negative")
    if not whole:
        return dict.fromkeys(weights, 0)
    counts: dict[_K, int] = {}
    remainders: dict[_K, int | Fraction] = {}
    for name, weight in weights.items():
        counts[name] = int(total * weight // whole)
        remainders[name] = total * weight % whole
    left = total - sum(counts.values())
    if left:
        for name in sorted(weights, key=lambda name: (-remainders[name], _tie(name, seed), name))[:left]:
            counts[name] += 1
    return counts


def allocate(
    total: int, weights: Mapping[_K, int | Fraction], available: Mapping[_K, int], seed: int = 0
) -> dict[_K, int]:
    """As largest_remainder, but nobody gives more than is `available`: the others fill in, by their weights.

    The counts sum to `total`, or to everything there is of those with a weight.
    """
    counts = dict.fromkeys(weights, 0)
    open_weights = {name: weight for name, weight in weights.items() if weight and available.get(name, 0)}
    left = total
    while left > 0 and open_weights:
        dealt = largest_remainder(left, open_weights, seed)
        for name, count in dealt.items():
            given = min(count, available[name] - counts[name])
            counts[name] += given
            left -= given
        open_weights = {name: weight for name, weight in open_weights.items() if counts[name] < available[name]}
    return counts


def ring_point(seed: int) -> bytes:
    """Where on the ring the choice begins."""
    return hashlib.sha256(f"gitune sample {seed}".encode()).digest()[:RING_BYTES]


def arc_of(place: bytes) -> int:
    """The number of the arc that a place is on: its first six bits."""
    return place[0] >> 2


def ring_order(arc: Callable[[int], Sequence[bytes]], start: bytes) -> Iterator[bytes]:
    """All places from `start` on, once around; `arc` gives the sorted ones of one arc, and is asked when they are due.

    What only begins with a place may stand for it.
    """
    first = arc_of(start)
    here = arc(first)
    cut = bisect_left(here, start)
    yield from here[cut:]
    for number in (*range(first + 1, ARCS), *range(first)):
        yield from arc(number)
    yield from here[:cut]


def exact(shares: Mapping[_K, float]) -> dict[_K, Fraction]:
    """Shares as they were written: 0.1 is a tenth, not the nearest double."""
    return {name: Fraction(repr(float(share))) for name, share in shares.items()}


def _tie(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogatepass")).digest()
