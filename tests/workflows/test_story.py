"""From a pull request to production and back, every workflow run for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import agent_yaml, case, example
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


def add_agent(github: GitHub, name: str) -> None:
    gate = {"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60}
    examples = [example(f"message {number} to {name}", f"intent_{number % 3}") for number in range(12)]
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


def test_plan(github: GitHub) -> None:
    github.git("checkout", "--quiet", "-b", "second")
    add_agent(github, "second")
    github.push("Add an agent", "second")
    planned = github.run("plan", "pull_request", pull_request(github, 1, "second"), secrets={"MISTRAL_API_KEY": mistral.KEY})
    assert planned.code == 0, planned.log
    assert "second" in (planned.artifacts / "plan" / "plan.md").read_text()


def test_the_story(github: GitHub, server: mistral.MistralServer) -> None:
    keys = {"MISTRAL_API_KEY": mistral.KEY}
    git = github.git
    trained = github.run("train", "push", {"ref": "refs/heads/main"}, secrets=keys)
    assert trained.code == 0, trained.log
    assert (trained.artifacts / "benchmark-first" / "scores").is_dir()
    assert len(server.jobs.all) == 1
    git("fetch", "--quiet", "origin")
    before = git("rev-parse", "HEAD")
    git.merge("origin/gitune/lock/first", "Merge pull request #2 from gitune/lock/first")
    git("push", "--quiet", "origin", "HEAD:main")
    deployed = github.run("deploy", "push", {"ref": "refs/heads/main", "before": before}, secrets=keys)
    assert deployed.code == 0, deployed.log
    git("fetch", "--quiet", "--tags", "origin")
    assert set(git("tag").split()) == {"first@v1.0.0", "first#production#1"}
