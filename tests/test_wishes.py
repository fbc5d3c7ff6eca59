"""What is ruled out before anybody is asked: credentials, budgets; and what is taken over all the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from gitune.project import Project
from gitune.reconcile import ModelState
from gitune.round import Round, take_round
from gitune.wishes import Wish, read_wishes, within_budgets
from tests.conftest import Repository, agent_yaml
from tests.servers import mistral, openai
from tests.servers.mistral import MistralServer
from tests.servers.openai import OpenAIServer

NOW = 1_790_000_000.0


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
    monkeypatch.setenv("OPENAI_API_KEY", openai.KEY)
    with MistralServer() as first, OpenAIServer() as second:
        monkeypatch.setenv("MISTRAL_BASE_URL", first.url)
        monkeypatch.setenv("OPENAI_BASE_URL", second.url)
        yield first, second


def _project(repository: Repository, budgets: Mapping[str, float] | None = None, **agents: dict[str, Any]) -> Project:
    config: dict[str, Any] = {"gitune:declare": ["models"], "gitune:budget_usd": dict(budgets or {})}
    config["gitune:providers"] = {"mistral": {"concurrency": 9, "total_jobs": "unlimited"}}
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": config}))
    for name, changes in agents.items():
        repository.add_agent(name, agent_yaml(training=[{"provider": "mistral"}, {"provider": "openai"}], **changes))
    return Project.open("training", repository.root)


def _wishes(project: Project, recorded: Mapping[str, ModelState] | None = None) -> dict[str, Wish]:
    return {wish.agent: wish for wish in within_budgets(read_wishes(project), project, recorded or {}, {})}


def _round(project: Project) -> Round:
    return take_round(project, tuple(_wishes(project).values()), {}, NOW)


def test_over_budget_goes_to_the_next_candidate_with_the_reason(repository: Repository, servers: Any) -> None:
    target = _round(_project(repository, qa={"budget_usd": 1.0})).targets["qa"]
    assert (target.submit, target.state.provider) == (1, "openai")
    assert target.state.reason == "mistral: $4.00, over the budget of $1.00 for agent qa"


def test_a_plans_budget_is_shared(repository: Repository, servers: Any) -> None:
    targets = _round(_project(repository, {"plan": 4.5}, qa={}, support={})).targets
    assert [target.state.provider for target in targets.values()] == ["mistral", "openai"]
    assert "over the budget of $4.50 for this plan" in targets["support"].state.reason


def test_a_budget_that_allows_nothing_stops_before_anything_is_spent(repository: Repository, servers: Any) -> None:
    target = _round(_project(repository, {"month": 0.0}, qa={})).targets["qa"]
    assert (target.submit, target.state.status) == (None, "failed")
    assert target.state.reason.endswith("no candidate is left")
    assert all(not server.requests for server in servers)


def test_what_is_paid_for_is_not_planned_again(repository: Repository, servers: Any) -> None:
    project = _project(repository, {"plan": 4.5}, qa={}, support={})
    paid = _wishes(project)["qa"].requests[0]
    recorded = {"qa": ModelState("succeeded", paid.key, "mistral", model_id="ft:x")}
    assert _wishes(project, recorded)["support"].refused == ("", "")


def test_without_a_budget_nothing_is_estimated(repository: Repository, servers: Any) -> None:
    assert _wishes(_project(repository, qa={}))["qa"].costs == ()


def test_a_missing_credential_is_known_without_a_call(
    repository: Repository, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY")
    target = _round(_project(repository, qa={})).targets["qa"]
    assert (target.submit, target.state.reason) == (1, "mistral: set MISTRAL_API_KEY")
    assert servers[0].requests == []


def test_a_job_that_runs_is_taken_however_dear_it_is(repository: Repository, servers: Any) -> None:
    project = _project(repository, qa={"budget_usd": 0.0})
    request = _wishes(project)["qa"].requests[1]
    dataset = repository.root / "dataset"
    dataset.mkdir()
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (dataset / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 10)
    (dataset / "validation.jsonl").write_text("")
    job = project.provider("openai").submit_job(request, dataset)
    recorded = {"qa": ModelState("running", request.key, "openai", job_id=job.job_id)}
    taken = take_round(project, tuple(_wishes(project).values()), recorded, NOW)
    target = taken.targets["qa"]
    assert (target.submit, target.state.status, target.state.job_id) == (None, "running", job.job_id)
