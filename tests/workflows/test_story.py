"""From a pull request to production and back, every workflow run for real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Result, agent_yaml, case, example
from tests.repositories import lock_in
from tests.servers import mistral
from tests.servers.github import BOT, NAME, GitHubServer
from tests.workflows.act import GitHub, find_act

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def server() -> Iterator[mistral.MistralServer]:
    with mistral.MistralServer() as server:
        server.seconds_per_request = 120.0  # a job takes 600
        yield server


@pytest.fixture
def github(tmp_path: Path, server: mistral.MistralServer) -> Iterator[GitHub]:
    act = find_act()
    if isinstance(act, str):
        pytest.skip(act)
    with GitHubServer(tmp_path / "origin.git") as api:
        github = GitHub(tmp_path, act, api, {"MISTRAL_BASE_URL": server.url})
        add_agent(github, "first")
        github.push("One agent")
        yield github


def add_agent(github: GitHub, name: str, words: str = "message") -> None:
    gate = {"min_improvement": -1.0, "max_regression": 1.0, "max_latency_seconds": 60}
    examples = [example(f"{words} {number} to {name}", f"intent_{number % 3}") for number in range(12)]
    cases = [case("c0", "a question", "intent_0")]
    github.repository.add_agent(name, agent_yaml(training=[{"provider": "mistral"}], gate=gate), examples, cases)


def pull_request(github: GitHub, branch: str) -> dict[str, object]:
    """Ada opens one. As GitHub makes it: the merge is a ref of its own."""
    git, number = github.git, github.server.open_pull(branch)
    base = git("rev-parse", "origin/main")
    head = git("rev-parse", f"origin/{branch}")
    tree = git("merge-tree", "--write-tree", base, head)
    merged = git("commit-tree", tree, "-p", base, "-p", head, "-m", "Merge")
    git("push", "--quiet", "--force", "origin", f"{merged}:refs/pull/{number}/merge")
    user = {"login": "ada"}
    head_facts = {"sha": head, "ref": branch, "repo": {"full_name": NAME}}
    return {
        "number": number,
        "pull_request": {"number": number, "user": user, "base": {"sha": base, "ref": "main"}, "head": head_facts},
    }


def merge_of(request: dict[str, object]) -> str:
    """The commit that GitHub runs the workflow of."""
    return f"refs/pull/{request['number']}/merge"


def open_pulls(github: GitHub) -> dict[str, int]:
    """By branch."""
    return {one["branch"]: number for number, one in github.server.texts.pulls.items() if one["state"] == "open"}


def merge(github: GitHub, branch: str) -> str:
    """As the button does. Returns what main was before."""
    git, number = github.git, open_pulls(github)[branch]
    git("fetch", "--quiet", "origin")
    git("checkout", "--quiet", "main")
    before = git("rev-parse", "HEAD")
    git.merge(f"origin/{branch}", f"Merge pull request #{number} from {branch}")
    git("push", "--quiet", "origin", "HEAD:main")
    github.server.merged(number)
    return before


def pushed(before: str) -> dict[str, str]:
    return {"ref": "refs/heads/main", "before": before}


def test_from_a_pull_request_to_production_and_back(
    github: GitHub, server: mistral.MistralServer, monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]
) -> None:
    keys = {"MISTRAL_API_KEY": mistral.KEY}
    git, api = github.git, github.server
    git("checkout", "--quiet", "-b", "second")
    add_agent(github, "second")
    head = github.push("Add an agent", "second")
    request = pull_request(github, "second")
    planned = github.run("plan", "pull_request", request, ref=merge_of(request), secrets=keys)
    assert planned.code == 0, planned.log
    (comment,) = api.bodies(int(str(request["number"])))
    assert comment == (planned.artifacts / "plan" / "plan.md").read_text()
    assert "## Needs approval" in comment
    assert f"commit <code>{head[:12]}</code>" in comment
    (check,) = api.checks.values()
    assert (check["conclusion"], check["head_sha"]) == ("neutral", head)
    assert server.jobs.all == {}

    merge(github, "second")
    trained = github.run("train", "push", {}, secrets=keys)
    assert trained.code == 0, trained.log
    assert {folder.name for folder in trained.artifacts.iterdir()} == {"benchmark-first", "benchmark-second"}
    assert len(server.jobs.all) == 2
    assert set(open_pulls(github)) == {"gitune/lock/first", "gitune/lock/second"}
    proposed = api.texts.pulls[open_pulls(github)["gitune/lock/second"]]
    assert proposed["user"]["login"] == BOT
    assert proposed["body"].splitlines()[1].startswith("## Pass: second 1&#46;0&#46;0")

    before = merge(github, "gitune/lock/first")
    merge(github, "gitune/lock/second")
    deployed = github.run("deploy", "push", pushed(before), secrets=keys)
    assert deployed.code == 0, deployed.log
    git("fetch", "--quiet", "--tags", "origin")
    tags = {"first@v1.0.0", "first#production#1", "second@v1.0.0", "second#production#1"}
    assert set(git("tag").split()) == tags
    assert told(api) == [("production/first", "1.0.0", "success"), ("production/second", "1.0.0", "success")]
    git("checkout", "--quiet", "-b", "words", "main")
    github.repository.write("agents/first/README.md", "What it is for.\n")
    github.push("Say what it is for", "words")
    request = pull_request(github, "words")
    planned = github.run("plan", "pull_request", request, ref=merge_of(request), secrets=keys)
    assert planned.code == 0, planned.log
    assert "## Safe\n\nno change" in api.bodies(int(str(request["number"])))[0]

    asked, written = len(server.requests), len(api.requests)
    again = github.run("train", "schedule", {}, secrets=keys)
    assert again.code == 0, again.log
    assert again.jobs("succeeded") == {"train", "propose locks"}
    assert len(server.jobs.all) == 2
    assert not [request for request in server.requests[asked:] if request.method == "POST"]
    again = github.run("deploy", "workflow_dispatch", {}, secrets=keys)
    assert again.code == 0, again.log
    assert not [
        one.path for one in api.requests[written:] if one.method in ("POST", "PATCH") and one.path != "/graphql"
    ]

    git("checkout", "--quiet", "-b", "better", "main")
    for name in ("first", "second"):
        add_agent(github, name, "other words")
    github.push("Other words", "better")
    pull_request(github, "better")
    merge(github, "better")
    trained = github.run("train", "push", {}, secrets=keys)
    assert trained.code == 0, trained.log
    assert set(open_pulls(github)) == {"words", "gitune/lock/first", "gitune/lock/second"}
    before = merge(github, "gitune/lock/second")
    server.mute.add(lock_in(git.root, "second").model_id)
    failed = github.run("deploy", "push", pushed(before), secrets=keys)
    assert failed.code != 0
    assert "alias second: 1.1.0 was taken back, 1.0.0 answers again" in failed.log
    assert told(api)[-1] == ("production/second", "1.1.0", "failure")
    git("fetch", "--quiet", "--tags", "origin")
    assert set(git("tag").split()) == tags
    before = merge(github, "gitune/lock/first")
    other = github.run("deploy", "push", pushed(before), secrets=keys)
    assert other.code != 0  # what failed is still on main, and not tried again
    assert told(api)[-1] == ("production/first", "1.1.0", "success")  # and holds nobody else up
    git("fetch", "--quiet", "--tags", "origin")
    tags |= {"first@v1.1.0", "first#production#2"}
    assert set(git("tag").split()) == tags
    back = api.texts.pulls[open_pulls(github)["gitune/revert"]]
    assert "**second**: 1&#46;1&#46;0 → 1&#46;0&#46;0" in back["body"]

    before = merge(github, "gitune/revert")
    restored = github.run("deploy", "push", pushed(before), secrets=keys)
    assert restored.code == 0, restored.log
    git("fetch", "--quiet", "--tags", "origin")
    assert set(git("tag").split()) == tags
    after = github.run("train", "schedule", {}, secrets=keys)
    assert after.code == 0, after.log
    assert set(open_pulls(github)) == {"words"}, after.log  # what was taken back is not proposed again
    server.archived.add(lock_in(git.root, "first").model_id)
    drift = github.run("drift", "schedule", {}, secrets=keys)
    assert drift.code == 0, drift.log
    assert [one["title"] for one in api.texts.issues.values()] == ["Drift: first"]

    monkeypatch.chdir(git.root)
    history = json.loads(gitune("history", "second", "--json", "-s", "production").out)["entries"]
    said = [(entry["kind"], entry["version"]) for entry in history]
    assert said == [("rollback", "1.0.0"), ("new", "1.1.0"), ("new", "1.0.0")]
    assert [entry["author"]["name"] for entry in history] == [BOT] * 3
    assert [entry["merged_by"]["name"] for entry in history] == ["Ada Byron"] * 3
    assert [int(entry["pull_request"].removeprefix("#")) for entry in history] == sorted(
        (number for number, one in api.texts.pulls.items() if one["branch"] in ("gitune/revert", "gitune/lock/second")),
        reverse=True,
    )
    assert history[0]["deployed"][0]["tag"] == "second#production#1"


def told(api: GitHubServer) -> list[tuple[str, str, str]]:
    """What GitHub shows as deployed, oldest first."""
    return [
        (one["environment"], one["payload"]["version"], one["statuses"][0]["state"]) for one in api.deployments.values()
    ]
