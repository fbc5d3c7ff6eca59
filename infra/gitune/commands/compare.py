"""gitune compare"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option("--agent", help="Whose cases both are asked. Default: the agent that A or B names.")
@click.option("--cases", type=click.IntRange(min=1), help="Only so many of the cases, spread over the file.")
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown, with every case that differs.")
def command(a: str, b: str, agent: str | None, cases: int | None, stack: str, as_json: bool, markdown: bool) -> int:
    """Ask two models the same cases and show where they differ, with both answers.

    A and B are agents (their locked models) or provider:model IDs; A is the baseline. What was asked is not asked
    again. Exits with 1 while an answer is missing.
    """
    from gitune.benchmark.comparison import compare
    from gitune.benchmark.models import agent_of, find_model
    from gitune.benchmark.run import open_benchmark
    from gitune.project import Project, checked_agents
    from gitune.report.benchmark import benchmarks_markdown, print_comparison
    from gitune.report.terminal import TerminalReporter

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    project = Project.open(stack)
    (spec,) = checked_agents(project, [agent or agent_of(project, a, b)])
    old, new = find_model(project, a), find_model(project, b)
    with TerminalReporter() as reporter:
        bench = open_benchmark(spec, project, reporter.progress_of(spec.name), cases=cases)
        comparison = compare(bench, new, old)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(benchmarks_markdown([comparison], differences=True), nl=False)
    else:
        print_comparison(comparison)
    return 0 if comparison.complete else 1
