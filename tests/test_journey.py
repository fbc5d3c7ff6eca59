"""The tutorial, typed as it stands: real data trained, gated, deployed and asked here, then at a provider, and back."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import Any

import pytest
import yaml

from gitune.files import read_json
from gitune.state import FileState, resource_outputs
from tests import banking77, journey
from tests.conftest import Repository, Result
from tests.reader import Page, Shell, code
from tests.repositories import gitune_on_github
from tests.servers import openai
from tests.team import MERGE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not banking77.available(), reason="Banking77 is not in ../shared/data"),
]


TUTORIAL = "docs/tutorial.md"
CSV = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/train.csv"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """In an empty folder. A repository with gitune's tag stands for the one on GitHub."""
    root = tmp_path_factory.mktemp("reader") / "work"
    root.mkdir()
    return Shell.beside(root, **gitune_on_github(root.parent / "github"))


@pytest.fixture(scope="module")
def tutorial(shell: Shell) -> Page:
    """The rows of four of the 77 intents, and fewer of them: what is trained here takes half a minute."""
    banking77.write_csv(shell.folder.parent / "train.csv", intents=4)
    instead = {
        CSV: str(shell.folder.parent / "train.csv"),
        "--examples 600": "--examples 80",
        "--cases 60": "--cases 30",
        "My card has not arrived yet": "Why was there a fee when I paid with my card?",  # of an intent that was learned
    }
    return Page(shell, TUTORIAL, instead)


@pytest.fixture(scope="module")
def trained(shell: Shell, tutorial: Page) -> tuple[Repository, Result]:
    """The tutorial's repository after its first `gitune up`. Tests below bring it back to this state, or only read."""
    tutorial.types("python3 -m venv")
    tutorial.types("gitune new support")
    assert "# Dataset of support" in tutorial.types("gitune dataset show")
    plan, up = tutorial.next("gitune plan")
    assert "train" in shell.types(plan)
    repository = Repository(shell.folder)
    return repository, journey.call(repository, *shlex.split(up)[1:], "--json", timeout=500)


def _intents(repository: Repository) -> set[str]:
    cases = (repository.root / "agents/support/benchmark/cases.jsonl").read_text().splitlines()
    return {json.loads(line)["target"] for line in cases}


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
    lock = yaml.safe_load((repository.root / ".gitune/dev/locks/support/model.lock.yaml").read_text())
    assert lock["benchmark"]["accuracy"] >= 0.7
    assert lock["benchmark"]["accuracy"] - lock["benchmark"]["base_accuracy"] >= 0.6
    assert lock["benchmark"]["cases"] == 30
    routes = read_json(repository.root / ".gitune/dev/routes.json")["routes"]
    assert routes["support"]["model_id"] == lock["model_id"] == outcome["model"]["model_id"]


def test_the_locked_accuracy_is_what_the_answers_say(trained: tuple[Repository, Result]) -> None:
    repository, result = trained
    model_id = journey.outcome(result)["model"]["model_id"]
    lines = (repository.root / "agents/support/benchmark/cases.jsonl").read_text().splitlines()
    targets = {row["id"]: row["target"] for row in map(json.loads, lines)}
    files = [read_json(path) for path in (repository.root / ".gitune/scores").glob("*.json")]
    (scores,) = [data["scores"] for data in files if data["model_id"] == model_id]
    right = sum(score["answer"].strip() == targets[score["case_id"]] for score in scores)
    lock = yaml.safe_load((repository.root / ".gitune/dev/locks/support/model.lock.yaml").read_text())
    assert lock["benchmark"]["accuracy"] == pytest.approx(right / len(targets), abs=5e-5)


@pytest.fixture(scope="module")
def asked(trained: tuple[Repository, Result], shell: Shell, tutorial: Page) -> list[str]:
    """What chat and benchmark said."""
    return tutorial.said("gitune chat support")


def test_chat_answers_through_the_alias(trained: tuple[Repository, Result], asked: list[str]) -> None:
    repository, _ = trained
    answer, benchmark = asked
    assert answer.strip() in _intents(repository)
    assert re.search(r"^support +20 ", benchmark, re.MULTILINE)


def test_up_again_changes_nothing(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    assert _changes(journey.call(repository, "up", "--json")) == []
    assert _plan(repository) == []


def test_the_state_holds_no_provider_object_and_no_path_of_this_machine(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    files = FileState.at(f"file://{repository.root}/.gitune/pulumi", repository.root, "team", "dev")
    assert files is not None
    deployment = files.deployment()
    ours = [r for r in deployment["resources"] if r["type"].startswith("pulumi-python:")]
    assert len(ours) == 3
    for resource in ours:
        assert len(resource["outputs"]["__provider"]) < 120
        assert str(repository.root) not in json.dumps(resource["outputs"])
    assert resource_outputs(deployment, "FineTunedModel")["support"]["status"] == "succeeded"


def test_another_alias_trains_nothing(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/support/agent.yaml"
    before = file.read_text()
    file.write_text(before.replace("alias: support", "alias: bank"))
    (change,) = _changes(journey.call(repository, "up", "--json"))
    assert (change["action"], change["reasons"]) == ("redeploy", ["alias: support → bank"])
    assert set(read_json(repository.root / ".gitune/dev/routes.json")["routes"]) == {"bank"}
    file.write_text(before)
    assert [c["action"] for c in _changes(journey.call(repository, "up", "--json"))] == ["redeploy"]


def test_one_edited_example_is_planned_as_a_retraining_and_says_why(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/support/data/train.jsonl"
    before = file.read_text()
    file.write_text(before.replace("?", "??", 1))
    (change,) = _plan(repository)
    file.write_text(before)
    assert change["action"] == "retrain"
    assert change["reasons"][0].endswith("1 example(s) added, 1 removed")
    assert len(journey.jobs(repository)) == 1


def test_a_hyperparameter_is_planned_as_a_retraining_and_says_why(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    file = repository.root / "agents/support/agent.yaml"
    before = file.read_text()
    spec = yaml.safe_load(before)
    spec["training"] = [{"provider": "local", "hyperparameters": {"epochs": 5}}]
    file.write_text(yaml.safe_dump(spec))
    (change,) = _plan(repository)
    file.write_text(before)
    assert (change["action"], change["reasons"]) == ("retrain", ["hyperparameter epochs: 3 → 5"])


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
    assert (row["model"], row["alias_note"], row["note"]) == ("succeeded", "support → 1.0.0", "")


def test_plain_pulumi_makes_one_pass(trained: tuple[Repository, Result]) -> None:
    repository, _ = trained
    result = journey.call(repository, "pulumi", "up", "-s", "dev", "--yes", "--skip-preview", "--refresh")
    assert result.code == 0, result.err + result.out
    assert "unchanged" in result.out


def test_no_file_of_the_user_was_changed(trained: tuple[Repository, Result], shell: Shell) -> None:
    assert shell.types("git status --porcelain") == ""


@pytest.mark.usefixtures("asked")
def test_the_second_half_of_the_tutorial(trained: tuple[Repository, Result], shell: Shell, tutorial: Page) -> None:
    """Steps 4 to 8 with a local server for OpenAI, and a bare repository for GitHub. Workflows: tests/workflows."""
    repository, _ = trained
    shell.types(f"git init --quiet --bare {shell.folder.parent}/origin.git")
    shell.types(f"git remote add origin {shell.folder.parent}/origin.git && git push --quiet -u origin main")
    with openai.OpenAIServer() as server:
        server.seconds_per_request = 600.0  # what a job takes
        shell.environment |= {"OPENAI_API_KEY": openai.KEY, "OPENAI_BASE_URL": server.url}
        assert "provider: openai" in tutorial.types("gitune retrain support --on openai")
        file = repository.root / "agents/support/agent.yaml"
        file.write_text(file.read_text().replace("  - provider: local\n", ""))
        tutorial.types("git switch")
        assert shell.noted()[-1] == "gh pr create --fill"
        assert "openai" in tutorial.types("gitune plan -s training")
        assert len(server.jobs.all) == 0

        merge = "git switch --quiet main && git merge --quiet {0} && git push --quiet && git branch --quiet -d {0}"
        shell.types(merge.format("support-on-openai"))
        shell.types("gitune up -s training --poll 0.1")  # as the workflow `train` does, and its pull request's merge
        shell.types(MERGE.format("Lock support 1.0.0"))
        assert "1.0.0" in tutorial.types("gitune status")
        shell.types("gitune up -s production")
        assert "1.0.0" in tutorial.types("git pull")

        (serve,) = tutorial.next("gitune serve")
        with shell.starts(f"{serve} --port 0", until="serving on ") as said:
            (address,) = re.findall(r"http://\S+/v1", said)
            (client,) = code(TUTORIAL, "python")
            names: dict[str, Any] = {}
            exec(
                client.replace("http://127.0.0.1:8000/v1", address).replace("client.chat", "answer = client.chat"),
                names,
            )
        assert names["answer"].choices[0].message.content in _intents(repository)

        for data in (repository.root / "agents/support/data").iterdir():
            data.write_text(data.read_text().replace("?", "!"))
        shell.types("gitune up -s training --poll 0.1")
        shell.types(MERGE.format("Lock support 1.1.0"))
        shell.types("gitune up -s production")
        assert "1.1.0" in shell.types("gitune status -s production")
        assert "1.1.0 → 1.0.0" in tutorial.types("git switch --create roll-back")
        shell.types(merge.format("roll-back"))
        shell.types("gitune up -s production")
        assert "support → 1.0.0" in shell.types("gitune status -s production")
        assert len(server.jobs.all) == 2
    assert tutorial.left == []
