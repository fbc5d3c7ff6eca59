"""One pull request for each lock that passed its gate."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.github.team import Team
from tests.repositories import lock_in
from tests.servers.github import BOT

FILE = "agents/{}/model.lock.yaml"


def agents(team: Team, *names: str) -> None:
    """Each with a first lock on main."""
    for name in names:
        team.git.lock("1.0.0", name)
        (team.root / "agents" / name / "agent.yaml").write_text(f"description: {name}\n")
    team.push("Agents")


def trained(team: Team, name: str, version: str, **changes: Any) -> str:
    """What `gitune up` leaves behind: a new lock and its passport."""
    text = team.git.lock(version, name, **changes)
    passport = team.root / "agents" / name / "passports" / f"{version}.json"
    passport.parent.mkdir(exist_ok=True)
    passport.write_text(f'{{"version": "{version}"}}\n')
    return text


def outcomes(team: Team, *names: str, **changes: Any) -> str:
    """What `gitune up --json` says of them."""
    said = [
        {
            "agent": name,
            "verdict": "pass",
            "regressions": [],
            "model": {"provider": lock_in(team.root, name).provider, "model_id": lock_in(team.root, name).model_id},
            **changes,
        }
        for name in names
    ]
    (team.root / ".gitune").mkdir(exist_ok=True)
    (team.root / ".gitune" / "outcomes.json").write_text(json.dumps(said))
    return ".gitune/outcomes.json"


def what(team: Team, *arguments: str) -> dict[str, str]:
    return {one["agent"]: one["what"] for one in team.json("propose", "-s", "training", *arguments)}


def test_each_new_lock_has_its_branch_and_pull_request_with_its_passport(team: Team) -> None:
    agents(team, "legal", "qa", "support")
    text, _ = trained(team, "legal", "1.1.0"), trained(team, "support", "1.0.1")
    (team.root / "left-by-a-step.txt").write_text("not a lock\n")
    main = team.git("rev-parse", "HEAD")
    assert what(team) == {"legal": "created", "support": "created"}
    assert team.branches() == {"main", "gitune/lock/legal", "gitune/lock/support"}
    assert team.at("gitune/lock/legal", FILE.format("legal")) == text
    changed = team.server.git("diff", "--name-only", "main...gitune/lock/legal").split()
    assert changed == [FILE.format("legal"), "agents/legal/passports/1.1.0.json"]
    assert team.server.git("rev-parse", "main") == main
    titles = {one["title"] for one in team.pulls()}
    assert all(one["user"]["login"] == BOT for one in team.pulls())
    assert {title.partition(":")[0] for title in titles} == {"legal 1.1.0", "support 1.0.1"}


def test_the_pull_request_shows_verdict_scores_cost_and_what_got_worse(team: Team) -> None:
    agents(team, "legal")
    job = {"id": "j", "key": "k", "seconds": 90.0, "cost_usd": 1.5, "estimated_usd": [1.0, 2.0, 4.0]}
    trained(team, "legal", "1.1.0", job=job)
    worse = {"case_id": "c7", "value": 0, "baseline_value": 1, "answer": "@ada | `x`", "baseline_answer": "right"}
    what(team, "--outcomes", outcomes(team, "legal", regressions=[worse]))
    (pull,) = team.pulls()
    body = pull["body"]
    assert body.startswith("<!-- gitune:lock:legal:1.1.0:")
    assert "## Pass: legal 1&#46;1&#46;0" in body
    for told in (
        "paid: &#36;1.50",
        "estimated: &#36;2.00 (&#36;1.00 to &#36;4.00)",
        "got worse: 1 case(s)",
        "1: right",
    ):
        assert told in body, told
    assert "@ada" not in body  # nobody is called by what a model said


def test_again_it_does_nothing_and_a_newer_lock_updates_in_place(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    assert what(team) == {"legal": "created"}
    before = team.server.git("rev-parse", "gitune/lock/legal")
    assert what(team) == {"legal": "unchanged"}
    assert team.server.git("rev-parse", "gitune/lock/legal") == before
    (team.root / "agents/legal/passports/1.1.0.json").unlink()
    text = trained(team, "legal", "1.2.0")
    assert what(team) == {"legal": "updated"}
    assert team.at("gitune/lock/legal", FILE.format("legal")) == text
    (pull,) = team.pulls()
    assert pull["title"].startswith("legal 1.2.0")
    assert "1.1.0.json" not in team.server.git("ls-tree", "-r", "--name-only", "gitune/lock/legal")


def test_github_may_be_slow_to_see_what_it_was_just_told(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    team.server.lag = 2
    assert what(team) == {"legal": "created"}
    assert len(team.pulls()) == 1


def test_what_somebody_closed_stays_closed_until_there_is_another_model(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    what(team)
    team.pulls()[0]["state"] = "closed"  # type: ignore[index]
    (said,) = team.json("propose", "-s", "training")
    assert said["what"] == "left alone"
    assert "reopen it" in said["reason"]
    trained(team, "legal", "1.2.0")
    assert what(team) == {"legal": "created"}


def test_a_branch_that_somebody_works_on_is_left_alone(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    what(team)
    team.git("fetch", "--quiet", "origin")
    team.git("stash", "--include-untracked")
    team.git("checkout", "--quiet", "-B", "theirs", "origin/gitune/lock/legal")
    (team.root / "note.txt").write_text("I look into it\n")
    theirs = team.push("A note", "gitune/lock/legal")
    team.git("checkout", "--quiet", "main")
    trained(team, "legal", "1.2.0")
    (said,) = team.json("propose", "-s", "training")
    assert (said["what"], "somebody else" in said["reason"]) == ("left alone", True)
    assert team.server.git("rev-parse", "gitune/lock/legal") == theirs


def test_what_main_changed_in_the_meantime_is_not_overwritten(team: Team) -> None:
    agents(team, "legal", "qa")
    start = team.git("rev-parse", "HEAD")
    (team.root / "agents/legal/agent.yaml").write_text("description: other data\n")
    moved = team.push("Other data")
    team.git("reset", "--quiet", "--hard", start)
    for name in ("legal", "qa"):
        trained(team, name, "1.1.0")
    said = {one["agent"]: one for one in team.json("propose", "-s", "training")}
    assert said["legal"]["what"] == "left alone"
    assert "changed on main since" in said["legal"]["reason"]
    assert said["qa"]["what"] == "created"
    assert team.server.git("rev-parse", "gitune/lock/qa^") == moved


def test_a_model_that_was_taken_back_is_not_proposed_again_until_its_agent_changes(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    team.push("Merge 1.1.0")
    team.git.lock("1.0.0", "legal")
    team.push("Revert")
    trained(team, "legal", "1.1.0")
    (said,) = team.json("propose", "-s", "training")
    assert (said["what"], "took it back" in said["reason"]) == ("left alone", True)
    team.git("checkout", "--quiet", "--", ".")
    (team.root / "agents/legal/agent.yaml").write_text("description: looked at again\n")
    team.push("Look again")
    trained(team, "legal", "1.1.0")
    assert what(team) == {"legal": "created"}


@pytest.mark.parametrize("why", ["another model", "merged", "gate", "gone"])
def test_what_is_overtaken_is_closed_and_may_come_back(team: Team, why: str) -> None:
    agents(team, "legal", "qa")
    trained(team, "legal", "1.1.0")
    what(team)
    proposed = outcomes(team, "legal")
    if why == "merged":
        team.push("Merged by hand")
    else:
        team.git("clean", "--quiet", "-fd")
        team.git("checkout", "--quiet", "--", ".")
        names = ("qa",) if why == "gone" else ("legal", "qa")
        model = {"provider": "mistral", "model_id": None} if why == "another model" else lock_model("1.1.0")
        verdict = "fail" if why == "gate" else None
        proposed = outcomes(team, *names, model=model, verdict=verdict)
    (said,) = team.json("propose", "-s", "training", "--outcomes", proposed)
    assert said["what"] == "closed"
    assert not team.pulls()
    assert team.branches() == {"main"}
    assert "Closed: " in team.server.bodies(team.pulls("closed")[0]["number"])[0]
    if why != "merged":
        trained(team, "legal", "1.1.0")
        assert what(team) == {"legal": "created"}


def lock_model(version: str) -> dict[str, str]:
    return {"provider": "local", "model_id": f"local:legal-{version}"}


def test_what_a_person_opened_from_our_branch_keeps_its_words_and_its_branch(team: Team) -> None:
    agents(team, "legal", "qa")
    trained(team, "legal", "1.1.0")
    what(team)
    team.pulls()[0]["body"] = "Opened by hand, because the App could not."  # type: ignore[index]
    team.git("clean", "--quiet", "-fd")
    team.git("checkout", "--quiet", "--", ".")
    assert what(team, "--outcomes", outcomes(team, "legal", "qa")) == {}
    assert "gitune/lock/legal" in team.branches()


def test_one_agent_that_github_refuses_holds_up_no_other(team: Team) -> None:
    agents(team, "legal", "qa")
    trained(team, "legal", "1.1.0")
    trained(team, "qa", "1.1.0")
    team.server.forbidden = {"GET .*git/ref/heads/gitune/lock/legal"}
    done = team.gitune("github", "propose", "-s", "training", "--json")
    assert done.code == 1
    assert [(one["agent"], one["what"]) for one in json.loads(done.out)] == [("legal", "failed"), ("qa", "created")]


def test_nothing_is_closed_where_up_did_not_come_to_an_end(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    what(team)
    team.git("clean", "--quiet", "-fd")
    team.git("checkout", "--quiet", "--", ".")
    (team.root / ".gitune").mkdir(exist_ok=True)
    (team.root / ".gitune/empty.json").write_text("")
    assert what(team, "--outcomes", ".gitune/empty.json") == {}
    assert len(team.pulls()) == 1


def test_a_pull_request_that_waits_for_its_review_is_not_closed(team: Team) -> None:
    agents(team, "legal")
    trained(team, "legal", "1.1.0")
    what(team)
    assert what(team, "--outcomes", outcomes(team, "legal")) == {"legal": "unchanged"}


@pytest.mark.parametrize("stack", ["production", "dev"])
def test_wrong_input_is_one_line(team: Team, stack: str) -> None:
    agents(team, "legal")
    (team.root / "wrong.json").write_text('{"agent": 1}')
    done = team.gitune("github", "propose", "-s", stack, "--outcomes", "wrong.json")
    assert (done.code, "Traceback" in done.err) == (1, False)


def test_locks_of_a_laptop_are_not_proposed(team: Team) -> None:
    (team.root / "Pulumi.dev.yaml").write_text("config:\n  gitune:locks: .gitune/dev/locks\n")
    agents(team, "legal")
    done = team.gitune("github", "propose", "-s", "dev")
    assert (done.code, "-s training" in done.err) == (1, True)
