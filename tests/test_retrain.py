"""gitune retrain: the candidates in a new order, everything else in the file as the user wrote it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
import yaml

from gitune.errors import InvalidInput
from gitune.retrain import move_candidate
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml

Gitune = Callable[..., Result]
AGENTS = sorted(path.parent.name for path in (REPOSITORY / "agents").glob("*/agent.yaml"))
FILE = "agents/support/agent.yaml"
COMMENTED = """\
description: "Routes messages."  # quoted
dataset:
  sources:
    - path: data/train.jsonl

training:  # tried in order
  # the account of 2025
  - provider: mistral  # paid
    hyperparameters:
      epochs: 2  # enough
  # needs nothing
  - {provider: local}  # here
  # the end of the list

# twelve of them
benchmark: {cases: benchmark/cases.jsonl}
"""
MOVED = """\
description: "Routes messages."  # quoted
dataset:
  sources:
    - path: data/train.jsonl

training:  # tried in order
  # needs nothing
  - {provider: local}  # here
  # the account of 2025
  - provider: mistral  # paid
    hyperparameters:
      epochs: 2  # enough
  # the end of the list

# twelve of them
benchmark: {cases: benchmark/cases.jsonl}
"""


@pytest.fixture
def commented(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GITUNE_PROGRAM", "gitune")
    repository.write("Pulumi.training.yaml", "config:\n  gitune:declare: [models]\n")
    repository.add_agent("support")
    repository.write(FILE, COMMENTED)
    return repository


def text(repository: Repository) -> str:
    return (repository.root / FILE).read_bytes().decode()


def test_a_listed_provider_moves_up_with_its_comments(commented: Repository, gitune: Gitune) -> None:
    result = gitune("retrain", "support", "--on", "local")
    assert (result.code, result.err) == (0, "")
    assert text(commented) == MOVED
    assert f"--- a/{FILE}\n+++ b/{FILE}\n" in result.out
    assert "\n+  - {provider: local}  # here\n" in result.out
    kept = "a model that mistral has trained for these data and settings stays while mistral is listed"
    assert f"\nwrote {FILE}\n" in result.out
    assert result.out.endswith(f"\n{kept}\nnext: gitune plan -s training\n")
    again = gitune("retrain", "support", "--on", "local")
    assert (again.code, again.out) == (0, "local is support's first candidate already: nothing to do\n")
    assert text(commented) == MOVED


def test_another_provider_is_put_before_them(commented: Repository, gitune: Gitune) -> None:
    result = gitune("retrain", "support", "--on", "huggingface", "--base-model", "acme/tiny", "--json")
    told = json.loads(result.out)
    assert (told["written"], told["file"], told["next"]) == (True, FILE, "gitune plan -s training")
    assert told["diff"].count("\n+") == 3  # with the header's
    added = "training:  # tried in order\n  - provider: huggingface\n    base_model: acme/tiny\n"
    assert text(commented) == COMMENTED.replace("training:  # tried in order\n", added)
    assert json.loads(gitune("retrain", "support", "--on", "huggingface", "--json").out)["written"] is False


def test_where_it_moves_is_warned_of(commented: Repository, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_BASE_URL", raising=False)
    gitune("retrain", "support", "--on", "local")
    result = gitune("retrain", "support", "--on", "mistral")
    assert "! support: mistral: training ended on 2026-07-13" in result.out


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("provider", ["local", "mistral", "openai"])
def test_the_agents_of_this_repository(agent: str, provider: str) -> None:
    before = (REPOSITORY / "agents" / agent / "agent.yaml").read_text(encoding="utf-8")
    after = move_candidate(before, FILE, provider, None)
    was, now = yaml.safe_load(before), yaml.safe_load(after)
    others = [candidate for candidate in was["training"] if candidate["provider"] != provider]
    assert [candidate["provider"] for candidate in now["training"]] == [provider, *(o["provider"] for o in others)]
    assert {**now, "training": None} == {**was, "training": None}
    assert set(before.splitlines()) <= set(after.splitlines())
    assert move_candidate(after, FILE, provider, None) == after


def test_the_real_agents_through_the_command_line(repository: Repository, gitune: Gitune) -> None:
    repository.write("Pulumi.training.yaml", "config:\n  gitune:declare: [models]\n")
    for agent in AGENTS:
        shutil.copytree(REPOSITORY / "agents" / agent, repository.root / "agents" / agent)
    assert gitune("retrain", AGENTS[0], "--on", "openai").code == 0
    assert gitune("retrain", AGENTS[0], "--on", "local").code == 0
    edited = (repository.root / "agents" / AGENTS[0] / "agent.yaml").read_text(encoding="utf-8")
    original = (REPOSITORY / "agents" / AGENTS[0] / "agent.yaml").read_text(encoding="utf-8")
    assert edited == original.replace("  - provider: local\n", "  - provider: local\n  - provider: openai\n")


@pytest.mark.parametrize(
    ("layout", "provider", "base_model", "expected"),
    [
        ("a: 1\n", "ray", None, "a: 1\n\ntraining:\n  - {provider: ray}\n  - {provider: local}\n"),
        ("a: 1\n", "local", None, "a: 1\n"),
        ("training: [{provider: ray}, {provider: local}] # x\n", "local", None,
         "training: [{provider: local}, {provider: ray}] # x\n"),
        ("training: [{provider: ray}]\n", "local", "q",
         "training: [{provider: local, base_model: q}, {provider: ray}]\n"),
        ("training:\n- provider: ray\n- provider: local", "local", None,
         "training:\n- provider: local\n- provider: ray\n"),
        ("training:\r\n- provider: ray\r\n- provider: local\r\n", "local", "b",
         "training:\r\n- provider: local\r\n  base_model: b\r\n- provider: ray\r\n"),
        ("training:\n  - {provider: ray, base_model: 'a'} # x\n", "ray", "b: c, d",
         "training:\n  - {provider: ray, base_model: 'b: c, d'} # x\n"),
        ("training:\n  - provider: ray\n    base_model:  # none\n", "ray", "b",
         "training:\n  - provider: ray\n    base_model: b  # none\n"),
        ("training:\n- {provider: ray, base_model: a}\n- {provider: ray, base_model: b}\n", "ray", "b",
         "training:\n- {provider: ray, base_model: b}\n- {provider: ray, base_model: a}\n"),
    ],
)  # fmt: skip
def test_layouts(layout: str, provider: str, base_model: str | None, expected: str) -> None:
    assert move_candidate(layout, FILE, provider, base_model) == expected
    assert move_candidate(expected, FILE, provider, base_model) == expected


def test_a_layout_that_cannot_be_edited_says_so() -> None:
    with pytest.raises(InvalidInput) as error:
        move_candidate("{a: 1}\n", FILE, "ray", None)
    assert "cannot be edited" in str(error.value)
    assert "hint: list ray first by hand" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["support", "--on", "mistrall"], f"{FILE}:7: no provider 'mistrall'\n  hint: did you mean 'mistral'?"),
        (["suport", "--on", "local"], "error: no agent 'suport'\nhint: did you mean 'support'?"),
        (["support", "--on", "local", "--base-model", " "], "error: the base model has no name\n"),
        (["support", "--on", "huggingface", "--base-model", "tiny"], "'tiny' is not a model on the Hub"),
        (["support"], "error: Missing option '--on'."),
        (["support", "--on", "mistrall", "-s", "dev"], "no provider 'mistrall'"),
    ],
)
def test_nothing_is_written_when_the_result_is_wrong(
    commented: Repository, gitune: Gitune, arguments: list[str], said: str
) -> None:
    result = gitune("retrain", *arguments)
    assert result.code == 1
    assert said in result.err
    assert "Traceback" not in result.err
    assert text(commented) == COMMENTED


def test_a_project_that_is_wrong_already_is_mended_first(commented: Repository, gitune: Gitune) -> None:
    commented.add_agent("qa", agent_yaml(trainning=[]))
    result = gitune("retrain", "support", "--on", "local")
    assert result.code == 1
    assert "agents/qa/agent.yaml:11: unknown key 'trainning'" in result.err
    assert text(commented) == COMMENTED
