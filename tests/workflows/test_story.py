"""From a pull request to production and back, every workflow run for real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Result, agent_yaml, case, example
from tests.repositories import lock_in
from tests.servers import mistral
from tests.workflows.act import NAME, GitHub, find_act

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def server() -> Iterator[mistral.MistralServer]:
    with mistral.MistralServer() as server:
        server.seconds_per_request = 120.0  # a job takes 600
        yield server


@pytest.fixture
def github(tmp_path: Path, server: mistral.MistralServer) -> GitHub:
    act = find_act()
    if isinstance(act, str):
        pytest.skip(act)
    github = GitHub(tmp_path, act, {"MISTRAL_BASE_URL": server.url})
    add_agent(github, "first")
    github.push("One agent")
    return github


def add_agent(github: GitHub, name: str, words: str = "message") -> None:
    gate = {"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60}
    examples = [example(f"{words} {number} to {name}", f"intent_{number % 3}") for number in range(12)]
    cases = [case("c0", "a question", "intent_0")]
    github.repository.add_agent(name, agent_yaml(training=[{"provider": "mistral"}], gate=gate), examples, cases)


def pull_request(github: GitHub, number: int, branch: str) -> dict[str, object]:
    """As GitHub makes it: the merge is a ref of its own."""
    git = github.git
    base = git("rev-parse", "origin/main")
    head = git("rev-parse", f"origin/{branch}")
    git("push", "--quiet", "--force", "origin", f"{head}:refs/pull/{number}/merge")
    user = {"login": "ada"}
    head_facts = {"sha": head, "ref": branch, "repo": {"full_name": NAME}}
    return {
        "number": number,
        "pull_request": {"number": number, "user": user, "base": {"sha": base, "ref": "main"}, "head": head_facts},
    }


def merge(github: GitHub, branch: str, number: int) -> str:
    """As the button does. Returns what main was before."""
    git = github.git
    git("fetch", "--quiet", "origin")
    git("checkout", "--quiet", "main")
    before = git("rev-parse", "HEAD")
    git.merge(f"origin/{branch}", f"Merge pull request #{number} from {branch}")
    git("push", "--quiet", "origin", "HEAD:main")
    return before


def pushed(before: str) -> dict[str, str]:
    return {"ref": "refs/heads/main", "before": before}


def test_from_a_pull_request_to_production_and_back(
    github: GitHub, server: mistral.MistralServer, monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]
) -> None:
    keys = {"MISTRAL_API_KEY": mistral.KEY}
    git = github.git
    git("checkout", "--quiet", "-b", "second")
    add_agent(github, "second")
    github.push("Add an agent", "second")
    planned = github.run("plan", "pull_request", pull_request(github, 1, "second"), secrets=keys)
    assert planned.code == 0, planned.log
    plan = (planned.artifacts / "plan" / "plan.md").read_text()
    assert "second" in plan
    assert "open&#45;mistral&#45;7b" in plan or "open-mistral-7b" in plan
    assert github.recorded() == [["comment", "plan.md"]]
    assert server.jobs.all == {}

    before = merge(github, "second", 1)
    trained = github.run("train", "push", pushed(before), secrets=keys)
    assert trained.code == 0, trained.log
    assert {folder.name for folder in trained.artifacts.iterdir()} == {"benchmark-first", "benchmark-second"}
    assert len(server.jobs.all) == 2

    before = merge(github, "gitune/lock/first", 2)
    merge(github, "gitune/lock/second", 3)
    deployed = github.run("deploy", "push", pushed(before), secrets=keys)
    assert deployed.code == 0, deployed.log
    git("fetch", "--quiet", "--tags", "origin")
    tags = {"first@v1.0.0", "first#production#1", "second@v1.0.0", "second#production#1"}
    assert set(git("tag").split()) == tags

    asked = len(server.requests)
    again = github.run("train", "schedule", {}, secrets=keys)
    assert again.code == 0, again.log
    assert again.jobs("succeeded") == {"train"}
    assert len(server.jobs.all) == 2
    assert not [request for request in server.requests[asked:] if request.method == "POST"]

    git("checkout", "--quiet", "-b", "better", "main")
    add_agent(github, "second", "other words")
    github.push("Other words", "better")
    before = merge(github, "better", 4)
    trained = github.run("train", "push", pushed(before), secrets=keys)
    assert trained.code == 0, trained.log
    assert {folder.name for folder in trained.artifacts.iterdir()} == {"benchmark-second"}
    before = merge(github, "gitune/lock/second", 5)
    server.mute.add(lock_in(git.root, "second").model_id)
    failed = github.run("deploy", "push", pushed(before), secrets=keys)
    assert failed.code != 0
    up, restored_log = failed.log.split("Run Main The locks of before")
    assert "alias second: 1.1.0 was taken back" in up
    assert "second → 1.0.0" in restored_log
    asked_of_github = [" ".join(call) for call in github.recorded()]
    assert asked_of_github[-2:] == ["revert -s production", "deployment -s production --state failure"]

    before = merge(github, "gitune/revert", 6)
    restored = github.run("deploy", "push", pushed(before), secrets=keys)
    assert restored.code == 0, restored.log
    git("fetch", "--quiet", "--tags", "origin")
    assert set(git("tag").split()) == tags
    drift = github.run("drift", "schedule", {}, secrets=keys)
    assert drift.code == 0, drift.log

    monkeypatch.chdir(git.root)
    history = json.loads(gitune("history", "second", "--json", "-s", "production").out)["entries"]
    told = [(entry["kind"], entry["version"], entry["pull_request"]) for entry in history]
    assert history[0]["deployed"][0]["tag"] == "second#production#1"
    assert told == [("rollback", "1.0.0", "#6"), ("new", "1.1.0", "#5"), ("new", "1.0.0", "#3")]
