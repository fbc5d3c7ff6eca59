"""gitune dataset"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from gitune.commands import json_option, stack_option

if TYPE_CHECKING:
    from gitune.dataset.build import Dataset
    from gitune.dataset.describe import Description
    from gitune.project import Project


@click.group("dataset")
def command() -> None:
    """Build, show and compare what the agents train on."""


@command.command("build")
@click.argument("agent")
@stack_option
@json_option
def build(agent: str, stack: str, as_json: bool) -> None:
    """Write an agent's dataset below .gitune/datasets, with its data card and what the rules found."""
    from gitune.dataset import write_dataset
    from gitune.dataset.artifact import manifest_of
    from gitune.dataset.describe import CARD_FILE
    from gitune.files import write_atomic

    project, dataset, description = _described(agent, stack)
    folder = write_dataset(dataset, project.root)
    write_atomic(folder / CARD_FILE, description.card)
    if as_json:
        click.echo(json.dumps(manifest_of(dataset), indent=2, ensure_ascii=False))
    else:
        click.echo(folder.relative_to(project.root).as_posix())


@command.command("show")
@click.argument("agent")
@stack_option
def show(agent: str, stack: str) -> None:
    """Print the data card (Markdown): sources, licences, rules, drops, tokens, categories."""
    click.echo(_described(agent, stack)[2].card, nl=False)


@command.command("stats")
@click.argument("agent")
@stack_option
def stats(agent: str, stack: str) -> None:
    """Print tokens, lengths, categories and languages as JSON."""
    click.echo(json.dumps(asdict(_described(agent, stack)[2].stats), indent=2, ensure_ascii=False))


@command.command("diff")
@click.argument("agent")
@click.argument("before")
@click.argument("after", required=False)
@stack_option
@json_option
def diff(agent: str, before: str, after: str | None, stack: str, as_json: bool) -> None:
    """Compare two datasets of an agent, named by their fingerprints or the beginnings of them.

    Without AFTER, with the files as they are now.
    """
    from gitune.dataset.compare import compare, comparison_text, recorded_lines

    project, dataset, _ = _described(agent, stack)
    now = [*dataset.train, *dataset.validation]
    comparison = compare(recorded_lines(project.root, before), recorded_lines(project.root, after) if after else now)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo(comparison_text(comparison))


def _described(agent: str, stack: str) -> tuple[Project, Dataset, Description]:
    from gitune.dataset import build_dataset
    from gitune.dataset.describe import describe_dataset
    from gitune.project import Project, checked_agents, training_requests

    project = Project.open(stack)
    (spec,) = checked_agents(project, [agent])
    dataset = build_dataset(spec, project.root)
    base_model = training_requests(spec, project, dataset.fingerprint)[0].base_model
    return project, dataset, describe_dataset(spec, dataset, base_model, project.root)
