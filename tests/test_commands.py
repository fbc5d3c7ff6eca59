"""The command line: help for everything, and docs that name only what exists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from click.shell_completion import ShellComplete

from gitune.commands import COMMANDS, cli
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml
from tests.repositories import lock_text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
    assert command is not None
    assert command.help
    assert command.name == name
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_the_first_help_names_every_command(gitune: Callable[..., Result]) -> None:
    result = gitune("--help")
    assert result.code == 0
    for name, text in COMMANDS.items():
        assert f"  {name}" in result.out
        assert text.split(".")[0] in " ".join(result.out.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, gitune: Callable[..., Result]) -> None:
    assert "_GITUNE_COMPLETE" in gitune("completion", shell).out


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("gitune lo", ["logs"]),
        ("gitune logs ", ["legal", "support"]),
        ("gitune logs s", ["support"]),
        ("gitune logs support -s ", ["dev", "training"]),
        ("gitune dataset show l", ["legal"]),
        ("gitune chat ", ["contracts", "support"]),
        ("gitune up --ev", ["--events"]),
        ("gitune up --stop-after ", ["training"]),
        ("gitune nonsense ", [*COMMANDS]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_shell_completes_names_of_agents_stacks_and_aliases(
    line: str, completed: list[str], repository: Repository
) -> None:
    repository.add_agent("support")
    repository.add_agent("legal", agent_yaml(alias="contracts"))
    repository.write("Pulumi.training.yaml", "config: {}")
    _, *words, incomplete = line.split(" ")
    found = ShellComplete(cli, {}, "gitune", "_GITUNE_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in found if item.value != "--help"] == completed


def test_outside_of_a_repository_nothing_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not ShellComplete(cli, {}, "gitune", "_GITUNE_COMPLETE").get_completions(["logs"], "")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("stauts",), "no command 'stauts'", "did you mean 'status'?"),
        (("up", "--retyr"), "No such option '--retyr'", "did you mean '--retry'?"),
        (("dataset", "shwo"), "No such command 'shwo'", "did you mean 'show'?"),
        (("dataset", "show", "suport"), "no agent 'suport'", "did you mean 'support'?"),
        (("benchmark", "suport"), "no agent 'suport'", "did you mean 'support'?"),
        (("dataset", "show"), "Missing argument 'AGENT'.", "run: gitune dataset show --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_did_you_mean(
    arguments: tuple[str, ...], message: str, hint: str, repository: Repository, gitune: Callable[..., Result]
) -> None:
    repository.add_agent("support")
    result = gitune(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"error: {message}\nhint: {hint}\n"


def test_a_stack_that_is_nearly_one(repository: Repository, gitune: Callable[..., Result]) -> None:
    result = gitune("status", "-s", "dve")
    assert result.code == 1
    assert "Pulumi.dve.yaml: no stack 'dve'\n  hint: did you mean 'dev'?" in result.err


def test_the_published_schema_is_the_printed_one(gitune: Callable[..., Result]) -> None:
    printed = json.loads(gitune("schema").out)
    assert json.loads((REPOSITORY / "docs/reference/agent.schema.json").read_text()) == printed


@pytest.mark.parametrize("file", sorted((REPOSITORY / "agents").glob("*/agent.yaml")), ids=lambda p: p.parent.name)
def test_the_schema_accepts_what_gitune_accepts(file: Path) -> None:
    schema = json.loads((REPOSITORY / "docs/reference/agent.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)
    jsonschema.validate(agent_yaml(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(agent_yaml(trainning=[]), schema)


def test_the_agents_of_this_repository_are_right(
    monkeypatch: pytest.MonkeyPatch, gitune: Callable[..., Result]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert gitune("validate", "--json").out == "[]\n"


def test_status_before_anything_was_done(repository: Repository, gitune: Callable[..., Result]) -> None:
    repository.add_agent("support")
    result = gitune("status", "--json")
    (row,) = json.loads(result.out)
    assert (row["model"], row["note"], row["alias_note"]) == ("not trained", "run: gitune up", "not deployed")
    assert not (repository.root / ".gitune").exists()


def test_a_bug_of_ours_is_told_as_one(
    repository: Repository, gitune: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.add_agent("support")
    repository.write(".gitune/pulumi/.pulumi/stacks/gitune/dev.json", '{"checkpoint": 5}')
    result = gitune("status")
    assert result.code == 3
    assert "error: gitune has a bug: " in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in (repository.root / ".gitune/crash.log").read_text()


def test_the_status_of_a_stack_that_only_deploys_asks_for_no_training(
    repository: Repository, gitune: Callable[..., Result]
) -> None:
    stack = {"gitune:declare": ["deployments"], "gitune:routes": "routes.json"}
    repository.write("Pulumi.production.yaml", yaml.safe_dump({"config": stack}))
    repository.add_agent("legal")
    repository.add_agent("support")
    repository.write("agents/support/model.lock.yaml", lock_text("1.0.0"))
    legal, support = json.loads(gitune("status", "-s", "production", "--json").out)
    assert (legal["model"], legal["note"]) == ("", "no lock: a model that passes its gate brings one")
    assert support["model_id"] == "local:support-1.0.0"
    assert support["note"] == "the lock says another model than answers: run gitune up"
