"""What a rule is: a pure function over examples that says which of them are wrong, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from gitune.dataset.chat import Example
from gitune.errors import Problem
from gitune.spec import RuleId, Severity

if TYPE_CHECKING:  # cases are made of messages: importing them here would go in a circle
    from gitune.benchmark.cases import Case

NEAR = 0.9
"""Jaccard similarity, 0 to 1, from which two texts are near: in 60 letters, one changed word of five is 0.7."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule's word on one example: `index` is its place in the sequence that the rule was given."""

    index: int
    message: str
    hint: str
    at: tuple[str, int] | None = None
    """File and line to mend, where that is not the example's own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A hit with its consequence. `file` and `line` are the example's."""

    rule: RuleId
    severity: Severity
    file: str
    line: int
    message: str
    hint: str
    dropped: bool
    at: tuple[str, int] | None = None

    def problem(self) -> Problem:
        """As it is shown to the user."""
        file, line = self.at or (self.file, self.line)
        return Problem(file, line, self.message, f"{self.hint}; dataset.rules.{self.rule} decides what happens")


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of each example, chat template included."""

    tokens: Sequence[int]
    by: str
    """What counted, for people."""
    at_least: bool = False
    """It was estimated: there may be more tokens, but hardly fewer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the rules need to know beyond the examples."""

    severities: Mapping[RuleId, Severity] = field(default_factory=dict)
    """Of agent.yaml; what is left out takes its default."""
    near: float = NEAR
    language: str | None = None
    """ISO 639-1 code that every example is written in; None: not declared, not checked."""
    max_tokens: int | None = None
    """Longest example that the base model can train on, in tokens; None: unknown, not checked."""
    count_tokens: Callable[[Sequence[Example]], Counts] | None = None
    """See lengths.py; None: not checked."""
    cases_file: str = "benchmark cases"
    """As it is shown in findings."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule sees besides the examples."""

    cases: Sequence[Case]
    settings: Settings


Rule: TypeAlias = Callable[[Sequence[Example], Context], Iterable[Hit]]

# Leaks and secrets stop a plan, because they cannot be taken back once a provider has the file. Rules that judge
# rather than know (near duplicates, contradictions, encoding, language) tell: two good answers to one question are
# noise for a router and wanted variety for a writer.
DEFAULTS: Mapping[RuleId, Severity] = MappingProxyType(
    {
        "schema": "error",
        "encoding": "warn",
        "language": "warn",
        "email": "error",
        "phone": "error",
        "credit-card": "error",
        "api-key": "error",
        "too-long": "error",
        "exact-duplicate": "error",
        "near-duplicate": "warn",
        "contradiction": "warn",
        "leak": "error",
        "near-leak": "error",
    }
)
