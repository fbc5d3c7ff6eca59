"""The law of each `gitune github` command: killed at any request and called again, it ends as if it never was."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.conftest import Result
from tests.github.team import Team, environment, make_team
from tests.github.test_comment import plan
from tests.github.test_propose import agents, outcomes, trained
from tests.github.test_records import agents as locked
from tests.github.test_records import answer, finding, pushed
from tests.servers.github import GitHubServer

Start = Callable[[Team], tuple[str, ...]]
"""Prepares a team and says what is then called."""


def comment(team: Team) -> tuple[str, ...]:
    team.push("First")
    head = team.push("Change", "change")
    team.event(pull_request={"number": team.server.open_pull("change"), "head": {"sha": head}})
    plan(team, "Blocked")
    return ("comment", "plan.md")


def propose(team: Team) -> tuple[str, ...]:
    agents(team, "legal", "qa")
    trained(team, "legal", "1.1.0")
    team.run("propose", "-s", "training")
    trained(team, "qa", "1.1.0")
    (team.root / "agents/legal/passports/1.1.0.json").unlink()
    team.git("checkout", "--quiet", "--", "agents/legal")
    said = outcomes(team, "legal", "qa")
    return ("propose", "-s", "training", "--outcomes", said)


def deployment(team: Team) -> tuple[str, ...]:
    locked(team, "legal", "qa")
    for name in ("legal", "qa"):
        answer(team, name)
    return ("deployment", "-s", "production", "--state", "success")


def revert(team: Team) -> tuple[str, ...]:
    agents(team, "legal", "qa")
    pushed(team, ("legal", "1.1.0"))
    team.run("revert", "-s", "production")
    pushed(team, ("qa", "1.1.0"))
    return ("revert", "-s", "production")


def issues(team: Team) -> tuple[str, ...]:
    (team.root / "drift.json").write_text(json.dumps([finding("legal"), finding("qa")]))
    team.run("issues", "drift.json", "-s", "training")
    (team.root / "drift.json").write_text(json.dumps([finding("legal", "job-gone"), finding("support")]))
    return ("issues", "drift.json", "-s", "training")


def world(team: Team) -> Any:
    """What people see, without numbers and times. A comment that a closing repeated is no harm."""
    server = team.server
    refs = server.git("for-each-ref", "--format=%(refname) %(tree)", "refs/heads").splitlines()
    texts = [*server.texts.pulls.values(), *server.texts.issues.values()]
    return {
        "branches": [(ref.split()[0], server.git("rev-parse", f"{ref.split()[0]}^{{tree}}")) for ref in refs],
        "texts": sorted((one["title"], one["state"], one["body"]) for one in texts),
        "plans": sorted(one["body"] for one in server.texts.comments.values() if "gitune:plan" in one["body"]),
        "checks": [(one["name"], one["conclusion"]) for one in server.checks.values()],
        "deployments": sorted(
            (one["environment"], one["payload"]["version"], [status["state"] for status in one["statuses"]])
            for one in server.deployments.values()
            if one["statuses"]
        ),
    }


@pytest.fixture
def teams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]
) -> Iterator[Callable[[], Team]]:
    """A new one for each call."""
    numbers = itertools.count(1)
    servers = []

    def make() -> Team:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        servers.append(GitHubServer(folder / "origin.git").__enter__())
        team = make_team(folder, servers[-1], gitune)
        for name, value in environment(team).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(team.root)
        return team

    yield make
    for server in servers:
        server.__exit__()


@pytest.mark.slow
@pytest.mark.parametrize("start", [comment, propose, deployment, revert, issues], ids=lambda start: start.__name__)
def test_killed_at_any_request_and_called_again(teams: Callable[[], Team], start: Start) -> None:
    team = teams()
    command = start(team)
    before = len(team.server.requests)
    team.run(*command)
    expected, asked = world(team), len(team.server.requests) - before
    assert asked > 2
    phases: tuple[Literal["received", "acted"], ...] = ("received", "acted")
    for number, phase in itertools.product(range(1, asked + 1), phases):
        team = teams()
        command = start(team)
        die_at(team, len(team.server.requests) + number, phase)
        died = team.gitune("github", *command)
        assert (died.code, "Traceback" in died.err) == (1, False), (number, phase, died.err)
        team.server.watch = lambda _number, _phase: False
        team.run(*command)
        assert world(team) == expected, (number, phase)


def die_at(team: Team, last: int, phase: str) -> None:
    """Nothing is answered from this request on: the client is as good as dead."""
    team.server.watch = lambda number, now: number > last or (number == last and now == phase)
