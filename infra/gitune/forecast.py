"""What a training will take, before it is paid for: examples, tokens, dollars and minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gitune.dataset.build import Dataset
from gitune.dataset.stats import Stats, dataset_stats, known_stats
from gitune.dataset.tokens import TokenCounter, token_counter
from gitune.errors import GituneError
from gitune.prices import Range, Tokens
from gitune.project import Project
from gitune.providers.base import Estimate, TrainingRequest


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

    def lines(self) -> tuple[str, ...]:
        """For people, most important first."""
        mark = "about " if self.tokens.estimated else ""
        said = [f"{mark}{self.tokens.count:,} tokens, each read once an epoch"]
        said += [f"{provider}: {describe_estimate(estimate)}" for provider, estimate in self.estimates]
        said += self.shortfalls
        if self.dropped:
            said.append(f"{self.dropped:,} example(s) dropped by rules: see findings.jsonl in the dataset's folder")
        return tuple(said)

    def as_dict(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "tokens": self.tokens.count,
            "tokens_estimated": self.tokens.estimated,
            "shortfalls": list(self.shortfalls),
            "dropped": self.dropped,
            "estimates": [{"provider": p, "usd": e.usd, "minutes": e.minutes} for p, e in self.estimates],
        }


def forecast(dataset: Dataset, requests: Sequence[TrainingRequest], project: Project) -> Forecast:
    """Tokens by the first candidate's own tokenizer where it is here; counted once for each dataset. Calls nobody."""
    tokens = training_tokens(dataset, requests[0].base_model, project)
    assembled = dataset.assembled
    return Forecast(
        examples=len(dataset.train),
        tokens=tokens,
        shortfalls=assembled.choice.shortfalls,
        dropped=sum(finding.dropped for finding in assembled.findings),
        estimates=tuple((request.provider, _estimate(project, request, tokens)) for request in requests),
    )


def training_tokens(dataset: Dataset, base_model: str, project: Project) -> Tokens:
    """Of the examples that are trained on, once."""
    cache = project.state_folder / "stats"
    counter = _counter(base_model)
    stats = dataset_stats(dataset.assembled.examples, counter, fingerprint=dataset.fingerprint, cache=cache)
    return _trained_on(stats, len(dataset.train))


def recorded_estimate(request: TrainingRequest, examples: int, project: Project) -> Estimate:
    """The estimate of a training of so many examples whose plan was made on this machine; else unknown."""
    stats = known_stats(request.fingerprint, _counter(request.base_model), project.state_folder / "stats")
    return _estimate(project, request, _trained_on(stats, examples) if stats else None)


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


def _trained_on(stats: Stats, examples: int) -> Tokens:
    """All tokens, less the share that is held back."""
    return Tokens(round(stats.tokens * examples / max(stats.examples, 1)), stats.estimated)


def _estimate(project: Project, request: TrainingRequest, tokens: Tokens | None) -> Estimate:
    try:
        return project.provider(request.provider).estimate(request, tokens)
    except GituneError:
        return Estimate(usd=None, minutes=None)
