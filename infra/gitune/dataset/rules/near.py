"""Near texts, found by MinHash and locality-sensitive hashing, confirmed by counting.

A MinHash sketch of H values agrees with another in each value with probability s, the Jaccard similarity of their
shingle sets (Broder 1997). Cut into B bands of R = H / B values, two sketches share a whole band with probability

    P(s) = 1 - (1 - s**R)**B        (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2)

With B = 18 and R = 14, P(0.9) = 0.991, P(0.95) = 0.99999 and P(0.65) = 0.04: of 100 pairs just at the threshold one is
missed, of clearer ones none, and texts out of one template, typically at 0.6, are seldom compared. Every pair so found
is then compared exactly, so nothing is called near that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gitune.dataset.rules.text import jaccard, shingles

HASHES = 252
BANDS = 18
_DOUBT = 0.08
"""A sketch's estimate has a standard error of sqrt(s (1 - s) / HASHES), 0.019 at 0.9: below the threshold by more than
four of them, counting is not worth it. Templates make thousands of such pairs."""
_SEED = 1
_BATCH = 2_000  # texts whose shingles are in memory at once: about 60 MB at 400 characters


class NearIndex:
    """Texts by number; `find` answers the first added one that is near, or None. A group narrows the search."""

    def __init__(self, threshold: float) -> None:
        import rensa

        self._threshold = threshold
        self._lsh = rensa.RMinHashLSH(threshold=threshold, num_perm=HASHES, num_bands=BANDS)
        self._texts: dict[int, tuple[str, str, Any]] = {}

    def find(self, sketch: Any, text: str, group: str = "") -> int | None:
        """The number of the first text of the group whose similarity reaches the threshold."""
        hopeful = self._threshold - _DOUBT
        for number in sorted(self._lsh.query(sketch)):
            other, other_group, other_sketch = self._texts[number]
            if other_group != group or sketch.jaccard(other_sketch) < hopeful:
                continue
            if jaccard(text, other) >= self._threshold:
                return int(number)
        return None

    def add(self, number: int, sketch: Any, text: str, group: str = "") -> None:
        """Remember a text."""
        self._lsh.insert(number, sketch)
        self._texts[number] = (text, group, sketch)


def sketches(texts: Sequence[str]) -> Iterator[Any]:
    """The MinHash sketch of each text; the same on every machine, because the seed is fixed."""
    import rensa

    for start in range(0, len(texts), _BATCH):
        batch = [shingles(text) for text in texts[start : start + _BATCH]]
        yield from rensa.RMinHash.from_token_sets(batch, num_perm=HASHES, seed=_SEED)
