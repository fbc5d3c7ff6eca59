"""gitune compare"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents
from gitune.errors import UserError

if TYPE_CHECKING:
    from gitune.benchmark.comparison import Comparison
    from gitune.benchmark.versions import VersionComparison
    from gitune.project import Project


@click.command("compare")
@click.argument("a", shell_complete=complete_agents)
@click.argument("b", shell_complete=complete_agents)
@click.option(
    "--agent", shell_complete=complete_agents, help="Whose cases both are asked. Default: the agent that A or B names."
)
@click.option("--cases", type=click.IntRange(min=1), help="Only so many of the cases, spread over the file.")
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown, with every case that differs.")
def command(a: str, b: str, agent: str | None, cases: int | None, stack: str, as_json: bool, markdown: bool) -> int:
    """Ask two models the same cases and show where they differ, with both answers.

    A and B are agents (their locked models), AGENT@VERSION (a version of its committed lock) or provider:model IDs; A
    is the baseline. What was asked is not asked again. Exits with 1 while an answer is missing. Two versions are
    compared by what their locks say, too, and by that alone where a model cannot be asked any more.
    """
    from gitune.benchmark.models import names_version
    from gitune.project import Project

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    project = Project.open(stack)
    found: Comparison | VersionComparison
    if ":" not in a + b and (names_version(a) or names_version(b)):
        found = _versions(project, a, b, agent, cases)
    else:
        found = _models(project, a, b, agent, cases)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False, default=str))
    else:
        _show(found, markdown=markdown)
    return 0 if found.complete else 1


def _models(project: Project, a: str, b: str, agent: str | None, cases: int | None) -> Comparison:
    from gitune.benchmark.comparison import compare
    from gitune.benchmark.models import agent_of, find_model
    from gitune.benchmark.run import open_benchmark
    from gitune.events import benchmark_teller
    from gitune.project import checked_agents
    from gitune.report.live import open_view

    (spec,) = checked_agents(project, [agent or agent_of(project, a, b)])
    old, new = find_model(project, a), find_model(project, b)
    with open_view() as reporter:
        bench = open_benchmark(spec, project, benchmark_teller(reporter, spec.name), cases=cases)
        return compare(bench, new, old)


def _versions(project: Project, a: str, b: str, agent: str | None, cases: int | None) -> VersionComparison:
    from gitune.benchmark.versions import compare_versions, named_lock
    from gitune.events import benchmark_teller
    from gitune.report.live import open_view

    old, new = named_lock(project, a), named_lock(project, b)
    if agent is None and old.agent != new.agent:
        raise UserError("the models name two agents", hint="say whose cases both are asked: --agent")
    whose = agent or old.agent
    with open_view() as reporter:
        return compare_versions(project, old, new, whose, benchmark_teller(reporter, whose), cases)


def _show(found: Comparison | VersionComparison, *, markdown: bool) -> None:
    from gitune.benchmark.comparison import Comparison
    from gitune.report.benchmark import benchmarks_markdown, print_comparison
    from gitune.report.versions import print_versions, versions_markdown

    if isinstance(found, Comparison) and markdown:
        click.echo(benchmarks_markdown([found], differences=True), nl=False)
    elif isinstance(found, Comparison):
        print_comparison(found)
    elif markdown:
        click.echo(versions_markdown(found), nl=False)
    else:
        print_versions(found)
