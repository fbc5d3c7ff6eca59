"""What a training will take, before it is paid for: examples, tokens, dollars and minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gitune.dataset.build import Dataset
from gitune.dataset.stats import dataset_stats, known_stats
from gitune.dataset.tokens import TokenCounter, token_counter
from gitune.errors import GituneError
from gitune.prices import Range, Tokens
from gitune.project import Project
from gitune.providers.base import Estimate, TrainingRequest


@dataclass(frozen=True, slots=True)
class Before:
    """What the model in place was trained on, counted by the same tokenizer."""

    examples: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one agent's training on its first candidate; the others' estimates stand ready for a failover."""

    examples: int
    """Trained on, copies by weight included."""
    tokens: Tokens
    """Of these, once."""
    shortfalls: tuple[str, ...]
    """What the mix could not have."""
    dropped: int
    """Examples that rules left out."""
    estimates: tuple[tuple[str, Estimate], ...]
    """By provider, in the order of the candidates."""
    before: Before | None = None
    """Where another dataset was trained on, and its tokens are known."""
    dropped_by: Mapping[str, int] = field(default_factory=dict)
    """By rule, the examples that it left out."""

    def lines(self) -> tuple[str, ...]:
        """For people, most important first."""
        said = [f"{self._size()}, each read once an epoch"]
        said += [f"{provider}: {describe_estimate(estimate)}" for provider, estimate in self.estimates]
        said += self.shortfalls
        if self.dropped:
            said.append(f"{self.dropped:,} example(s) dropped by rules: see findings.jsonl in the dataset's folder")
        return tuple(said)

    def _size(self) -> str:
        mark = "about " if self.tokens.estimated else ""
        if self.before is None:
            return f"{mark}{self.tokens.count:,} tokens"
        examples = f"{self.before.examples:,} → {self.examples:,} examples"
        return f"{examples}, {mark}{self.before.tokens:,} → {self.tokens.count:,} tokens"

    def as_dict(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "tokens": self.tokens.count,
            "tokens_estimated": self.tokens.estimated,
            "before": asdict(self.before) if self.before else None,
            "shortfalls": list(self.shortfalls),
            "dropped": self.dropped,
            "dropped_by": dict(self.dropped_by),
            "estimates": [{"provider": p, "usd": e.usd, "minutes": e.minutes} for p, e in self.estimates],
        }


def forecast(
    dataset: Dataset, requests: Sequence[TrainingRequest], project: Project, before: Before | None = None
) -> Forecast:
    """Tokens by the first candidate's own tokenizer where it is here; counted once for each dataset. Calls nobody."""
    tokens = training_tokens(dataset, requests[0].base_model, project)
    assembled = dataset.assembled
    return Forecast(
        examples=len(dataset.train),
        tokens=tokens,
        shortfalls=assembled.choice.shortfalls,
        dropped=sum(finding.dropped for finding in assembled.findings),
        estimates=tuple((request.provider, _estimate(project, request, tokens)) for request in requests),
        before=before,
        dropped_by=dict(Counter(finding.rule for finding in assembled.findings if finding.dropped)),
    )


def estimates(dataset: Dataset, requests: Sequence[TrainingRequest], project: Project) -> tuple[Estimate, ...]:
    """By candidate, with the first one's tokens. Calls nobody."""
    tokens = training_tokens(dataset, requests[0].base_model, project)
    return tuple(_estimate(project, request, tokens) for request in requests)


def training_tokens(dataset: Dataset, base_model: str, project: Project) -> Tokens:
    """Of the examples that are trained on, once; those of weight 2 twice, those that are held back not at all."""
    examples = dataset.examples_of(dataset.train)
    name, cache = _name(dataset.fingerprint), project.state_folder / "stats"
    stats = dataset_stats(examples, _counter(base_model), fingerprint=name, cache=cache)
    return Tokens(stats.tokens, stats.estimated)


def recorded_tokens(fingerprint: str, base_model: str, project: Project) -> Tokens | None:
    """What `training_tokens` said of a dataset when a plan was made on this machine; else None."""
    stats = known_stats(_name(fingerprint), _counter(base_model), project.state_folder / "stats")
    return Tokens(stats.tokens, stats.estimated) if stats else None


def recorded_estimate(request: TrainingRequest, project: Project) -> Estimate:
    """The estimate of a training whose plan was made on this machine; else unknown."""
    return _estimate(project, request, recorded_tokens(request.fingerprint, request.base_model, project))


def describe_estimate(estimate: Estimate) -> str:
    """Cost and time as people say them; what is unknown is called unknown."""
    return f"{describe_cost(estimate.usd)}, {describe_minutes(estimate.minutes)}"


def describe_cost(usd: Range | None) -> str:
    """Dollars: "$4.00", "$4.00 ($3.10 to $6.00)", "no cost" or "cost unknown"."""
    if usd is None:
        return "cost unknown"
    low, expected, high = usd
    if high == 0:
        return "no cost"
    spread = f" (${low:,.2f} to ${high:,.2f})" if f"{low:.2f}" != f"{high:.2f}" else ""
    return f"${expected:,.2f}{spread}"


def describe_minutes(minutes: Range | None) -> str:
    """Minutes: "20 min (10 to 61)", "about a minute" or "time unknown"."""
    if minutes is None:
        return "time unknown"
    low, expected, high = minutes
    return f"{expected:,.0f} min ({low:,.0f} to {high:,.0f})" if expected >= 1 else "about a minute"


def _counter(base_model: str) -> TokenCounter:
    from gitune.training.base_model import unpacked_base_model

    return token_counter(base_model, unpacked_base_model(base_model))


def _name(fingerprint: str) -> str:
    """Of the cached facts: not of the whole dataset, but of what is trained on."""
    return f"{fingerprint}/train"


def _estimate(project: Project, request: TrainingRequest, tokens: Tokens | None) -> Estimate:
    try:
        return project.provider(request.provider).estimate(request, tokens)
    except GituneError:
        return Estimate(usd=None, minutes=None)
