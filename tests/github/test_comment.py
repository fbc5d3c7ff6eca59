"""The comment and the check of a pull request."""

from __future__ import annotations

import re

import pytest

from gitune.report.markdown import COMMENT_LIMIT
from tests.github.team import Team
from tests.servers.github import BOT, PERSON_TOKEN, primary_limit, secondary_limit

MARKER = "<!-- gitune:plan:training,production -->"
RUN = "https://github.com/example/agents/actions/runs/77"


@pytest.fixture
def number(team: Team) -> int:
    team.push("First")
    team.push("Change", "change")
    number = team.server.open_pull("change")
    head = team.git("rev-parse", "HEAD")
    team.event(pull_request={"number": number, "head": {"sha": head}})
    return number


def plan(team: Team, verdict: str = "Safe", more: str = "") -> str:
    text = f"{MARKER}\n## {verdict}\n\nno change.\n\n{more}\n"
    (team.root / "plan.md").write_text(text)
    return text


def test_one_comment_is_updated_in_place(team: Team, number: int) -> None:
    first = plan(team)
    assert team.json("comment", "plan.md")["comment"] == "created"
    assert team.server.bodies(number) == [first]
    assert team.json("comment", "plan.md")["comment"] == "unchanged"
    second = plan(team, "Needs approval", "1 alias")
    assert "comment updated: https://github.com/" in team.run("comment", "plan.md").out
    assert team.server.bodies(number) == [second]


def test_ours_is_found_among_300_comments_and_others_with_the_marker_are_left_alone(team: Team, number: int) -> None:
    for count in range(300):
        if count == 270:
            team.server.comment(number, f"{MARKER}\nold", BOT)
        team.server.comment(number, f"{MARKER}\nby somebody else {count}")
    text = plan(team)
    assert team.json("comment", "plan.md")["comment"] == "updated"
    bodies = team.server.bodies(number)
    assert len(bodies) == 301
    assert bodies[270] == text
    assert sum("by somebody else" in body for body in bodies) == 300


def test_a_quote_of_ours_is_not_ours(team: Team, number: int) -> None:
    team.server.comment(number, f"> {MARKER}\nquoted", BOT)
    plan(team)
    assert team.json("comment", "plan.md")["comment"] == "created"
    assert len(team.server.bodies(number)) == 2


def test_of_two_that_two_runs_wrote_at_once_one_stays(team: Team, number: int) -> None:
    for words in ("one", "two"):
        team.server.comment(number, f"{MARKER}\n{words}", BOT)
    text = plan(team)
    team.run("comment", "plan.md")
    assert team.server.bodies(number) == [text]


@pytest.mark.parametrize(
    ("verdict", "conclusion"), [("Safe", "success"), ("Needs approval", "neutral"), ("Blocked", "failure")]
)
def test_the_check_says_the_verdict(team: Team, number: int, verdict: str, conclusion: str) -> None:
    plan(team)
    team.run("comment", "plan.md")
    plan(team, verdict)
    assert team.json("comment", "plan.md")["check"] == conclusion
    (check,) = team.server.checks.values()
    assert check["conclusion"] == conclusion
    assert check["name"] == "gitune"
    assert check["head_sha"] == team.git("rev-parse", "HEAD")
    assert check["details_url"] == RUN
    assert check["output"]["title"] == f"{verdict}: no change."


def test_a_person_s_token_writes_a_commit_status_instead(
    team: Team, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", PERSON_TOKEN)
    plan(team, "Blocked")
    assert team.json("comment", "plan.md")["check"] == "failure"
    assert not team.server.checks
    (status,) = team.server.statuses
    assert (status["state"], status["context"], status["target_url"]) == ("failure", "gitune", RUN)


def test_a_plan_of_an_older_commit_leaves_the_comment_to_the_newer_one(team: Team, number: int) -> None:
    text = plan(team)
    team.run("comment", "plan.md")
    team.push("More", "change")
    plan(team, "Blocked")
    done = team.json("comment", "plan.md")
    assert done["comment"] == "left alone"
    assert "the pull request is at" in done["note"]
    assert team.server.bodies(number) == [text]


def test_it_works_on_a_laptop(team: Team, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_REPOSITORY", "GITHUB_EVENT_PATH", "GITHUB_RUN_ID", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GH_TOKEN", PERSON_TOKEN)
    monkeypatch.delenv("GITHUB_TOKEN")
    team.git("remote", "set-url", "origin", "git@github.com:example/agents.git")
    plan(team)
    assert team.json("comment", "plan.md", "--pull-request", str(number))["comment"] == "created"
    done = team.gitune("github", "comment", "plan.md")
    assert (done.code, "--pull-request NUMBER" in done.err) == (1, True)


def test_it_waits_where_github_asks_it_to(team: Team, number: int) -> None:
    team.server.limited = [secondary_limit(0), secondary_limit(1)]
    plan(team)
    assert team.json("comment", "plan.md")["comment"] == "created"


@pytest.mark.parametrize("trouble", ["limit", "token", "rights", "gone", "no token", "no server"])
def test_a_refusal_is_one_line_and_a_hint(
    team: Team, number: int, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(team)
    if trouble == "limit":
        team.server.limited = [primary_limit(4_000_000_000)]
    elif trouble == "token":
        monkeypatch.setenv("GITHUB_TOKEN", "wrong-planted-token")
    elif trouble == "rights":
        team.server.forbidden = {"POST .*/comments"}
    elif trouble == "gone":
        team.event(pull_request={"number": 99})
    elif trouble == "no token":
        monkeypatch.delenv("GITHUB_TOKEN")
    else:
        monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    done = team.gitune("github", "comment", "plan.md")
    assert done.code == 1
    assert re.fullmatch(r"error: [^\n]+\nhint: [^\n]+\n", done.err), done.err
    assert "planted" not in done.err + done.out


@pytest.mark.parametrize(
    "text", ["", "# A text", f"{MARKER}\n## Fine\n\nno change.\n", f"{MARKER}\n## Safe\n\nx{'y' * COMMENT_LIMIT}\n"]
)
def test_what_is_no_plan_is_refused_before_anything_is_asked(team: Team, number: int, text: str) -> None:
    (team.root / "plan.md").write_text(text)
    done = team.gitune("github", "comment", "plan.md")
    assert done.code == 1
    assert done.err.startswith("error: plan.md: ")
    assert not team.server.texts.comments
    assert not team.server.checks
