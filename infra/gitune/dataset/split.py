"""Which examples are held back to follow the loss."""

from __future__ import annotations

from collections.abc import Iterable

from gitune.hashing import sha256


def split_examples(lines: Iterable[str], share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(train, validation), both in hash order.

    The held-back examples are those with the smallest SHA-256 over (seed, line), so one added example moves at most
    one other across, and neither the order of the lines nor the machine matters. At least one example stays in train.
    """
    ordered = sorted(lines, key=lambda line: sha256([str(seed), line]))
    held_back = min(round(len(ordered) * share), max(len(ordered) - 1, 0))
    return tuple(ordered[held_back:]), tuple(ordered[:held_back])
