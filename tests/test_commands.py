"""The command line: help for everything, and docs that name only what exists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema
import pytest
import yaml

from gitune.commands import COMMANDS, cli
from tests.conftest import REPOSITORY, Repository, Result, agent_yaml


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
