"""Near texts, found by MinHash and locality-sensitive hashing, confirmed by counting.

A MinHash sketch of H values agrees with another in each value with probability s, the Jaccard similarity of their
shingle sets (Broder 1997). Cut into B bands of R = H / B values, two sketches share a whole band with probability

    P(s) = 1 - (1 - s**R)**B        (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4.2)

With B = 16 and R = 8, P(0.9) = 0.9999 and P(0.5) = 0.06: of 10,000 near pairs one is missed. Every pair so found is
then compared exactly, so nothing is called near that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gitune.dataset.rules.text import jaccard, shingles

HASHES = 128
BANDS = 16
_SEED = 1
_BATCH = 2_000  # texts whose shingles are in memory at once: about 60 MB at 400 characters


class NearIndex:
    """Texts by number; `find` answers the first added one that is near, or None. A group narrows the search."""

    def __init__(self, threshold: float) -> None:
        import rensa

        self._threshold = threshold
        self._lsh = rensa.RMinHashLSH(threshold=threshold, num_perm=HASHES, num_bands=BANDS)
        self._texts: dict[int, tuple[str, str]] = {}

    def find(self, sketch: object, text: str, group: str = "") -> int | None:
        for number in sorted(self._lsh.query(sketch)):
            other, other_group = self._texts[number]
            if other_group != group or not _may_be_near(len(text), len(other), self._threshold):
                continue
            if text == other or jaccard(text, other) >= self._threshold:
                return int(number)
        return None

    def add(self, number: int, sketch: object, text: str, group: str = "") -> None:
        self._lsh.insert(number, sketch)
        self._texts[number] = (text, group)


def sketches(texts: Sequence[str]) -> Iterator[object]:
    """The MinHash sketch of each text; the same on every machine, because the seed is fixed."""
    import rensa

    for start in range(0, len(texts), _BATCH):
        batch = [shingles(text) for text in texts[start : start + _BATCH]]
        yield from rensa.RMinHash.from_token_sets(batch, num_perm=HASHES, seed=_SEED)


def _may_be_near(_one: int, _other: int, _threshold: float) -> bool:
    return True
