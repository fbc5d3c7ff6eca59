"""gitune costs"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents
from gitune.errors import UserError
from gitune.hints import did_you_mean, one_of


@click.command("costs")
@click.argument("agents", shell_complete=complete_agents, metavar="[AGENT]...", nargs=-1)
@stack_option
@click.option("--month", type=click.DateTime(["%Y-%m"]), help="Only what ended in this month (UTC), such as 2026-11.")
@click.option("--compare", "comparing", is_flag=True, help="What remains to be trained, on each provider.")
@click.option("--markdown", is_flag=True, help="The comparison as a Markdown table.")
@json_option
def command(
    agents: tuple[str, ...], stack: str, month: click.DateTime | None, comparing: bool, markdown: bool, as_json: bool
) -> None:
    """Show what trainings cost, of all agents or of those named; with --compare what the rest would. Starts nothing."""
    if comparing and month:
        raise click.UsageError("--month is of what was spent, and does not go with --compare")
    if markdown and (as_json or not comparing):
        raise click.UsageError("--markdown goes with --compare, and without --json")
    if comparing:
        _compare(agents, stack, markdown=markdown, as_json=as_json)
    else:
        _costs(agents, stack, f"{month:%Y-%m}" if month else None, as_json=as_json)


def _costs(agents: tuple[str, ...], stack: str, month: str | None, *, as_json: bool) -> None:
    from gitune.backend import recorded_deployment
    from gitune.costs import read_spendings, this_month
    from gitune.project import Project
    from gitune.report.costs import costs_dict, print_costs
    from gitune.spec import read_agents

    project = Project.open(stack)
    spendings = read_spendings(project, recorded_deployment(project))
    _refuse_unknown(agents, {s.agent for s in spendings} | {spec.name for spec in read_agents(project.root)[0]})
    shown = [s for s in spendings if (not agents or s.agent in agents) and month in (None, s.month)]
    facts = (spendings, shown, month or this_month(), project.stack.budget_usd)
    if as_json:
        click.echo(json.dumps(costs_dict(*facts), indent=2, ensure_ascii=False))
    else:
        print_costs(*facts)


def _refuse_unknown(agents: tuple[str, ...], known: set[str]) -> None:
    """An agent that is gone may still have cost something."""
    for agent in agents:
        if agent not in known:
            names = sorted(known)
            raise UserError(f"no agent '{agent}'", hint=did_you_mean(agent, names) or one_of(names))


def _compare(agents: tuple[str, ...], stack: str, *, markdown: bool, as_json: bool) -> None:
    from gitune.backend import recorded_deployment
    from gitune.compare import compare
    from gitune.project import Project, checked_agents
    from gitune.report.costs import comparison_markdown, print_comparison

    project = Project.open(stack)
    comparison = compare(project, recorded_deployment(project), checked_agents(project, agents))
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(comparison_markdown(comparison), nl=False)
    else:
        print_comparison(comparison)
