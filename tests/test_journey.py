"""The whole journey on real data: Banking77's most frequent intents, trained, gated, deployed and asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.files import read_json
from gitune.state import FileState, resource_outputs
from tests import banking77, journey
from tests.conftest import REPOSITORY, Repository, Result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not banking77.available(), reason="Banking77 is not in ../shared/data"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Result]:
    """A repository after its first `gitune up`. Tests below bring it back to this state, or only read."""
    root = tmp_path_factory.mktemp("banking")
    (root / "infra").mkdir()
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml", "infra/__main__.py"):
        shutil.copy(REPOSITORY / name, root / name)
    repository = Repository(root)
    banking77.add_banking_agent(repository)
    return repository, journey.call(repository, "up", "--json", timeout=500)


def _changes(result: Result) -> list[dict[str, Any]]:
    """What `up` did."""
    assert result.code == 0, result.err
    return journey.outcome(result)["changes"]  # type: ignore[no-any-return]


def _plan(repository: Repository) -> list[dict[str, Any]]:
    result = journey.call(repository, "plan", "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def test_it_is_trained_gated_and_deployed(trained: tuple[Repository, Result]) -> None:
    repository, result = trained
    assert result.code == 0, result.err
    outcome = journey.outcome(result)
    assert (outcome["settled"], outcome["verdict"], outcome["version"]) == (True, "pass", "1.0.0")
    lock = yaml.safe_load((repository.root / ".gitune/dev/locks/banking/model.lock.yaml").read_text())
    assert lock["benchmark"]["accuracy"] >= 0.85
    assert lock["benchmark"]["accuracy"] - lock["benchmark"]["base_accuracy"] >= 0.6
    assert lock["benchmark"]["cases"] == 100
    routes = read_json(repository.root / ".gitune/dev/routes.json")["routes"]
    assert routes["banking"]["model_id"] == lock["model_id"] == outcome["model"]["model_id"]


def test_the_locked_accuracy_is_what_the_answers_say(trained: tuple[Repository, Result]) -> None:
    repository, result = trained
    model_id = journey.outcome(result)["model"]["model_id"]
    lines = (repository.root / "agents/banking/benchmark/cases.jsonl").read_text().splitlines()
    targets = {row["id"]: row["target"] for row in map(json.loads, lines)}
    files = [read_json(path) for path in (repository.root / ".gitune/scores").glob("*.json")]
    (scores,) = [data["scores"] for data in files if data["model_id"] == model_id]
    right = sum(score["answer"].strip() == targets[score["case_id"]] for score in scores)
    lock = yaml.safe_load((repository.root / ".gitune/dev/locks/banking/model.lock.yaml").read_text())
    assert lock["benchmark"]["accuracy"] == right / len(targets)


def test_chat_answers_through_the_alias(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    result = journey.call(
        repository, "chat", "banking", "I still have not got my new card, when will it come?", "--json"
    )
    assert result.code == 0, result.err
    train = (repository.root / "agents/banking/data/train.jsonl").read_text().splitlines()
    intents = {json.loads(line)["messages"][-1]["content"] for line in train}
    assert json.loads(result.out)["answer"] in intents


def test_up_again_changes_nothing(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    assert _changes(journey.call(repository, "up", "--json")) == []
    assert _plan(repository) == []


def test_the_state_holds_no_provider_object_and_no_path_of_this_machine(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    files = FileState.at(f"file://{repository.root}/.gitune/pulumi", repository.root, "gitune", "dev")
    assert files is not None
    deployment = files.deployment()
    ours = [r for r in deployment["resources"] if r["type"].startswith("pulumi-python:")]
    assert len(ours) == 3
    for resource in ours:
        assert len(resource["outputs"]["__provider"]) < 120
        assert str(repository.root) not in json.dumps(resource["outputs"])
    assert resource_outputs(deployment, "FineTunedModel")["banking"]["status"] == "succeeded"


def test_another_alias_trains_nothing(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/banking/agent.yaml"
    before = file.read_text()
    file.write_text(before + "alias: bank\n")
    (change,) = _changes(journey.call(repository, "up", "--json"))
    assert (change["action"], change["reasons"]) == ("redeploy", ["alias: banking → bank"])
    assert set(read_json(repository.root / ".gitune/dev/routes.json")["routes"]) == {"bank"}
    file.write_text(before)
    assert [c["action"] for c in _changes(journey.call(repository, "up", "--json"))] == ["redeploy"]


def test_one_edited_example_is_planned_as_a_retraining_and_says_why(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/banking/data/train.jsonl"
    before = file.read_text()
    file.write_text(before.replace("?", "??", 1))
    (change,) = _plan(repository)
    file.write_text(before)
    assert change["action"] == "retrain"
    assert change["reasons"][0].endswith("1 example(s) added, 1 removed")
    assert len(journey.jobs(repository)) == 1


def test_a_hyperparameter_is_planned_as_a_retraining_and_says_why(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/banking/agent.yaml"
    before = file.read_text()
    spec = yaml.safe_load(before)
    spec["training"] = [{"provider": "local", "hyperparameters": {"epochs": 5}}]
    file.write_text(yaml.safe_dump(spec))
    (change,) = _plan(repository)
    file.write_text(before)
    assert (change["action"], change["reasons"]) == ("retrain", ["hyperparameter epochs: 4 → 5"])


def test_a_lost_state_adopts_the_finished_model(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    shutil.rmtree(repository.root / ".gitune/pulumi")
    shutil.rmtree(repository.root / ".gitune/dev")
    result = journey.call(repository, "up", "--json")
    assert [change["action"] for change in _changes(result)] == ["adopt", "deploy"]
    (job,) = journey.jobs(repository)
    assert len(journey.events(job, "finished")) == 1


def test_a_removed_route_is_put_back(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    (repository.root / ".gitune/dev/routes.json").unlink()
    assert [change["action"] for change in _changes(journey.call(repository, "up", "--json"))] == ["redeploy"]


def test_status_is_true(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    result = journey.call(repository, "status", "--json")
    (row,) = json.loads(result.out)
    assert (row["model"], row["alias_note"], row["note"]) == ("succeeded", "banking → 1.0.0", "")


def test_plain_pulumi_makes_one_pass(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    result = journey.call(repository, "pulumi", "up", "-s", "dev", "--yes", "--skip-preview", "--refresh")
    assert result.code == 0, result.err + result.out
    assert "unchanged" in result.out


def test_no_file_of_the_user_was_changed(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    assert (repository.root / "Pulumi.dev.yaml").read_text() == (REPOSITORY / "Pulumi.dev.yaml").read_text()
    assert sorted(path.name for path in Path(repository.root).iterdir()) == [
        ".gitune",
        "Pulumi.dev.yaml",
        "Pulumi.yaml",
        "agents",
        "infra",
    ]
