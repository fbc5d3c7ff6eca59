"""gitune dataset"""

from __future__ import annotations

import json
import shutil
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
@json_option
def stats(agent: str, stack: str, as_json: bool) -> None:
    """Print tokens, lengths, sources, categories and languages, with histograms."""
    from gitune.report.dataset import print_stats

    _, dataset, description = _described(agent, stack)
    if as_json:
        click.echo(json.dumps(asdict(description.stats), indent=2, ensure_ascii=False))
    else:
        print_stats(agent, dataset, description.stats)


@command.command("diff")
@click.argument("agent")
@click.argument("before", required=False)
@click.argument("after", required=False)
@stack_option
@json_option
def diff(agent: str, before: str | None, after: str | None, stack: str, as_json: bool) -> None:
    """Compare what an agent trains on at two points: which examples came, went and changed.

    BEFORE and AFTER are git revisions (main, HEAD~1, a tag), or fingerprints of datasets that were built here, or the
    beginnings of them; A..B is both. Without AFTER the files as they are now, without BEFORE what is committed.
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


def _described(agent: str, stack: str) -> tuple[Project, Dataset, Description]:
    from gitune.dataset import build_dataset
    from gitune.dataset.describe import describe_dataset
    from gitune.project import Project, checked_agents, training_requests

    project = Project.open(stack)
    (spec,) = checked_agents(project, [agent])
    dataset = build_dataset(spec, project.root)
    base_model = training_requests(spec, project, dataset.fingerprint)[0].base_model
    return project, dataset, describe_dataset(spec, dataset, base_model, project.root)
