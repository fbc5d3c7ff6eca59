"""`gitune drift`: what is there is compared with what is recorded, and nothing is touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.dataset import build_dataset
from gitune.deploy import Route, set_route
from gitune.drift import Finding, Observed, Recorded, compare
from gitune.errors import Rejected
from gitune.files import read_json, try_lock, write_atomic
from gitune.lock import Lock, write_lock
from gitune.project import Project, training_requests
from gitune.providers.base import Job, ListedJob, Model, TrainingKey, TrainingRequest, short
from gitune.reconcile import ModelState
from gitune.report.drift import drift_markdown
from gitune.report.markdown import escaped
from gitune.spec import load_agents
from gitune.testing import Fault
from tests.conftest import Repository, Result, agent_yaml
from tests.servers import mistral
from tests.servers.mistral import MistralServer
from tests.servers.world import write_dataset

KEY = TrainingKey("ab" * 32)
Drift = Callable[..., tuple[int, list[dict[str, Any]]]]


def lock(agent: str, provider: str, model_id: str, key: str | None = KEY) -> Lock:
    facts: dict[str, Any] = {name: {} for name in ("hyperparameters", "dataset", "benchmark", "verdict")}
    return Lock(
        agent, "1.0.0", provider, model_id, base_model="base", method="lora", job={"id": "j", "key": key}, **facts
    )


# --- the pure comparison

STATE = ModelState("succeeded", KEY, "acme", "base", "job-1", "model-1")
LOCKED = lock("support", "acme", "model-1")
ROUTE = Route("support", "acme", "model-1", "1.0.0")
RECORDED = Recorded(
    stack="prod",
    locks={"support": LOCKED},
    models={"support": STATE},
    aliases={"help": "support"},
    deployed=frozenset({"help"}),
    keys=frozenset({short(KEY)}),
    lock_files={"support": "agents/support/model.lock.yaml"},
)
OBSERVED = Observed(account=[ListedJob("job-1", "succeeded", short(KEY))], models={"model-1": Model("model-1", "base")})


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.kind for finding in findings]


def judge(
    observed: Observed = OBSERVED, routes: Mapping[str, Route] | None = None, recorded: Recorded = RECORDED
) -> tuple[Finding, ...]:
    return compare(recorded, {"acme": observed}, {"help": ROUTE} if routes is None else routes)


def test_what_is_as_recorded_is_no_drift() -> None:
    assert judge() == ()
    assert compare(RECORDED, {"acme": OBSERVED}, None) == ()


def test_a_model_that_went_is_told_once_and_never_trained_twice() -> None:
    (found,) = judge(replace(OBSERVED, models={"model-1": None}))
    assert (found.kind, found.agent, found.provider) == ("model-missing", "support", "acme")
    assert found.hint == "lock an earlier model: gitune rollback support"


def test_a_model_that_went_with_its_job_is_trained_again() -> None:
    found = judge(Observed(account=[], jobs={KEY: None}, models={"model-1": None}))
    assert kinds(found) == ["model-missing", "job-gone"]
    assert {finding.hint for finding in found} == {"run: gitune up -s prod, which trains it again"}


def test_an_archived_model() -> None:
    (found,) = judge(replace(OBSERVED, models={"model-1": Model("model-1", "base", archived=True)}))
    assert (found.kind, found.message) == ("model-archived", "the locked model 1.0.0, model-1, is archived")


@pytest.mark.parametrize(
    ("recorded", "job", "kind", "hint"),
    [
        ("running", None, "job-gone", "run: gitune up -s prod"),
        ("running", Job(KEY, "j", "lost"), "job-gone", "run: gitune up -s prod"),
        ("running", Job(KEY, "j", "cancelled"), "job-failed", "run: gitune up -s prod"),
        ("running", Job(KEY, "j", "failed", error=Rejected("no")), "job-failed", "run: gitune up --retry -s prod"),
        ("succeeded", Job(KEY, "j", "failed"), "job-failed", "run: gitune up --retry -s prod"),
    ],
)
def test_jobs_that_ended_otherwise(recorded: Any, job: Job | None, kind: str, hint: str) -> None:
    models = {"support": replace(STATE, status=recorded)}
    (found,) = judge(replace(OBSERVED, jobs={KEY: job}), recorded=replace(RECORDED, models=models))
    assert (found.kind, found.hint) == (kind, hint)


@pytest.mark.parametrize("status", ["queued", "failed", "lost"])
def test_what_is_recorded_as_unsettled_has_no_drift(status: Any) -> None:
    models = {"support": replace(STATE, status=status)}
    assert judge(replace(OBSERVED, jobs={KEY: None}), recorded=replace(RECORDED, models=models)) == ()


def test_a_live_job_with_an_unknown_key_is_drift_and_others_jobs_are_use() -> None:
    account = [
        ListedJob("ours", "running", short(KEY)),
        ListedJob("whose", "running", "0" * 16),
        ListedJob("earlier", "succeeded", "1" * 16),
        ListedJob("theirs", "queued", None),
    ]
    unknown, use = judge(replace(OBSERVED, account=account))
    assert (unknown.kind, unknown.provider, unknown.drift) == ("unknown-job", "acme", True)
    assert "job whose is running" in unknown.message
    assert (use.kind, use.drift, use.message[:13]) == ("live-use", False, "1 live job(s)")


def test_no_answer_and_no_list_are_notes() -> None:
    found = judge(Observed(lists_all=False, unreachable="down"))
    assert kinds(found) == ["unreachable", "not-checked"]
    assert not any(finding.drift for finding in found)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ({"help": replace(ROUTE, model_id="model-0")}, "points to support 1.0.0 (model-0 on acme), and the lock says"),
        ({}, "does not answer: its route is gone"),
        ({"help": ROUTE, "old": ROUTE}, "alias old points to support 1.0.0 (model-1 on acme), and no agent declares"),
    ],
)
def test_aliases_that_point_elsewhere(routes: dict[str, Route], words: str) -> None:
    (found,) = judge(routes=routes)
    assert found.kind == "alias-mismatch"
    assert words in found.message


def test_a_first_deployment_and_a_removal_are_the_plans_to_tell() -> None:
    assert judge(routes={}, recorded=replace(RECORDED, deployed=frozenset())) == ()
    renamed = replace(RECORDED, aliases={}, locks={}, models={})
    assert judge(recorded=renamed) == ()


def test_markdown_of_hostile_names_is_text() -> None:
    hostile = "a|b `x` <img src=x> [l](http://e.org) @all #1 **b**\n## c \x1b[31m"
    text = drift_markdown([Finding("alias-mismatch", hostile, "p|q", hostile, hostile)], "dev")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.count("|") for row in rows] == [5, 5]
    assert [line for line in text.splitlines() if line.startswith("##")] == [f"## {escaped(hostile)}"]
    plain = re.sub(r"&#\d+;|<!-- -->", "", escaped(hostile))
    assert not set(plain) & set("|`<>[]@#*/:\x1b\n&")


# --- a provider on this machine


def write_state(
    repository: Repository, stack: str, models: Mapping[str, ModelState], aliases: Mapping[str, str]
) -> None:
    resources = [
        {
            "type": "pulumi-python:dynamic/gitune:FineTunedModel",
            "outputs": {"agent": agent, "candidates": [], **asdict(state)},
        }
        for agent, state in models.items()
    ]
    resources += [
        {"type": "pulumi-python:dynamic/gitune:Deployment", "outputs": {"agent": agent, "alias": alias}}
        for agent, alias in aliases.items()
    ]
    state = {"checkpoint": {"latest": {"resources": resources}}}
    repository.write(f".gitune/pulumi/.pulumi/stacks/gitune/{stack}.json", json.dumps(state))


def local_job(repository: Repository, key: str, status: str | None = "succeeded") -> Path:
    """A job's folder as the training script leaves it."""
    folder = repository.root / ".gitune" / "jobs" / short(key)
    write_atomic(folder / "config.json", json.dumps({"key": key, "base_model": "base"}))
    if status:
        write_atomic(folder / "status.json", json.dumps({"status": status}))
    if status == "succeeded":
        write_atomic(folder / "model" / "training.json", json.dumps({"base_model": "base"}))
    return folder


@pytest.fixture
def drift(gitune: Callable[..., Result], repository: Repository) -> Drift:
    """The command, which must leave every file as it was."""

    def call(stack: str) -> tuple[int, list[dict[str, Any]]]:
        before = files(repository.root)
        result = gitune("drift", "-s", stack, "--json")
        assert files(repository.root) == before
        return result.code, json.loads(result.out) if result.out else []

    return call


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def deployed(repository: Repository) -> Repository:
    """An agent that was trained, locked and deployed on this machine."""
    repository.add_agent("support")
    local_job(repository, KEY)
    model_id = f"local:{short(KEY)}"
    project = Project.open("dev", repository.root)
    write_lock(project.lock_file("support"), lock("support", "local", model_id))
    set_route(project.routes_file, "support", Route("support", "local", model_id, "1.0.0"))
    state = ModelState("succeeded", KEY, "local", "base", short(KEY), model_id)
    write_state(repository, "dev", {"support": state}, {"support": "support"})
    return repository


def test_nothing_recorded_and_nothing_there(repository: Repository, gitune: Callable[..., Result]) -> None:
    repository.add_agent("support")
    result = gitune("drift")
    assert (result.code, result.out) == (0, "no drift found in stack dev\n")
    assert not (repository.root / ".gitune").exists()


def test_what_was_deployed_has_no_drift(deployed: Repository, drift: Drift) -> None:
    assert drift("dev") == (0, [])


def test_an_alias_edited_by_hand(deployed: Repository, drift: Drift, gitune: Callable[..., Result]) -> None:
    path = deployed.root / ".gitune/dev/routes.json"
    routes = read_json(path)
    routes["routes"]["support"]["model_id"] = "local:other"
    routes["routes"]["nobody"] = routes["routes"]["support"]
    path.write_text(json.dumps(routes))
    code, found = drift("dev")
    assert (code, [item["kind"] for item in found]) == (2, ["alias-mismatch"] * 2)
    assert found[1]["hint"] == "run: gitune up -s dev"
    shown = gitune("drift")
    assert (shown.code, "alias support points to" in shown.out) == (2, True)
    assert "hint: support: run: gitune up -s dev\n" in shown.out
    markdown = gitune("drift", "--markdown")
    assert (markdown.code, markdown.out.startswith("2 differences in stack dev.\n")) == (2, True)
    path.write_text('{"routes": {"support": {"agent": "support"}}}')
    broken = gitune("drift")
    assert (broken.code, "not routes of aliases to models" in broken.err) == (1, True)


def test_a_local_model_that_was_deleted(deployed: Repository, drift: Drift) -> None:
    shutil.rmtree(deployed.root / ".gitune" / "jobs" / short(KEY) / "model")
    code, found = drift("dev")
    assert (code, [item["kind"] for item in found]) == (2, ["model-missing", "job-gone"])
    assert found[0]["hint"] == "run: gitune up -s dev, which trains it again"


def test_a_local_model_that_was_archived(deployed: Repository, drift: Drift) -> None:
    Project.open("dev", deployed.root).provider("local").archive_model(f"local:{short(KEY)}")
    code, (found,) = drift("dev")
    assert (code, found["kind"], found["agent"], found["drift"]) == (2, "model-archived", "support", True)


def test_a_live_local_job_is_unknown_only_if_no_agent_wants_it(deployed: Repository, drift: Drift) -> None:
    (spec,) = load_agents(deployed.root)
    project = Project.open("dev", deployed.root)
    (wanted,) = training_requests(spec, project, build_dataset(spec, deployed.root).fingerprint)
    held = try_lock(local_job(deployed, wanted.key, None) / "lock")
    assert held is not None
    with held:
        assert drift("dev") == (0, [])
    foreign = try_lock(local_job(deployed, "f" * 64, None) / "lock")
    assert foreign is not None
    with foreign:
        code, (found,) = drift("dev")
    assert (code, found["kind"], found["provider"], found["agent"]) == (2, "unknown-job", "local", "")
    assert f"job {'f' * 16} is running" in found["message"]


def test_two_renderings_at_once_are_refused(deployed: Repository, gitune: Callable[..., Result]) -> None:
    assert gitune("drift", "--json", "--markdown").code == 1


# --- a provider with a wire


@pytest.fixture
def server(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[MistralServer]:
    """Mistral, and a training stack whose agents train there."""
    with MistralServer() as server:
        monkeypatch.setenv("MISTRAL_API_KEY", mistral.KEY)
        monkeypatch.setenv("MISTRAL_BASE_URL", server.url)
        stack = {"config": {"gitune:declare": ["models"]}}
        (repository.root / "Pulumi.training.yaml").write_text(yaml.safe_dump(stack))
        repository.add_agent("qa", agent_yaml(training=[{"provider": "mistral"}]))
        yield server
        assert server.violations == []


def request(number: int = 0) -> TrainingRequest:
    values = {"epochs": 3 + number, "learning_rate": 1e-4}
    return TrainingRequest("mistral", "open-mistral-7b", "lora", values, "f" * 64)


def submit(repository: Repository, number: int = 0) -> Job:
    provider = Project.open("training", repository.root).provider("mistral")
    return provider.submit_job(request(number), write_dataset(repository.root / "dataset"))


@pytest.fixture
def trained(repository: Repository, server: MistralServer) -> tuple[MistralServer, str]:
    """A model that Mistral trained, recorded and locked; its ID."""
    job = submit(repository)
    write_state(repository, "training", {"qa": ModelState("running", job.key, "mistral", "base", job.job_id)}, {})
    server.jobs.finish(job.job_id)
    found = Project.open("training", repository.root).provider("mistral").find_job(job.key)
    assert found is not None
    assert found.model_id
    state = ModelState("succeeded", job.key, "mistral", "base", job.job_id, found.model_id)
    write_state(repository, "training", {"qa": state}, {})
    write_lock(repository.root / "agents/qa/model.lock.yaml", lock("qa", "mistral", found.model_id, job.key))
    server.requests.clear()
    return server, found.model_id


def test_a_calm_stack_costs_one_list_and_one_question_for_each_model(
    trained: tuple[MistralServer, str], drift: Drift
) -> None:
    server, _ = trained
    assert drift("training") == (0, [])
    assert len(server.requests) == 2


def test_a_model_archived_at_mistral(trained: tuple[MistralServer, str], drift: Drift) -> None:
    server, model_id = trained
    server.archived.add(model_id)
    code, (found,) = drift("training")
    assert (code, found["kind"], found["agent"], found["provider"]) == (2, "model-archived", "qa", "mistral")


def test_an_account_that_lost_everything(trained: tuple[MistralServer, str], drift: Drift) -> None:
    server, _ = trained
    server.jobs.all.clear()
    code, found = drift("training")
    assert (code, [item["kind"] for item in found]) == (2, ["model-missing", "job-gone"])


def test_a_job_that_failed_behind_our_back(repository: Repository, server: MistralServer, drift: Drift) -> None:
    server.jobs.fail_next.append("line 3 of the training file is not valid")
    job = submit(repository)
    write_state(repository, "training", {"qa": ModelState("running", job.key, "mistral", "base", job.job_id)}, {})
    assert drift("training") == (0, [])
    server.jobs.finish(job.job_id)
    code, (found,) = drift("training")
    assert (code, found["kind"], found["hint"]) == (2, "job-failed", "run: gitune up --retry -s training")
    assert "line 3 of the training file is not valid" in found["message"]


def test_a_foreign_job_is_drift_if_it_carries_a_key_and_use_if_it_does_not(
    trained: tuple[MistralServer, str], repository: Repository, drift: Drift
) -> None:
    server, _ = trained
    job = submit(repository, 1)
    theirs = server.said(server.jobs.all[job.job_id])
    server.strangers = [{**theirs, "suffix": None}, {"job_type": "distillation", "id": "new-kind"}]
    code, found = drift("training")
    assert (code, [item["kind"] for item in found]) == (2, ["unknown-job", "live-use"])
    assert short(request(1).key) in found[0]["message"]
    assert found[1]["message"].startswith("2 live job(s)")
    server.strangers = []
    server.jobs.finish(job.job_id)
    assert drift("training") == (0, [])


def test_other_stacks_know_jobs_too(repository: Repository, server: MistralServer, drift: Drift) -> None:
    job = submit(repository)
    assert drift("training")[0] == 2
    (repository.root / "Pulumi.other.yaml").write_text("config: {}\n")
    write_state(repository, "other", {"qa": ModelState("running", job.key, "mistral", "base", job.job_id)}, {})
    assert drift("training") == (0, [])


def test_models_are_asked_for_where_only_the_training_api_is_gone(
    trained: tuple[MistralServer, str], drift: Drift
) -> None:
    server, model_id = trained
    server.archived.add(model_id)
    server.plant(Fault("status", 410), on_submit=False)
    code, found = drift("training")
    assert (code, [item["kind"] for item in found]) == (2, ["model-archived", "unreachable"])


def test_no_answer_is_listed_and_is_no_drift(
    trained: tuple[MistralServer, str], drift: Drift, gitune: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "wrong-key-0123456789")
    code, (found,) = drift("training")
    assert (code, found["kind"], found["provider"], found["drift"]) == (0, "unreachable", "mistral", False)
    assert "wrong-key" not in json.dumps(found)
    assert gitune("drift", "-s", "training").out.startswith(
        "no drift found in what could be asked of stack training\nunreachable: mistral: "
    )
