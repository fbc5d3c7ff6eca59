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
    """Build, show, compare and restore what the agents train on."""


@command.command("build")
@click.argument("agent")
@stack_option
@json_option
def build(agent: str, stack: str, as_json: bool) -> None:
    """Write an agent's dataset below .gitune/datasets, with its data card and what the rules found."""
    from gitune.dataset import build_dataset, write_dataset
    from gitune.dataset.manifest import MANIFEST_FILE
    from gitune.project import Project, checked_agents

    project = Project.open(stack)
    (spec,) = checked_agents(project, [agent])
    folder = write_dataset(spec, build_dataset(spec, project.root), project.root)
    if as_json:
        click.echo((folder / MANIFEST_FILE).read_text(encoding="utf-8"), nl=False)
    else:
        click.echo(folder.relative_to(project.root).as_posix())


@command.command("restore")
@click.argument("fingerprint")
@stack_option
def restore(fingerprint: str, stack: str) -> None:
    """Download a published dataset to .gitune/datasets and check every byte of it.

    FINGERPRINT is its name, as in a lock, or at least the first eight digits of it.
    """
    from gitune.dataset.restore import restore_dataset
    from gitune.dataset.store import Store
    from gitune.project import Project

    project = Project.open(stack)
    folder = restore_dataset(fingerprint, Store.of(project))
    click.echo(folder.relative_to(project.root).as_posix())


@command.command("show")
@click.argument("agent")
@stack_option
def show(agent: str, stack: str) -> None:
    """Print the data card (Markdown): sources, licences, rules, drops, tokens, categories.

    AGENT is a name, or the fingerprint of a dataset that was built or published.
    """
    from gitune.dataset.manifest import CARD_FILE
    from gitune.dataset.restore import FINGERPRINT, find_dataset
    from gitune.dataset.store import Store
    from gitune.project import Project

    project = Project.open(stack)
    if FINGERPRINT.fullmatch(agent) and not (project.root / "agents" / agent).is_dir():
        card = (find_dataset(agent, Store.of(project)) / CARD_FILE).read_text(encoding="utf-8")
    else:
        card = _described(agent, project)[1].card
    click.echo(card, nl=False)


@command.command("stats")
@click.argument("agent")
@stack_option
def stats(agent: str, stack: str) -> None:
    """Print tokens, lengths, categories and languages as JSON."""
    from gitune.project import Project

    click.echo(json.dumps(asdict(_described(agent, Project.open(stack))[1].stats), indent=2, ensure_ascii=False))


@command.command("diff")
@click.argument("agent")
@click.argument("before")
@click.argument("after", required=False)
@stack_option
@json_option
def diff(agent: str, before: str, after: str | None, stack: str, as_json: bool) -> None:
    """Compare two datasets of an agent, named by their fingerprints or the beginnings of them.

    Without AFTER, with the files as they are now. What is only in the store is downloaded first.
    """
    from gitune.dataset.compare import compare, comparison_text, recorded_lines
    from gitune.dataset.restore import find_dataset
    from gitune.dataset.store import Store
    from gitune.project import Project

    project = Project.open(stack)
    dataset, _ = _described(agent, project)
    store = Store.of(project)
    now = [*dataset.train, *dataset.validation]
    comparison = compare(
        recorded_lines(find_dataset(before, store)), recorded_lines(find_dataset(after, store)) if after else now
    )
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo(comparison_text(comparison))


def _described(agent: str, project: Project) -> tuple[Dataset, Description]:
    """With tokens as the agent's base model counts them, where its tokenizer is on this machine."""
    from gitune.dataset import build_dataset
    from gitune.dataset.describe import describe_dataset
    from gitune.dataset.tokens import token_counter
    from gitune.project import checked_agents, training_requests
    from gitune.training.base_model import unpacked_base_model

    (spec,) = checked_agents(project, [agent])
    dataset = build_dataset(spec, project.root)
    base_model = training_requests(spec, project, dataset.fingerprint)[0].base_model
    counter = token_counter(base_model, unpacked_base_model(base_model))
    return dataset, describe_dataset(spec, dataset, counter, project.root)
