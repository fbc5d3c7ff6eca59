"""gitune benchmark"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("benchmark")
@click.argument("agent", shell_complete=complete_agents, required=False)
@click.option("--cases", type=click.IntRange(min=1), help="Only so many of the cases, spread over the file.")
@click.option("--runs", type=click.IntRange(1, 100), help="How often every case is asked; default: as agent.yaml says.")
@click.option("--model", help="Benchmark this model: provider:model, or an agent. Default: the newest of the stack.")
@click.option(
    "--against", metavar="MODEL", help="The baseline. Default: the locked model if it is another, else the base."
)
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown, such as for a pull request.")
def command(
    agent: str | None,
    cases: int | None,
    runs: int | None,
    model: str | None,
    against: str | None,
    stack: str,
    as_json: bool,
    markdown: bool,
) -> int:
    """Ask an agent's model its cases, and a baseline the same, and show the difference. Without AGENT: all agents.

    What was asked before is not asked again. Changes no lock. Exits with 1 while an answer is missing.
    """
    from gitune.benchmark.comparison import benchmarked_pair, compare
    from gitune.benchmark.run import open_benchmark
    from gitune.events import benchmark_teller
    from gitune.project import Project, checked_agents
    from gitune.report.benchmark import benchmarks_markdown, print_benchmarks
    from gitune.report.live import open_view

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    if model and not agent:
        raise click.UsageError("--model goes with one AGENT, whose cases it is asked", click.get_current_context())
    project = Project.open(stack)
    comparisons = []
    with open_view() as reporter:
        for spec in checked_agents(project, [agent] if agent else []):
            new, old, is_base = benchmarked_pair(spec, project, model=model, against=against)
            bench = open_benchmark(spec, project, benchmark_teller(reporter, spec.name), cases=cases, runs=runs)
            comparisons.append(compare(bench, new, old, may_be_gone=is_base))
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in comparisons], indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(benchmarks_markdown(comparisons), nl=False)
    else:
        print_benchmarks(comparisons)
    return 0 if all(comparison.complete for comparison in comparisons) else 1
