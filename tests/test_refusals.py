"""Rules that refuse: each with what trips it and what does not, what overrides it, and where it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitune.allow_spec import Allow, Rule, StackAllow
from gitune.deploy import read_routes
from gitune.lock import Lock, write_lock
from gitune.passport import CodeRecord, Passport, body_sha256, lock_record, write_passport
from gitune.preflight import judge_pass
from gitune.project import Project
from gitune.refusals import (
    Deploying,
    Refusal,
    Serving,
    Submitting,
    base_model_ended,
    delete_serving_model,
    fleet_share,
    no_licence,
    rule_on,
    tag_mismatch,
    unproven_model,
)
from gitune.spec import load_agents
from gitune.sunset import Notice
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml
from tests.journey import add_hosted_agents
from tests.repositories import Git
from tests.servers.mistral import KEY, MistralServer
from tests.test_lock import LOCK

Gitune = Callable[..., Result]
TODAY = date(2026, 11, 23)
SAME = Serving("support", LOCK.provider, LOCK.model_id, LOCK.version)
OTHER = Serving("support", LOCK.provider, "local:older", "1.2.2")
ENDED = Notice("support", "openai", "serving", "gpt-1", date(2026, 11, 1), -22, "gpt-1 ended", "move the agent", "")


def passport_of(lock: Lock) -> Passport:
    code = CodeRecord(gitune="0", commit=None, dirty=False)
    record, digest = lock_record(lock), body_sha256(lock)
    return Passport(lock=record, lock_sha256=digest, dataset=None, code=code, evaluations={})


def refused(refusal: Refusal | None) -> str | None:
    return refusal.rule if refusal else None


def deploying(serving: Serving | None = OTHER, lock: Lock | None = LOCK, **facts: Any) -> Deploying:
    return Deploying("support", serving, lock, **facts)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (deploying(SAME, None), "delete-serving-model"),
        (deploying(SAME), None),
        (deploying(None, None), None),
    ],
)
def test_delete_serving_model(change: Deploying, rule: str | None) -> None:
    assert refused(delete_serving_model(change)) == rule


ADOPTED = replace(LOCK, verdict={"outcome": "adopted", "reasons": [], "gate": None})
NAMED = replace(LOCK, passport="a" * 64)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (deploying(), None),
        (deploying(lock=NAMED, passport=passport_of(NAMED)), None),
        (deploying(lock=ADOPTED), "unproven-model"),
        (deploying(SAME, ADOPTED), None),
        (deploying(lock=replace(LOCK, verdict={})), "unproven-model"),
        (deploying(lock=NAMED), "unproven-model"),
        (deploying(lock=replace(NAMED, model_id="local:typed"), passport=passport_of(NAMED)), "unproven-model"),
    ],
)
def test_unproven_model(change: Deploying, rule: str | None) -> None:
    assert refused(unproven_model(change)) == rule


def test_tag_mismatch() -> None:
    assert refused(tag_mismatch(deploying(tag="support@v1.2.3: another model"))) == "tag-mismatch"
    assert refused(tag_mismatch(deploying())) is None
    assert refused(tag_mismatch(deploying(SAME, tag="support@v1.2.3: another model"))) is None


def test_base_model_ended() -> None:
    assert refused(base_model_ended(deploying(ended=ENDED))) == "base-model-ended"
    assert refused(base_model_ended(Submitting("support", "gpt-1", ended=ENDED))) == "base-model-ended"
    assert refused(base_model_ended(deploying())) is None
    assert refused(base_model_ended(deploying(SAME, ended=ENDED))) is None
    assert refused(base_model_ended(Submitting("support", "gpt-2"))) is None


def test_no_licence() -> None:
    assert refused(no_licence(deploying(unlicensed=("train.jsonl",)))) == "no-licence"
    assert refused(no_licence(Submitting("support", "gpt-1", ("train.jsonl",)))) == "no-licence"
    assert refused(no_licence(deploying())) is None
    assert refused(no_licence(deploying(SAME, unlicensed=("train.jsonl",)))) is None
    assert refused(no_licence(Submitting("support", "gpt-1"))) is None


def fleet(agents: int, changed: int, new: int = 0) -> Sequence[Deploying]:
    """So many serving agents, of which the first `changed` get another model, and so many new ones."""
    serving = [Deploying(f"a{n}", OTHER if n < changed else SAME, LOCK) for n in range(agents)]
    return [*serving, *(Deploying(f"n{n}", None, LOCK) for n in range(new))]


@pytest.mark.parametrize(
    ("agents", "changed", "share", "rule"),
    [
        (1, 1, 0.5, None),
        (2, 1, 0.1, None),
        (2, 2, 0.5, "fleet-share"),
        (3, 2, 0.5, "fleet-share"),
        (4, 2, 0.5, None),
        (4, 3, 0.5, "fleet-share"),
        (100, 29, 0.29, None),
        (100, 30, 0.29, "fleet-share"),
        (100, 100, 1.0, None),
        (0, 0, 0.5, None),
    ],
)
def test_fleet_share(agents: int, changed: int, share: float, rule: str | None) -> None:
    assert refused(fleet_share(fleet(agents, changed, new=7), share)) == rule


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.01, 1.0))
def test_the_fleet_is_refused_above_the_share_and_never_for_one(agents: int, changed: int, share: float) -> None:
    changed = min(agents, changed)
    allowed = changed <= 1 or changed <= share * agents + 1e-9
    assert (fleet_share(fleet(agents, changed), share) is None) == allowed


def test_removals_count_as_changes_of_the_fleet() -> None:
    gone = [Deploying(f"a{n}", SAME, None) for n in range(2)]
    assert refused(fleet_share([*gone, Deploying("b", SAME, LOCK)], 0.5)) == "fleet-share"


LICENCE = Refusal("no-licence", "support", "no licence", "add it")


@pytest.mark.parametrize(
    ("forced", "of_agent", "of_stack", "allowed"),
    [
        ((), [], [], ""),
        (("no-licence",), [], [], "--force no-licence"),
        (("fleet-share",), [], [], ""),
        ((), [Allow(rule="no-licence", reason="ours")], [], "agents/support/agent.yaml: ours"),
        ((), [Allow(rule="no-licence", until="2026-11-23")], [], "agents/support/agent.yaml until 2026-11-23"),  # type: ignore[arg-type]
        ((), [Allow(rule="no-licence", until="2026-11-22")], [], ""),  # type: ignore[arg-type]
        ((), [Allow(rule="tag-mismatch")], [], ""),
        ((), [], [StackAllow(rule="no-licence")], "gitune:allow"),
        ((), [], [StackAllow(rule="no-licence", agent="support")], "gitune:allow"),
        ((), [], [StackAllow(rule="no-licence", agent="qa")], ""),
    ],
)
def test_what_overrides(
    forced: Sequence[str], of_agent: Sequence[Allow], of_stack: Sequence[StackAllow], allowed: str
) -> None:
    ruling = rule_on(LICENCE, forced, {"support": of_agent, "qa": [Allow(rule="no-licence")]}, of_stack, TODAY)
    assert (ruling.allowed, ruling.stands) == (allowed, not allowed)


def test_every_rule_is_documented() -> None:
    text = (REPOSITORY / "docs/rules.md").read_text(encoding="utf-8")
    assert all(f"`{rule}`" in text for rule in get_args(Rule))


# Through the command line and the real engine.


def production(repository: Repository, **config: Any) -> None:
    values = {"gitune:declare": ["deployments"], "gitune:locks": "agents", "gitune:routes": "routes.json", **config}
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": values}))


def lock(repository: Repository, agent: str, version: str = "1.0.0", *, passport: bool = True, **changes: Any) -> Lock:
    """A lock with its passport."""
    made = replace(LOCK, agent=agent, version=version, **{"model_id": f"local:{agent}-{version}", **changes})
    path = repository.root / "agents" / agent / "model.lock.yaml"
    if passport:
        made = replace(made, passport=write_passport(path, passport_of(made)))
    write_lock(path, made)
    return made


def up(gitune: Gitune, *arguments: str) -> Result:
    return gitune("up", "-s", "production", *arguments)


def routes(repository: Repository) -> dict[str, str]:
    return {alias: route.model_id for alias, route in read_routes(repository.root / "routes.json").items()}


@pytest.fixture
def deployed(repository: Repository, gitune: Gitune) -> Repository:
    """Three agents in production."""
    production(repository)
    for name in ("legal", "qa", "support"):
        repository.add_agent(name)
        lock(repository, name)
    done = up(gitune)
    assert done.code == 0, done.err
    return repository


@pytest.mark.slow
def test_a_fleet_is_changed_in_steps_or_by_force(deployed: Repository, gitune: Gitune) -> None:
    before = routes(deployed)
    lock(deployed, "qa", "1.1.0")
    lock(deployed, "support", "1.1.0")
    plan = gitune("plan", "-s", "production")
    assert plan.code == 1
    assert plan.out.startswith(
        "blocked by fleet-share: up would do nothing of what follows\n! all agents: fleet-share: 2 of 3"
    )
    assert "~ qa: alias qa → 1.1.0" in plan.out
    refused = up(gitune)
    assert (refused.code, routes(deployed)) == (1, before)
    assert (
        "refused: this pass submits and deploys nothing\n  all agents: fleet-share: 2 of 3 deployed agents"
        in refused.err
    )
    assert "gitune up --force fleet-share (gitune's docs/rules.md)" in refused.err
    engine = gitune_pulumi(deployed)
    assert (engine.code, routes(deployed)) == (1, before)
    assert "fleet-share: 2 of 3 deployed agents" in engine.out + engine.err
    forced = up(gitune, "--force", "fleet-share")
    assert forced.code == 0, forced.err
    assert "(allowed by --force fleet-share)" in forced.err
    assert routes(deployed) == {"legal": "local:legal-1.0.0", "qa": "local:qa-1.1.0", "support": "local:support-1.1.0"}


def gitune_pulumi(repository: Repository) -> Result:
    """The engine started by hand."""
    from tests.journey import call

    return call(repository, "pulumi", "up", "-s", "production", "--yes", "--skip-preview", "--non-interactive")


@pytest.mark.slow
def test_one_agent_is_changed_and_a_serving_one_is_not_deleted(deployed: Repository, gitune: Gitune) -> None:
    lock(deployed, "qa", "1.1.0")
    assert up(gitune).code == 0
    before = routes(deployed)
    (deployed.root / "agents/qa").rename(deployed.root / "qa-is-gone")
    refused = up(gitune)
    assert (refused.code, routes(deployed)) == (1, before)
    assert "qa: delete-serving-model: alias qa answers with local:qa-1.1.0" in refused.err
    allow = {"rule": "delete-serving-model", "agent": "qa", "reason": "nobody asks it", "until": "2999-12-31"}
    production(deployed, **{"gitune:allow": [allow]})
    items = json.loads(gitune("plan", "-s", "production", "--json").out)
    assert [(item["action"], item.get("rule")) for item in items] == [
        ("allow", "delete-serving-model"),
        ("remove", None),
    ]
    assert items[0]["allowed"] == "gitune:allow until 2999-12-31: nobody asks it"
    assert up(gitune).code == 0
    assert set(routes(deployed)) == {"legal", "support"}


@pytest.fixture
def one(repository: Repository) -> Repository:
    """A repository of git with one agent that nothing serves yet."""
    production(repository)
    repository.write(".gitignore", ".gitune/\nroutes.json\n")
    repository.add_agent("support")
    return repository


def blocked_by(gitune: Gitune) -> list[str]:
    """By `gitune plan`."""
    result = gitune("plan", "-s", "production", "--json")
    rules = [item["rule"] for item in json.loads(result.out) if item["action"] == "refuse"]
    assert result.code == (1 if rules else 0), result.err
    return rules


def free() -> bool:
    """What `gitune plan` asks, without the engine."""
    project = Project.open("production")
    return not any(ruling.stands for ruling in judge_pass(project, load_agents(project.root), {}, {}))


def test_a_model_that_no_gate_has_passed(one: Repository, gitune: Gitune) -> None:
    lock(one, "support", verdict={"outcome": "adopted", "reasons": [], "gate": None})
    assert blocked_by(gitune) == ["unproven-model"]
    one.add_agent("support", agent_yaml(allow=[{"rule": "unproven-model", "reason": "from before"}]))
    assert free()


def test_a_model_id_typed_by_hand(one: Repository, gitune: Gitune) -> None:
    right = lock(one, "support")
    write_lock(one.root / "agents/support/model.lock.yaml", replace(right, model_id="local:typed"))
    assert blocked_by(gitune) == ["unproven-model"]
    write_lock(one.root / "agents/support/model.lock.yaml", right)
    assert free()


def test_a_lock_that_differs_from_its_tag(one: Repository, gitune: Gitune) -> None:
    git = Git(one.root)
    lock(one, "support")
    git.commit("a lock")
    git("tag", "-a", "-m", "1.0.0", "support@v1.0.0")
    assert free()
    lock(one, "support", model_id="local:another")
    assert blocked_by(gitune) == ["tag-mismatch"]


def test_a_base_model_past_its_end(one: Repository, gitune: Gitune) -> None:
    ended = {
        "what": "serving",
        "base_models": [LOCK.base_model],
        "ends": "2026-01-31",
        "source": "x",
        "read": "2026-01-01",
    }
    lock(one, "support")
    assert free()
    production(one, **{"gitune:providers": {"local": {"sunset": [ended]}}})
    assert blocked_by(gitune) == ["base-model-ended"]


def test_a_training_without_a_licence_is_not_paid_for(
    repository: Repository, gitune: Gitune, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hosted_agents(repository, "mistral", 1)
    file = repository.root / "agents/agent-0/agent.yaml"
    licensed = file.read_text()
    file.write_text(licensed.replace("    licence: Apache-2.0\n", ""))
    assert file.read_text() != licensed
    with MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        result = gitune("up", "-s", "training")
        assert (result.code, {request.method for request in server.requests}) == (1, {"GET"})
        assert "no-licence: no licence is noted for agents/agent-0/data/train.jsonl" in result.err
        file.write_text(licensed)
        plan = gitune("plan", "-s", "training")
        assert (plan.code, plan.out.startswith("+ agent-0: trains")) == (0, True), plan.err


def test_nothing_is_refused_where_locks_are_not_committed(repository: Repository, gitune: Gitune) -> None:
    production(repository, **{"gitune:locks": ".gitune/locks"})
    repository.add_agent("support")
    made = replace(ADOPTED, agent="support")
    write_lock(repository.root / ".gitune/locks/support/model.lock.yaml", made)
    assert blocked_by(gitune) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"rule": "no-license"}, "'allow.0.rule' cannot be 'no-license'"),
        ({"rule": "fleet-share"}, "'allow.0.rule' cannot be 'fleet-share'"),
        ({"rule": "no-licence", "until": "soon"}, "must be a day in quotes"),
        ({"rule": "no-licence", "untill": "2027-01-01"}, "unknown key 'allow.0.untill'"),
    ],
)
def test_an_allowance_is_checked(entry: dict[str, str], message: str, repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("support", agent_yaml(allow=[entry]))
    result = gitune("validate")
    assert (result.code, message in result.err) == (1, True), result.err


def test_a_rule_of_another_name_is_not_forced(repository: Repository, gitune: Gitune) -> None:
    assert gitune("up", "--force", "everything").code == 1
