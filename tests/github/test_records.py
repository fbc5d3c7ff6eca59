"""Deployments, reverts and issues of drift."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from gitune.deploy import Route, return_route, set_route
from tests.conftest import Repository, agent_yaml
from tests.github.team import Team
from tests.repositories import lock_in
from tests.servers.github import BOT

RUN = "https://github.com/example/agents/actions/runs/77"


# --- deployments


def agents(team: Team, *names: str) -> None:
    for name in names:
        Repository(team.root).add_agent(name, agent_yaml())
        team.git.lock("1.0.0", name)
    team.push("Agents")


def answer(team: Team, name: str) -> None:
    """The alias answers with what the lock says now."""
    lock = lock_in(team.root, name)
    route = Route(name, lock.provider, lock.model_id, lock.version)
    set_route(team.root / ".gitune/production/routes.json", name, route)


def deployed(team: Team, state: str = "success") -> list[tuple[str, str, str]]:
    said = team.json("deployment", "-s", "production", "--state", state)
    return [(one["agent"], one["version"], one["state"]) for one in said]


def test_each_alias_has_an_environment_and_its_newest_deployment_is_what_answers(team: Team) -> None:
    agents(team, "legal", "support")
    answer(team, "legal")
    answer(team, "support")
    assert deployed(team) == [("legal", "1.0.0", "success"), ("support", "1.0.0", "success")]
    assert deployed(team) == []
    team.git.lock("1.1.0", "support")
    head = team.push("Merge")
    answer(team, "support")
    assert deployed(team) == [("support", "1.1.0", "success")]
    newest = team.server.deployments[max(team.server.deployments)]
    assert (newest["environment"], newest["ref"]) == ("production/support", head)
    status = newest["statuses"][0]
    assert (status["state"], status["target_url"]) == ("success", RUN)
    assert status["environment_url"] == f"https://github.com/example/agents/blob/{head}/agents/support/model.lock.yaml"


def test_the_address_is_the_gateway_s_where_there_is_one(team: Team) -> None:
    settings = yaml.safe_load((team.root / "Pulumi.production.yaml").read_text())
    settings["config"]["gitune:smoke_test"] = {"gateway": "https://models.example.org/v1"}
    (team.root / "Pulumi.production.yaml").write_text(yaml.safe_dump(settings))
    agents(team, "support")
    answer(team, "support")
    (said,) = team.json("deployment", "-s", "production", "--state", "success")
    assert said["url"] == "https://models.example.org/v1/models/support"


def test_a_failure_is_told_beside_what_answers_again(team: Team) -> None:
    agents(team, "support")
    answer(team, "support")
    deployed(team)
    before = (team.root / "agents/support/model.lock.yaml").read_text()
    team.git.lock("1.1.0", "support")
    team.push("Merge")
    (team.root / "agents/support/model.lock.yaml").write_text(before)  # as deploy.yml restores it
    assert deployed(team, "failure") == [("support", "1.1.0", "failure")]
    assert deployed(team, "failure") == []
    team.git("checkout", "--quiet", "--", ".")
    answer(team, "support")
    assert deployed(team) == [("support", "1.1.0", "success")]


def test_pages_of_deployments_are_all_read(team: Team) -> None:
    names = [f"agent-{number:03}" for number in range(130)]
    agents(team, *names)
    for name in names:
        answer(team, name)
    assert len(deployed(team)) == 130
    assert deployed(team) == []


# --- reverts


def pushed(team: Team, *versions: tuple[str, str]) -> None:
    """A merge to main that is being deployed."""
    before = team.git("rev-parse", "HEAD")
    for name, version in versions:
        team.git.lock(version, name)
    team.push("Merge")
    team.event(before=before)


def test_a_revert_brings_back_the_locks_of_before_and_says_why(team: Team) -> None:
    agents(team, "legal", "support")
    before = (team.root / "agents/support/model.lock.yaml").read_text()
    pushed(team, ("support", "1.1.0"), ("fresh", "1.0.0"))
    routes = team.root / ".gitune/production/routes.json"
    route = Route("support", "local", "local:support-1.1.0", "1.1.0")
    set_route(routes, "support", route)
    return_route(routes, "support", route, "said nothing | at all")
    said = team.json("revert", "-s", "production")[0]
    assert (said["what"], said["agents"]) == ("created", ["fresh", "support"])
    assert team.at("gitune/revert", "agents/support/model.lock.yaml") == before
    changed = team.server.git("diff", "--name-status", "main...gitune/revert").splitlines()
    assert changed == ["D\tagents/fresh/model.lock.yaml", "M\tagents/support/model.lock.yaml"]
    (pull,) = team.pulls()
    assert pull["title"] == "Take back 2 locks: the deployment failed"
    assert "said nothing &#124; at all" in pull["body"]
    assert RUN in pull["body"]
    assert team.json("revert", "-s", "production")[0]["what"] == "unchanged"


def test_a_second_failure_joins_the_revert_that_waits(team: Team) -> None:
    agents(team, "legal", "support")
    pushed(team, ("support", "1.1.0"))
    team.run("revert", "-s", "production")
    pushed(team, ("legal", "1.1.0"))
    assert team.json("revert", "-s", "production")[0]["agents"] == ["legal", "support"]
    assert len(team.pulls()) == 1
    changed = team.server.git("diff", "--name-only", "main...gitune/revert").splitlines()
    assert changed == ["agents/legal/model.lock.yaml", "agents/support/model.lock.yaml"]


def test_a_revert_needs_to_know_what_was_before(team: Team) -> None:
    agents(team, "support")
    done = team.gitune("github", "revert", "-s", "production")
    assert (done.code, "what main was before is not known" in done.err) == (1, True)
    team.event(before=team.git("rev-parse", "HEAD"))
    assert team.json("revert", "-s", "production")[0]["what"] == "left alone"
    assert not team.pulls("open")


# --- issues


def finding(agent: str, kind: str = "model-missing", **changes: Any) -> dict[str, Any]:
    told = {"kind": kind, "agent": agent, "provider": "mistral", "message": f"gone @{agent}", "hint": "train it anew"}
    return {**told, "drift": kind not in ("unreachable", "not-checked"), **changes}


def filed(team: Team, findings: Sequence[dict[str, Any]]) -> dict[str, str]:
    (team.root / "drift.json").write_text(json.dumps(findings))
    return {one["subject"]: one["what"] for one in team.json("issues", "drift.json", "-s", "training")}


def test_each_agent_that_drifts_has_one_issue_for_as_long_as_it_does(team: Team) -> None:
    account = finding("", "unknown-job")
    assert filed(team, [finding("legal"), finding("qa"), account]) == {
        "legal": "created",
        "qa": "created",
        "account@mistral": "created",
    }
    assert set(filed(team, [finding("legal"), finding("qa"), account]).values()) == {"unchanged"}
    said = filed(team, [finding("legal"), finding("legal", "job-gone"), account])
    assert said == {"legal": "updated", "account@mistral": "unchanged", "qa": "closed"}
    issues = {one["title"]: one for one in team.server.texts.issues.values()}
    assert set(issues) == {"Drift: legal (training)", "Drift: qa (training)", "Drift: account@mistral (training)"}
    assert issues["Drift: qa (training)"]["state"] == "closed"
    assert "job-gone" in issues["Drift: legal (training)"]["body"]
    assert "@legal" not in issues["Drift: legal (training)"]["body"]
    assert filed(team, [finding("qa")])["qa"] == "created"


def test_a_provider_that_does_not_answer_closes_nothing(team: Team) -> None:
    filed(team, [finding("legal"), finding("qa", provider="openai")])
    silent = finding("", "unreachable")
    assert filed(team, [silent]) == {"qa": "closed"}
    assert filed(team, []) == {"legal": "closed"}


def test_what_somebody_will_not_mend_is_not_opened_again_until_it_changes(team: Team) -> None:
    filed(team, [finding("legal")])
    next(iter(team.server.texts.issues.values())).update(state="closed", state_reason="not_planned")
    assert filed(team, [finding("legal")]) == {"legal": "left alone"}
    assert filed(team, [finding("legal"), finding("legal", "job-gone")]) == {"legal": "created"}


def test_ours_are_found_on_all_pages_and_others_with_the_marker_are_left_alone(team: Team) -> None:
    filed(team, [finding("legal")])
    (ours,) = team.server.texts.issues.values()
    for number in range(1000, 1250):
        login = BOT if number % 2 else "ada"
        body = ours["body"] if login == "ada" else "another of Actions"
        team.server.texts.issues[number] = {**ours, "number": number, "body": body, "user": {"login": login}}
    assert filed(team, [finding("legal")]) == {"legal": "unchanged"}
    assert filed(team, []) == {"legal": "closed"}
    assert sum(one["state"] == "closed" for one in team.server.texts.issues.values()) == 1


def test_an_account_with_thousands_of_strangers_jobs_fits_into_an_issue(team: Team) -> None:
    many = [finding("", "unknown-job", message=f"job {number} {'x' * 200}") for number in range(2000)]
    assert filed(team, many) == {"account@mistral": "created"}
    (issue,) = team.server.texts.issues.values()
    assert len(issue["body"]) < 65_536
    assert "more: `gitune drift -s training`" in issue["body"]


@pytest.mark.parametrize("text", ["", "{}", '[{"kind": "sun"}]'])
def test_what_is_no_drift_is_refused(team: Team, text: str) -> None:
    (team.root / "drift.json").write_text(text)
    done = team.gitune("github", "issues", "drift.json", "-s", "training")
    assert (done.code, "drift.json" in done.err) == (1, True)
