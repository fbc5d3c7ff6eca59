"""The repository's settings on GitHub, asked over HTTP as each kind of token sees them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Repository, Result
from tests.github.team import Team, environment, make_team
from tests.servers.base import Request, Response, route
from tests.servers.github import NAME, GitHubServer

_BASE = f"/repos/{NAME}"
RULESET = [
    {"type": "pull_request", "parameters": {"required_approving_review_count": 1}},
    {
        "type": "required_status_checks",
        "parameters": {"required_status_checks": [{"context": "plan"}, {"context": "lint and test"}]},
    },
]


class SettingsServer(GitHubServer):
    """With the settings that docs/github-setup.md asks for; `settings` is what tests change, by path."""

    def __init__(self, origin: Path) -> None:
        super().__init__(origin)
        reviewers = {"type": "required_reviewers", "reviewers": [{"type": "User", "reviewer": {"login": "ada"}}]}
        custom = {"protected_branches": False, "custom_branch_policies": True}
        main = {"branch_policies": [{"name": "main"}]}
        self.settings: dict[str, Any] = {
            "/environments": {
                "environments": [
                    {"name": "plan", "protection_rules": [], "deployment_branch_policy": None},
                    {"name": "training", "protection_rules": [], "deployment_branch_policy": custom},
                    {"name": "production", "protection_rules": [reviewers], "deployment_branch_policy": custom},
                ]
            },
            "/environments/training/deployment-branch-policies": main,
            "/environments/production/deployment-branch-policies": main,
            "/rules/branches/main": RULESET,
            "/branches/main": {"name": "main", "protected": False},
            "/actions/permissions/workflow": {
                "default_workflow_permissions": "read",
                "can_approve_pull_request_reviews": True,
            },
            "/actions/secrets": {"secrets": []},
            "/actions/variables": {"variables": [{"name": "GITUNE", "value": "on"}]},
        }

    @route("GET", rf"{_BASE}/(?:environments|rules|actions)(?:/.*)?")
    def get_setting(self, request: Request) -> Response:
        said = self.settings.get(request.path.removeprefix(_BASE))
        return self.error(404, "Not Found") if said is None else Response(200, said)

    @route("GET", f"{_BASE}/branches/.+")
    def get_branch(self, request: Request) -> Response:
        return self.get_setting(request)


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]) -> Iterator[Team]:
    with SettingsServer(tmp_path / "origin.git") as server:
        found = make_team(tmp_path, server, gitune)
        for name in [name for name in os.environ if name.startswith(("GITHUB_", "GH_", "PULUMI_"))]:
            monkeypatch.delenv(name)
        for name, value in environment(found).items():
            monkeypatch.setenv(name, value)
        shutil.copytree(REPOSITORY / ".github" / "workflows", found.root / ".github" / "workflows")
        Repository(found.root).add_agent("support")
        found.push("All")
        monkeypatch.chdir(found.root)
        yield found


def settings(team: Team) -> dict[str, Any]:
    assert isinstance(team.server, SettingsServer)
    return team.server.settings


def github(team: Team, *, code: int = 0) -> dict[str, dict[str, str]]:
    done = team.gitune("doctor", "--json", "-s", "training")
    assert done.code == code, done.out
    found = [finding for finding in json.loads(done.out) if finding["check"].startswith("github")]
    return {finding["check"].removeprefix("github "): finding for finding in found}


def test_settings_as_the_docs_have_them_are_right(team: Team) -> None:
    found = github(team)
    assert {check: finding["state"] for check, finding in found.items()} == dict.fromkeys(
        ("switch", "environments", "branches", "approval", "main", "token", "proposals", "secrets"), "ok"
    )
    assert all(request.method == "GET" or request.path == "/graphql" for request in team.server.requests
               if request.method != "HEAD")  # fmt: skip


def test_classic_branch_protection_does_as_well(team: Team) -> None:
    del settings(team)["/rules/branches/main"]
    settings(team)["/branches/main/protection"] = {
        "required_pull_request_reviews": {"required_approving_review_count": 2},
        "required_status_checks": {"contexts": ["gitune", "lint and test"]},
    }
    assert github(team)["main"]["message"] == "2 review(s) and 2 check(s) are required"


def test_each_setting_that_is_wrong_is_a_problem_with_its_click(team: Team) -> None:
    values = settings(team)
    production = values["/environments"]["environments"][2]
    production["protection_rules"] = []
    production["deployment_branch_policy"] = None
    del values["/environments"]["environments"][0]
    values["/rules/branches/main"] = []
    values["/actions/permissions/workflow"] = {
        "default_workflow_permissions": "write",
        "can_approve_pull_request_reviews": False,
    }
    values["/actions/secrets"] = {"secrets": [{"name": "MISTRAL_API_KEY"}, {"name": "CODECOV"}]}
    values["/actions/variables"] = {"variables": []}
    found = github(team, code=1)
    messages = {check: finding["message"] for check, finding in found.items() if finding["state"] == "problem"}
    assert messages == {
        "environments": "not there: plan",
        "branches": "branches other than main deploy to production: a workflow there reads its keys",
        "approval": "production has no reviewers: nobody approves a deploy",
        "main": "main is production, and anybody who may write pushes to it; no review is required; "
        "no check of .github/workflows/ci.yml is required (lint and test); "
        "no check of .github/workflows/plan.yml is required (files and static plan or plan)",
        "token": "a job's token may write by default",
        "proposals": "nobody may open the pull request of a lock",
        "secrets": "in the repository, where a workflow of any branch reads them: MISTRAL_API_KEY",
    }
    assert found["switch"]["state"] == "warning"
    assert all(found[check]["hint"].startswith(f"{NAME}: Settings →") for check in messages)


def test_an_app_opens_pull_requests_in_place_of_actions(team: Team) -> None:
    values = settings(team)
    values["/actions/permissions/workflow"]["can_approve_pull_request_reviews"] = False
    for name in ("training", "production"):
        values[f"/environments/{name}/variables"] = {"variables": [{"name": "GITUNE_APP_ID", "value": "7"}]}
    assert github(team)["proposals"]["message"] == "a GitHub App opens pull requests"


def test_what_a_token_may_not_read_is_not_checked(team: Team) -> None:
    team.server.forbidden.add("GET .*/(environments|actions|branches|rules)")
    found = github(team)
    assert {finding["state"] for finding in found.values()} == {"not checked"}
    assert all("a token that reads" in finding["hint"] for finding in found.values())


def test_a_wrong_token_is_said_once(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_wrong")
    (finding,) = github(team).values()
    assert finding["state"] == "not checked"
    assert "401" in finding["message"]
    assert "ghs_wrong" not in json.dumps(finding)
