"""What a lock of any age says: read leniently, so that history never breaks on what was written long ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitune.yaml_source import parse_yaml


@dataclass(frozen=True, slots=True)
class LockFacts:
    """A lock as its file had it; None is what it did not say."""

    data: Mapping[str, Any] = field(default_factory=dict)
    """All of it."""
    problem: str = ""
    """Why it cannot be read; then there is no data."""

    @property
    def version(self) -> str | None:
        return _text(self.data.get("version"))

    @property
    def provider(self) -> str | None:
        return _text(self.data.get("provider"))

    @property
    def model_id(self) -> str | None:
        return _text(self.data.get("model_id"))

    @property
    def base_model(self) -> str | None:
        return _text(self.data.get("base_model"))

    @property
    def fingerprint(self) -> str | None:
        """Of the dataset."""
        return _text(self._below("dataset", "fingerprint"))

    @property
    def examples(self) -> int | None:
        count = _number(self._below("dataset", "examples"))
        return None if count is None else int(count)

    @property
    def accuracy(self) -> float | None:
        """0 to 1."""
        return _number(self._below("benchmark", "accuracy"))

    @property
    def base_accuracy(self) -> float | None:
        """Of the base model, 0 to 1."""
        return _number(self._below("benchmark", "base_accuracy"))

    @property
    def verdict(self) -> str | None:
        return _text(self._below("verdict", "outcome"))

    @property
    def cost_usd(self) -> float | None:
        """What the training cost, as the provider told it."""
        return _number(self._below("job", "cost_usd"))

    @property
    def model(self) -> tuple[str, str] | None:
        """(provider, model ID): what makes two locks the same model. None where the lock does not say."""
        return (self.provider or "", self.model_id) if self.model_id else None

    def _below(self, block: str, name: str) -> Any:
        found = self.data.get(block)
        return found.get(name) if isinstance(found, Mapping) else None


def read_facts(text: bytes) -> LockFacts:
    """The lock in a file's bytes. Never raises."""
    source = parse_yaml(text, "")
    if source.problems:
        return LockFacts(problem=source.problems[0].message)
    if not isinstance(source.data, dict):
        return LockFacts(problem="not a lock: no fields")
    return LockFacts({str(name): value for name, value in source.data.items()})


_LARGE = 1e15
"""What is larger, or not a number at all, is no measurement."""


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and abs(value) < _LARGE else None
