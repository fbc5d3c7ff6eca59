"""What was spent is remembered, never counted twice, and what the rest would cost is computed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.backend import recorded_deployment
from gitune.compare import AS_DECLARED, WAIT, Approach, Comparison, compare
from gitune.costs import month_usd, note_spendings, read_spendings, running_usd, sums
from gitune.dataset import build_dataset
from gitune.forecast import forecast
from gitune.lock import Lock, write_lock
from gitune.project import Project, checked_agents, training_requests
from gitune.state import RESOURCE_PREFIX
from tests.conftest import Repository, Result, agent_yaml

Gitune = Callable[..., Result]
TRAINING = [{"provider": "mistral"}, {"provider": "local"}]
TODAY = date(2026, 11, 23)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in os.environ if name.startswith(("AWS_", "RAY_", "HF_", "MISTRAL_", "OPENAI_"))]
    for name in names:
        monkeypatch.delenv(name)


@pytest.fixture
def project(repository: Repository) -> Project:
    """Two agents, each on Mistral or else on this machine."""
    for name in ("analyst", "support"):
        repository.add_agent(name, agent_yaml(training=TRAINING))
    return with_stack(repository)


def with_stack(repository: Repository, **config: Any) -> Project:
    said = {"gitune:declare": ["models"], **{f"gitune:{name}": value for name, value in config.items()}}
    (repository.root / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": said}))
    return Project.open("dev", repository.root)


def model(agent: str, key: str, *, status: str = "succeeded", **changes: Any) -> dict[str, Any]:
    """A FineTunedModel as the engine records it."""
    facts = {"job_id": f"job-{key[:4]}", "model_id": f"ft:{key[:4]}", "provider": "mistral", "cost_usd": 4.0}
    outputs = {"agent": agent, "key": key, "status": status, "examples": 22, "fingerprint": "f" * 64} | facts | changes
    modified = changes.pop("modified", "2026-11-20T10:00:00.123456789Z")
    return {"type": f"{RESOURCE_PREFIX}FineTunedModel", "modified": modified, "outputs": outputs}


def record(project: Project, *models: dict[str, Any]) -> dict[str, Any]:
    """The engine's state."""
    deployment = {"resources": list(models)}
    file = project.root / ".gitune/pulumi/.pulumi/stacks/gitune/dev.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"checkpoint": {"latest": deployment}}))
    return deployment


def lock(project: Project, agent: str, key: str | None, *, cost: float | None = 4.0) -> Path:
    job = {"id": f"job-{(key or '')[:4]}", "key": key, "seconds": 600.0, "cost_usd": cost, "estimated_usd": [3, 4, 6]}
    path = project.lock_file(agent)
    verdict = {"outcome": "pass", "reasons": [], "gate": None}
    values = {"provider": "mistral", "model_id": "m", "base_model": "open-mistral-7b", "method": "lora"}
    write_lock(
        path,
        Lock(agent, "1.0.0", **values, hyperparameters={}, dataset={}, job=job, benchmark={}, verdict=verdict),
    )
    return path


def commit(project: Project, when: str) -> None:
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(project.root))
    dated = {**os.environ, "GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when}
    for arguments in (("init", "-q"), ("add", "agents"), ("commit", "-qm", "a lock")):
        subprocess.run([*git, *arguments], check=True, env=dated)


def key_of(project: Project, agent: str) -> str:
    """Of its first candidate, as its files are now."""
    (spec,) = checked_agents(project, [agent])
    return training_requests(spec, project, build_dataset(spec, project.root).fingerprint)[0].key


OLD, NEW = "a" * 64, "b" * 64


def test_a_superseded_training_is_still_counted(project: Project) -> None:
    first = record(project, model("support", OLD))
    assert [spending.key for spending in note_spendings(project, first)] == [OLD]
    assert note_spendings(project, first) == ()
    second = record(project, model("support", NEW, cost_usd=5.0, modified="2026-11-21T00:00:00Z"))
    spendings = read_spendings(project, second)
    assert [(spending.key, spending.cost_usd) for spending in spendings] == [(OLD, 4.0), (NEW, 5.0)]
    assert (month_usd(spendings, "2026-11"), month_usd(spendings, "2026-10")) == (9.0, 0.0)


def test_one_training_is_counted_once_whoever_tells_of_it(project: Project) -> None:
    deployment = record(project, model("support", OLD))
    lock(project, "support", OLD)
    commit(project, "2026-09-30T23:30:00-02:00")
    note_spendings(project, deployment)
    (spending,) = read_spendings(project, deployment)
    assert (spending.key, spending.month) == (OLD, "2026-11")
    (from_lock,) = read_spendings(with_stack(Repository(project.root), store="elsewhere"), {})
    assert (from_lock.key, from_lock.month, from_lock.estimated_usd) == (OLD, "2026-10", (3, 4, 6))


def test_the_history_of_a_lock_tells_what_another_clone_spent(project: Project) -> None:
    lock(project, "support", OLD)
    commit(project, "2026-10-05T12:00:00+00:00")
    lock(project, "support", NEW, cost=None)
    commit(project, "2026-11-05T12:00:00+00:00")
    lock(project, "analyst", None)  # adopted: paid for elsewhere
    spendings = read_spendings(project, {})
    assert [(spending.month, spending.cost_usd) for spending in spendings] == [("2026-10", 4.0), ("2026-11", None)]


def test_an_unknown_cost_is_unknown_and_told_later_it_completes_the_note(project: Project) -> None:
    unknown = record(project, model("support", OLD, cost_usd=None), model("analyst", NEW, status="failed"))
    note_spendings(project, unknown)
    analyst, support = sums(read_spendings(project, unknown))
    assert (analyst.spent_usd, analyst.unknown) == (4.0, 0)
    assert (support.trainings, support.spent_usd, support.unknown) == (1, 0.0, 1)
    known = record(project, model("support", OLD, cost_usd=4.5, modified="2026-12-01T00:00:00Z"))
    note_spendings(project, known)
    support = sums(read_spendings(project, {}))[1]
    assert (support.trainings, support.spent_usd, support.unknown) == (1, 4.5, 0)
    assert {spending.month for spending in read_spendings(project, {})} == {"2026-11"}


def test_a_running_job_is_committed_by_its_high_estimate(project: Project) -> None:
    (analyst,) = checked_agents(project, ["analyst"])
    dataset = build_dataset(analyst, project.root)
    request = training_requests(analyst, project, dataset.fingerprint)[0]
    facts = {"fingerprint": dataset.fingerprint, "candidates": [request.recorded()]}
    deployment = record(project, model("analyst", request.key, status="running", cost_usd=None, **facts))
    assert running_usd(project, deployment) == 0.0
    forecast(dataset, [request], project)  # as the plan does
    assert running_usd(project, deployment) == 4.0
    assert running_usd(project, record(project, model("analyst", request.key, **facts))) == 0.0


def test_what_runs_or_was_never_submitted_cost_nothing_yet(project: Project) -> None:
    running = model("support", OLD, status="running")
    assert read_spendings(project, record(project, running, model("qa", NEW, status="failed", job_id=""))) == ()


def test_a_note_that_is_none_is_left_alone(project: Project) -> None:
    folder = project.root / ".gitune/store/spending"
    folder.mkdir(parents=True)
    for number, text in enumerate(("", "[]", '{"agent": 1}', '{"ended": "x", "estimated_usd": null}')):
        (folder / f"{number}.json").write_text(text)
    assert read_spendings(project, {}) == ()


def test_the_command_prints_what_was_spent_and_what_is_left(project: Project, gitune: Gitune) -> None:
    with_stack(Repository(project.root), budget_usd={"month": 10})
    record(project, model("support", OLD), model("analyst", NEW, provider="local", cost_usd=None))
    lock(project, "support", NEW * 2)
    result = gitune("costs", "--month", "2026-11")
    assert result.code == 0, result.err
    assert "total: $8.00 for 3 training(s), and 1 whose cost is unknown" in result.out
    assert "2026-11: $8.00, and 1 whose cost is unknown, $2.00 left of the budget of $10.00" in result.out
    told = json.loads(gitune("costs", "support", "--json").out)
    assert [(row["agent"], row["trainings"], row["spent_usd"]) for row in told["sums"]] == [("support", 2, 8.0)]
    assert (told["budget_usd"], told["left_usd"], told["sums"][0]["estimated_usd"]) == (10.0, 2.0, 4.0)
    assert json.loads(gitune("costs", "--month", "2025-01", "--json").out)["trainings"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("suport",), "no agent 'suport'\nhint: did you mean 'support'?"),
        (("--compare", "suport"), "no agent 'suport'"),
        (("--month", "november"), "Invalid value for '--month'"),
        (("--compare", "--month", "2026-11"), "does not go with --compare"),
        (("--markdown",), "--markdown goes with --compare"),
        (("--compare", "--markdown", "--json"), "--markdown goes with --compare"),
    ],
)
def test_a_wrong_call(arguments: tuple[str, ...], expected: str, project: Project, gitune: Gitune) -> None:
    result = gitune("costs", *arguments)
    assert (result.code, expected in result.err) == (1, True), result.err


def compared(project: Project) -> Comparison:
    return compare(project, recorded_deployment(project), checked_agents(project), TODAY)


def of(comparison: Comparison, name: str) -> Approach:
    return next(approach for approach in comparison.approaches if approach.name == name)


def test_every_provider_is_a_row_and_none_is_asked(project: Project) -> None:
    comparison = compared(project)
    names = [approach.name for approach in comparison.approaches]
    assert (comparison.agents, names[0], names[-1]) == (("analyst", "support"), AS_DECLARED, WAIT)
    assert sorted(names[1:-1]) == ["bedrock", "huggingface", "local", "mistral", "openai", "ray"]
    assert of(comparison, AS_DECLARED).usd == of(comparison, "mistral").usd == (8.0, 8.0, 8.0)
    assert of(comparison, "mistral").needs == ("takes no new jobs since 2026-07-01", "set MISTRAL_API_KEY")
    assert (of(comparison, "local").usd, of(comparison, "local").at_once) == ((0.0, 0.0, 0.0), 1)
    assert (of(comparison, "bedrock").usd, of(comparison, "bedrock").unknown) == (None, 2)
    costs = [approach.usd[1] for approach in comparison.approaches[1:-1] if approach.usd]
    assert costs == sorted(costs)
    assert of(comparison, WAIT).needs == ("2 not submitted yet",)
    assert not (project.root / ".gitune" / "jobs").exists()


def test_what_is_trained_or_running_does_not_remain(project: Project) -> None:
    record(project, model("support", key_of(project, "support"), status="running"))
    assert compared(project).agents == ("analyst",)
    lock(project, "analyst", key_of(project, "analyst"))
    assert compared(project) == Comparison((), 4.0, 0, ())


def test_waiting_helps_only_what_is_queued(project: Project) -> None:
    record(project, model("support", OLD, status="queued", job_id=""), model("analyst", NEW, status="failed"))
    waiting = of(compared(project), WAIT)
    assert waiting.needs == ("1 queued, and go on when other jobs end", "1 failed, and will not succeed by waiting")


def test_credentials_another_server_and_the_stacks_word_count(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "planted-key-0123")
    monkeypatch.setenv("MISTRAL_BASE_URL", "http://127.0.0.1:9")
    providers = {"openai": {"key_variable": "NEBIUS_API_KEY"}, "huggingface": {"concurrency": 1}}
    project = with_stack(Repository(project.root), providers=providers)
    comparison = compared(project)
    assert of(comparison, "mistral").needs == ()
    assert of(comparison, "openai").needs == ("set NEBIUS_API_KEY",)
    one_by_one, at_once = of(comparison, "huggingface").minutes, of(compared_again(project), "huggingface").minutes
    assert one_by_one is not None
    assert at_once is not None
    assert one_by_one[1] == pytest.approx(2 * at_once[1], rel=0.01)
    assert "planted-key" not in json.dumps(comparison.as_dict())


def compared_again(project: Project) -> Comparison:
    """Without a limit of jobs at once."""
    return compared(with_stack(Repository(project.root)))


def test_budgets_choose_what_is_declared(project: Project) -> None:
    comparison = compared(with_stack(Repository(project.root), budget_usd={"plan": 5}))
    assert of(comparison, AS_DECLARED).base_models == ("open-mistral-7b", "smollm2-135m-instruct")
    assert of(comparison, AS_DECLARED).usd == (4.0, 4.0, 4.0)
    assert (of(comparison, AS_DECLARED).over_budget, of(comparison, "mistral").over_budget) == (0, 1)


def test_the_table_in_three_renderings(project: Project, gitune: Gitune) -> None:
    record(project, model("analyst", OLD))
    printed = gitune("costs", "--compare", "support")
    assert (printed.code, printed.out.splitlines()[0]) == (0, "1 agent(s) to train: support; spent until now: $4.00")
    assert "mistral (open-mistral-7b): takes no new jobs since 2026-07-01; set MISTRAL_API_KEY" in printed.out
    markdown = gitune("costs", "--compare", "--markdown", "support").out
    assert "| mistral (open-mistral-7b) | $4.00 | $8.00 | time unknown | - | takes no new jobs" in markdown
    assert json.loads(gitune("costs", "--compare", "--json", "support").out)["spent_usd"] == 4.0
