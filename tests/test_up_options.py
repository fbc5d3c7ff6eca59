"""`gitune up` in CI: it does not wait for hours, and a stack that only deploys asks no provider."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from gitune.lock import read_lock
from tests.conftest import Repository
from tests.journey import add_hosted_agents, call
from tests.repositories import lock_text
from tests.servers import mistral

pytestmark = pytest.mark.slow
UP = ("up", "-s", "training", "--json")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[mistral.MistralServer]:
    with mistral.MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        yield server


def test_the_wait_ends_and_the_next_run_goes_on(repository: Repository, server: mistral.MistralServer) -> None:
    add_hosted_agents(repository, "mistral", 1)
    first = call(repository, *UP, "--stop-after", "training", "--max-wait", "0", "--events", "events.jsonl")
    (told,) = json.loads(first.out)
    assert (first.code, told["goes_on"], told["new_model"], told["settled"]) == (0, True, False, False), first.err
    assert "the next run goes on" in first.err
    events = [json.loads(line) for line in (repository.root / "events.jsonl").read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert (kinds[0], kinds[-2:], events[-1]["exit_code"]) == ("stage", ["outcome", "end"], 0)
    assert {"begun", "change", "stage", "training"} <= set(kinds)
    (running, *_) = (event for event in events if event["kind"] == "training" and event["status"] == "running")
    assert (running["agent"], running["provider"]) == ("agent-0", "mistral")
    assert {name: events[-2][name] for name in told} == told

    server.clock.advance(3600)
    second = call(repository, *UP, "--stop-after", "training", "--max-wait", "0")
    (told,) = json.loads(second.out)
    assert (second.code, told["goes_on"], told["new_model"], told["verdict"]) == (0, False, True, None), second.err
    assert read_lock(repository.root / "agents/agent-0/model.lock.yaml") is None
    assert not list((repository.root / ".gitune").glob("scores/*"))

    third = call(repository, "up", "-s", "training", "--events", "-")
    (told,) = (event for event in map(json.loads, third.out.splitlines()) if event["kind"] == "outcome")
    assert (third.code, told["settled"], told["new_model"], told["verdict"]) == (0, True, False, "pass"), third.err
    assert len(server.jobs.all) == 1


def test_a_stack_of_deployments_deploys_the_locks_and_asks_nobody(
    repository: Repository, server: mistral.MistralServer
) -> None:
    add_hosted_agents(repository, "mistral", 2)  # of which the second is not trained yet
    config = {"gitune:declare": ["deployments"], "gitune:locks": "agents", "gitune:routes": ".gitune/routes.json"}
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": config}))
    lock = lock_text("1.0.0", "agent-0", provider="mistral", model_id="ft:open-mistral-7b:1")
    repository.write("agents/agent-0/model.lock.yaml", lock)
    plan = call(repository, "plan", "-s", "production", "--json")
    told = [(change["agent"], change["action"]) for change in json.loads(plan.out)]
    assert told == [("agent-0", "deploy")], plan.err
    done = call(repository, "up", "-s", "production", "--json")
    assert done.code == 0, done.err
    assert [(told["deployed"], told["settled"]) for told in json.loads(done.out)] == [(True, True), (False, True)]
    again = call(repository, "up", "-s", "production", "--json")
    assert [told["changes"] for told in json.loads(again.out)] == [[], []]
    assert server.requests == []
