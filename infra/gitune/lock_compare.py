"""Two locks, field by field: what a reviewer asks before looking at single answers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gitune.lock_facts import LockFacts

_BLOCKS = ("dataset", "hyperparameters", "benchmark", "verdict", "job")
"""Compared field by field; what else is a mapping, as a whole."""
_NOT_COMPARED = frozenset({"agent", "job.id", "job.key", "benchmark.logs", "verdict.reasons"})
"""Of every job another one."""


@dataclass(frozen=True, slots=True)
class LockDifference:
    """A field in which two locks differ; None: one of them does not say."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class LockComparison:
    """Two locks of agents, the older one first as the user named it."""

    old: str
    """What the user calls it."""
    new: str
    differences: tuple[LockDifference, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_locks(old_name: str, old: LockFacts, new_name: str, new: LockFacts) -> LockComparison:
    """What differs in dataset, settings, scores and the rest."""
    found = tuple(_differences(old, new))
    notes = tuple(f"{name} cannot be read: {lock.problem}" for name, lock in _unreadable(old_name, old, new_name, new))
    if old.fingerprint and new.fingerprint and old.fingerprint != new.fingerprint:
        agent = new.data.get("agent", "AGENT")
        notes += (f"the examples that differ: gitune dataset diff {agent} {old.fingerprint} {new.fingerprint}",)
    if _of_other_cases(old, new):
        notes += ("the locks' scores are of different cases: they do not compare",)
    return LockComparison(old_name, new_name, found, notes)


def _unreadable(*pairs: Any) -> Iterator[tuple[str, LockFacts]]:
    for name, lock in (pairs[:2], pairs[2:]):
        if lock.problem:
            yield name, lock


def _of_other_cases(old: LockFacts, new: LockFacts) -> bool:
    cases = [flat.get("benchmark.fingerprint") for flat in (_flat(old), _flat(new))]
    return None not in cases and cases[0] != cases[1]


def _differences(old: LockFacts, new: LockFacts) -> Iterator[LockDifference]:
    before, after = _flat(old), _flat(new)
    for name in dict.fromkeys([*after, *before]):
        if name not in _NOT_COMPARED and before.get(name) != after.get(name):
            yield LockDifference(name, before.get(name), after.get(name))


def _flat(lock: LockFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in lock.data.items():
        if name in _BLOCKS and isinstance(value, Mapping):
            found.update({f"{name}.{inner}": one for inner, one in value.items()})
        else:
            found[name] = value
    return found
