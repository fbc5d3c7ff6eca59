"""gitune dataset"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents

if TYPE_CHECKING:
    from gitune.dataset.build import Dataset
    from gitune.dataset.describe import Description
    from gitune.project import Project


@click.group("dataset")
def command() -> None:
    """Build, show, compare and restore what the agents train on."""


@command.command("build")
@click.argument("agent", shell_complete=complete_agents)
@stack_option
@json_option
def build(agent: str, stack: str, as_json: bool) -> None:
    """Write an agent's dataset below .gitune/datasets, with its data card and what the rules found."""
    from gitune.dataset import write_dataset
    from gitune.dataset.manifest import MANIFEST_FILE
    from gitune.project import Project, checked_agent

    project = Project.open(stack)
    checked = checked_agent(project, agent)
    folder = write_dataset(checked.spec, checked.dataset, project.root)
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
@click.argument("agent", shell_complete=complete_agents)
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
@click.argument("agent", shell_complete=complete_agents)
@stack_option
@json_option
def stats(agent: str, stack: str, as_json: bool) -> None:
    """Print tokens, lengths, sources, categories and languages, with histograms."""
    from gitune.project import Project
    from gitune.report.dataset import print_stats

    dataset, description = _described(agent, Project.open(stack))
    if as_json:
        click.echo(json.dumps(asdict(description.stats), indent=2, ensure_ascii=False))
    else:
        print_stats(agent, dataset, description.stats)


@command.command("diff")
@click.argument("agent", shell_complete=complete_agents)
@click.argument("before", required=False)
@click.argument("after", required=False)
@stack_option
@json_option
def diff(agent: str, before: str | None, after: str | None, stack: str, as_json: bool) -> None:
    """Compare what an agent trains on at two points: which examples came, went and changed.

    BEFORE and AFTER are git revisions (main, HEAD~1, a tag), or fingerprints of datasets that were built or published,
    or the beginnings of them; A..B is both. Without AFTER the files as they are now, without BEFORE what is committed.
    """
    from gitune.dataset.compare import compare, comparison_dict, comparison_text
    from gitune.dataset.sides import find_sides
    from gitune.project import Project

    sides = find_sides(Project.open(stack), agent, before, after)
    comparison = compare(*(side.lines for side in sides))
    if as_json:
        click.echo(json.dumps(comparison_dict(comparison, *sides), indent=2, ensure_ascii=False))
    else:
        click.echo(comparison_text(comparison, *sides, width=shutil.get_terminal_size().columns))


def _described(agent: str, project: Project) -> tuple[Dataset, Description]:
    """With tokens as the agent's base model counts them, where its tokenizer is on this machine."""
    from gitune.dataset.describe import describe_dataset
    from gitune.dataset.tokens import token_counter
    from gitune.project import checked_agent, training_requests
    from gitune.training.base_model import unpacked_base_model

    checked = checked_agent(project, agent)
    base_model = training_requests(checked.spec, project, checked.dataset.fingerprint)[0].base_model
    counter = token_counter(base_model, unpacked_base_model(base_model))
    return checked.dataset, describe_dataset(checked.spec, checked.dataset, counter, project.root)
