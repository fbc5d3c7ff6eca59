"""The incident of 2025-10-31, replayed: five agents, two limits nobody knew, one command, five models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from gitune.lock import Lock, read_lock
from tests.conftest import Repository, agent_yaml, jsonl
from tests.journey import Result, call
from tests.servers import mistral, openai
from tests.servers.jobs import LIMIT_AT_ONCE, LIMIT_IN_ALL, Limits
from tests.servers.mistral import MistralServer
from tests.servers.openai import OpenAIServer
from tests.test_provider_journeys import EXAMPLES, NUMBERS

pytestmark = pytest.mark.slow
AGENTS = ("analyst", "content", "legal", "qa", "support")
REPORTED = {
    "qa": ("ft:open-mistral-7b:5010731d:20251031:ecc3829c", "ecc3829c-234a-4028-9301-a2d3aba21ea3"),
    "content": ("ft:open-mistral-7b:5010731d:20251031:547960f9", "547960f9-62ea-45e3-9ca2-5f33286fd2e0"),
    "legal": ("ft:open-mistral-7b:5010731d:20251031:eb2da6b7", "eb2da6b7-41cc-4439-9558-dc10d4a20d56"),
}
"""Models and jobs of the status report."""


@dataclass(frozen=True)
class Incident:
    """Five agents whose first candidate is Mistral, the free trial, and a server of the OpenAI protocol as the next."""

    repository: Repository
    mistral: MistralServer
    openai: OpenAIServer

    def declare(self, **limits: Any) -> None:
        """Write the training stack, with what is known of Mistral's limits."""
        providers = {"mistral": limits, "openai": {"base_url": self.openai.url}}
        config = {"gitune:declare": ["models"], "gitune:locks": "agents", "gitune:providers": providers}
        (self.repository.root / "Pulumi.training.yaml").write_text(yaml.safe_dump({"config": config}))

    def up(self) -> dict[str, Any]:
        """`gitune up` as it exits with 0; its JSON by agent."""
        result = call(self.repository, "up", "-s", "training", "--json", "--poll", "0.2")
        assert result.code == 0, result.err + result.out
        return {agent["agent"]: agent for agent in json.loads(result.out)}

    def call(self, *arguments: str) -> Result:
        return call(self.repository, *arguments, "-s", "training")

    def lock(self, agent: str) -> Lock:
        lock = read_lock(self.repository.root / "agents" / agent / "model.lock.yaml")
        assert lock is not None
        return lock

    def words_of_failures(self) -> list[str]:
        return [job.failure for job in self.mistral.jobs.all.values() if job.failure]


@pytest.fixture
def incident(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Incident]:
    cases = [
        {"id": f"c{number}", "messages": [row["messages"][0], {"role": "user", "content": f"say number {number}"}]}
        | {"target": row["messages"][2]["content"]}
        for number, row in enumerate(NUMBERS)
    ]
    for number, agent in enumerate(AGENTS):
        spec = agent_yaml(
            dataset={"sources": [{"path": "data/train.jsonl", "licence": "CC0-1.0"}], "validation": 0.0},
            training=[{"provider": "mistral"}, {"provider": "openai"}],
            gate={"min_improvement": 0.3, "prove": "threshold", "min_cases": 10, "max_latency_seconds": 5},
        )
        repository.add_agent(agent, spec, EXAMPLES[number:], cases)
    monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
    monkeypatch.setenv("OPENAI_API_KEY", openai.KEY)
    with MistralServer(Limits(running=2, total=3)) as first, OpenAIServer() as second:
        first.seconds_per_request = second.seconds_per_request = 20.0  # a job takes 600
        monkeypatch.setenv("MISTRAL_BASE_URL", first.url)
        yield Incident(repository, first, second)
        assert (first.violations, second.violations) == ([], [])


def _providers(told: dict[str, Any]) -> list[str]:
    assert all(agent["settled"] and agent["model"]["status"] == "succeeded" for agent in told.values())
    return sorted(agent["model"]["provider"] for agent in told.values())


def test_limits_that_nobody_knew_cost_one_answer_each(incident: Incident) -> None:
    incident.declare()
    told = incident.up()
    assert _providers(told) == ["mistral"] * 3 + ["openai"] * 2
    assert sorted(incident.words_of_failures()) == sorted([LIMIT_AT_ONCE, LIMIT_IN_ALL])
    assert (len(incident.mistral.jobs.all), len(incident.openai.jobs.all)) == (5, 2)
    moved = [agent for agent in AGENTS if told[agent]["model"]["provider"] == "openai"]
    for agent in moved:
        assert LIMIT_IN_ALL in incident.lock(agent).job["passed_over"]
    assert LIMIT_IN_ALL in incident.call("status", "--json").out
    calls = len(incident.mistral.jobs.all), len(incident.openai.jobs.all)
    assert all(agent["changes"] == [] for agent in incident.up().values())
    assert (len(incident.mistral.jobs.all), len(incident.openai.jobs.all)) == calls


@pytest.mark.long
def test_declared_limits_cost_nothing(incident: Incident) -> None:
    incident.declare(concurrency=2, total_jobs=3)
    planned = incident.call("plan")
    assert planned.code == 0, planned.err
    assert "openai" in planned.out
    assert "all 3 job(s) that it may ever run" in planned.out
    assert _providers(incident.up()) == ["mistral"] * 3 + ["openai"] * 2
    assert incident.words_of_failures() == []
    assert (len(incident.mistral.jobs.all), len(incident.openai.jobs.all)) == (3, 2)


@pytest.mark.long
def test_a_retired_api_moves_all_five(incident: Incident) -> None:
    incident.mistral.retired = True
    incident.declare()
    told = incident.up()
    assert _providers(told) == ["openai"] * 5
    for agent in AGENTS:
        assert "410" in incident.lock(agent).job["passed_over"]
        assert "410" in told[agent]["model"]["reason"]
    submissions = [r for r in incident.mistral.requests if (r.method, r.path) == MistralServer.submit_route]
    assert len(submissions) == 1  # one answer is enough for all


@pytest.mark.long
def test_with_the_reports_three_locks_two_are_trained(incident: Incident) -> None:
    incident.mistral.jobs.limits.total = 0  # the three of the report were all
    incident.declare()
    for agent, (model, job) in REPORTED.items():
        incident.mistral.known_models[model] = "open-mistral-7b"
        incident.mistral.known_training[model] = jsonl(EXAMPLES).encode()
        adopted = incident.call("adopt", agent, "--provider", "mistral", "--model", model, "--job", job)
        assert adopted.code == 0, adopted.err
    told = incident.up()
    assert _providers(told) == ["mistral"] * 3 + ["openai"] * 2
    assert {agent: told[agent]["model"]["model_id"] for agent in REPORTED} == {a: m for a, (m, _) in REPORTED.items()}
    assert incident.words_of_failures() == [LIMIT_IN_ALL]
    assert (len(incident.mistral.jobs.all), len(incident.openai.jobs.all)) == (1, 2)


@pytest.mark.long
def test_one_pass_of_the_engine_alone_keeps_to_the_limits(incident: Incident) -> None:
    incident.declare(concurrency=2, total_jobs=3)
    incident.mistral.seconds_per_request = 0.0
    assert incident.call("plan").code == 0  # makes the stack
    once = ("pulumi", "up", "-s", "training", "--refresh", "--yes", "--skip-preview")
    told = call(incident.repository, *once)
    assert told.code == 0, told.err + told.out
    assert (len(incident.mistral.jobs.all), incident.words_of_failures()) == (2, [])
    states = json.loads(incident.call("status", "--json").out)
    assert sorted(row["model"].split()[0] for row in states) == ["queued"] * 3 + ["running"] * 2
    assert {row["note"] for row in states if row["model"] == "queued"} == {"mistral: 2 job(s) at once"}
