"""Workflows that die in the middle of a step, and merges at once: the next run sets it right."""

from __future__ import annotations

import pytest

from tests.repositories import lock_in
from tests.servers import mistral
from tests.workflows.act import GitHub
from tests.workflows.test_story import add_agent, github, merge, open_pulls, pull_request, pushed, server, told

__all__ = ["github", "server"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEYS = {"MISTRAL_API_KEY": mistral.KEY}
TRAIN = (
    ("gitune up -s training --stop-after", 1.5),
    ("gitune benchmark", 1.5),
    ("gitune up -s training --max-wait 0", 2.0),
    ("gitune github", 0.6),
)
"""Steps, and how many seconds into them the machine dies."""
DEPLOY = (("gitune up", 2.0), ("gitune tag", 0.2), ("gitune github deployment", 0.2))


def check_one_of_each(github: GitHub, server: mistral.MistralServer, *agents: str) -> None:
    """Trained once, and one pull request for each."""
    assert len(server.jobs.all) == len(agents)
    assert set(open_pulls(github)) == {f"gitune/lock/{agent}" for agent in agents}


@pytest.mark.long  # each command by itself: test_up_crashes.py, github/test_crashes.py
def test_killed_in_each_step_of_train_and_deploy(
    github: GitHub, server: mistral.MistralServer, request: pytest.FixtureRequest
) -> None:
    for step in TRAIN if request.config.getoption("--all-crashes") else TRAIN[:1]:
        run = github.run("train", "push", {}, secrets=KEYS, kill_in=step)
        assert run.code != 0, (step, run.log)
    run = github.run("train", "push", {}, secrets=KEYS)
    assert run.code == 0, run.log
    check_one_of_each(github, server, "first")

    before = merge(github, "gitune/lock/first")
    for step in DEPLOY if request.config.getoption("--all-crashes") else DEPLOY[:1]:
        run = github.run("deploy", "push", pushed(before), secrets=KEYS, kill_in=step)
        assert run.code != 0, (step, run.log)
    run = github.run("deploy", "push", pushed(before), secrets=KEYS)
    assert run.code == 0, run.log
    github.git("fetch", "--quiet", "--tags", "origin")
    assert set(github.git("tag").split()) == {"first@v1.0.0", "first#production#1"}
    assert told(github.server) == [("production/first", "1.0.0", "success")]
    assert len(server.jobs.all) == 1


@pytest.mark.long
def test_two_merges_at_once(github: GitHub, server: mistral.MistralServer) -> None:
    """The run of the first merge works on what main is no longer; the run of the second goes on."""
    git = github.git
    commits = []
    for name in ("second", "third"):
        git("checkout", "--quiet", "-b", name, "main")
        add_agent(github, name)
        github.push(f"Add {name}", name)
        pull_request(github, name)
    for name in ("second", "third"):
        merge(github, name)
        commits.append(git("rev-parse", "HEAD"))
    for commit in commits:
        run = github.run("train", "push", {}, ref=commit, secrets=KEYS)
        assert run.code == 0, run.log
    check_one_of_each(github, server, "first", "second", "third")
    model = lock_in_branch(github, "second")
    before = merge(github, "gitune/lock/second")
    between = merge(github, "gitune/lock/third")
    older = github.run("deploy", "push", pushed(before), ref=between, secrets=KEYS)
    assert older.code == 0, older.log
    assert told(github.server) == []  # main says more by now
    newer = github.run("deploy", "push", pushed(between), secrets=KEYS)
    assert newer.code == 0, newer.log
    assert [one[0] for one in told(github.server)] == ["production/second", "production/third"]
    assert lock_in(git.root, "second").model_id == model


def lock_in_branch(github: GitHub, agent: str) -> str:
    text = github.server.git("show", f"gitune/lock/{agent}:agents/{agent}/model.lock.yaml")
    return next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("model_id: "))
