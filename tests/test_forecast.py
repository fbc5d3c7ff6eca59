"""What a training will take is said before it is paid for, and unknown is said to be unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gitune.dataset import build_dataset
from gitune.dataset.tokens import token_counter
from gitune.forecast import describe_cost, describe_estimate, forecast, recorded_estimate
from gitune.plan import explain_step
from gitune.project import Project, training_requests
from gitune.providers.base import Estimate
from gitune.round import Round, take_round
from gitune.spec import load_agents
from gitune.stack import Step
from gitune.training.base_model import DEFAULT_BASE_MODEL, unpacked_base_model
from gitune.wishes import Wish, read_wishes
from tests.conftest import STACK, Repository, Result, agent_yaml, example


def _agent(repository: Repository, **dataset: object) -> None:
    training = [
        {"provider": "mistral"},
        {"provider": "openai", "hyperparameters": {"n_epochs": "auto"}},
        {"provider": "local"},
    ]
    sources = [{"path": "data/train.jsonl"}]
    repository.add_agent(
        "qa", agent_yaml(training=training, dataset={"sources": sources, "validation": 0.25, **dataset})
    )
    config = {key: value for key, value in STACK["config"].items() if key != "gitune:provider"}
    (repository.root / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": config}))


def test_each_candidate_is_estimated_and_none_is_asked(repository: Repository) -> None:
    _agent(repository, examples=30)
    project, (spec,) = Project.open("dev", repository.root), load_agents(repository.root)
    dataset = build_dataset(spec, repository.root)
    requests = training_requests(spec, project, dataset.fingerprint)
    told = forecast(dataset, requests, project)
    assert told.examples == 18
    assert [provider for provider, _ in told.estimates] == ["mistral", "openai", "local"]
    assert [estimate.usd for _, estimate in told.estimates] == [(4.0, 4.0, 4.0), None, (0.0, 0.0, 0.0)]
    lines = "\n".join(told.lines())
    assert "about " in lines  # Mistral's tokenizer is not in the base installation
    assert "mistral: $4.00, time unknown" in lines
    assert "openai: cost unknown" in lines
    assert "30 of agent 'qa' wanted, 24 there" in lines
    assert recorded_estimate(requests[0], project).usd == (4.0, 4.0, 4.0)
    json.dumps(told.as_dict())


def test_what_rules_dropped_is_counted(repository: Repository, gitune: Callable[..., Result]) -> None:
    _agent(repository, rules={"email": "drop"})
    train = repository.root / "agents" / "qa" / "data" / "train.jsonl"
    rows = train.read_text().splitlines()
    train.write_text("\n".join([rows[0].replace("message 0", "write to jo@company.org"), *rows[1:]]) + "\n")
    project, (spec,) = Project.open("dev", repository.root), load_agents(repository.root)
    dataset = build_dataset(spec, repository.root)
    told = forecast(dataset, training_requests(spec, project, dataset.fingerprint), project)
    assert told.dropped == 1
    assert "1 example(s) dropped by rules" in "\n".join(told.lines())


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(None, None), "cost unknown, time unknown"),
        (Estimate((0, 0, 0), (0.2, 0.4, 0.6)), "no cost, about a minute"),
        (Estimate((4, 4, 4), (10, 20.2, 61)), "$4.00, 20 min (10 to 61)"),
        (Estimate((3.1, 4, 1234.5), None), "$4.00 ($3.10 to $1,234.50), time unknown"),
    ],
)
def test_estimates_in_words(estimate: Estimate, words: str, tmp_path: Path) -> None:
    assert describe_estimate(estimate) == words
    assert describe_cost(estimate.usd) in words


def test_tokens_are_of_what_is_trained_on(repository: Repository) -> None:
    sources = {"sources": [{"path": "data/train.jsonl"}], "validation": 0.5, "weights": "sample"}
    rows = [{**example("word " * 10 * (i + 1), "a"), "weight": 3 if i % 2 else 0} for i in range(8)]
    repository.add_agent("qa", agent_yaml(dataset=sources), rows)
    project, (spec,) = Project.open("dev", repository.root), load_agents(repository.root)
    dataset = build_dataset(spec, repository.root)
    told = forecast(dataset, training_requests(spec, project, dataset.fingerprint), project)
    assert (told.examples, len(dataset.validation)) == (6, 2)  # two examples, three times each
    counter = token_counter(DEFAULT_BASE_MODEL, unpacked_base_model(DEFAULT_BASE_MODEL))
    assert told.tokens.count == sum(counter.count(dataset.examples_of(dataset.train)))


def _round(project: Project) -> tuple[dict[str, Wish], Round]:
    wishes = read_wishes(project)
    return {wish.agent: wish for wish in wishes}, take_round(project, wishes, {}, 0.0)


def test_a_plan_says_how_much_was_trained_on_before(repository: Repository) -> None:
    repository.add_agent("qa")
    project, (spec,) = Project.open("dev", repository.root), load_agents(repository.root)
    first = build_dataset(spec, repository.root)
    (wanted,) = training_requests(spec, project, first.fingerprint)
    model = {"fingerprint": first.fingerprint, "examples": len(first.train), "candidates": [wanted.recorded()]}
    planned = explain_step(Step("FineTunedModel", "qa", "create", {}, model), *_round(project), project)
    assert planned is not None
    assert planned.forecast is not None
    assert planned.as_dict()["forecast"]["before"] is None
    repository.add_agent("qa", examples=[example(f"message {i} about {i % 3}", f"intent_{i % 3}") for i in range(60)])
    second = build_dataset(spec, repository.root)
    (wanted,) = training_requests(spec, project, second.fingerprint)
    more = {"fingerprint": second.fingerprint, "examples": len(second.train), "candidates": [wanted.recorded()]}
    again = explain_step(Step("FineTunedModel", "qa", "update", model, more), *_round(project), project)
    assert again is not None
    assert again.forecast is not None
    assert again.as_dict()["forecast"]["before"] == {"examples": 22, "tokens": planned.forecast.tokens.count}
    assert again.forecast.lines()[0].startswith(f"22 → 54 examples, {planned.forecast.tokens.count:,} → ")
    assert "tokens, each read once an epoch" in again.forecast.lines()[0]
    stranger = {**model, "fingerprint": "0" * 64}  # trained elsewhere: unknown is left out
    elsewhere = explain_step(Step("FineTunedModel", "qa", "update", stranger, more), *_round(project), project)
    assert elsewhere is not None
    assert elsewhere.forecast is not None
    assert elsewhere.forecast.before is None
