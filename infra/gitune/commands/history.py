"""gitune history"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("history")
@click.argument("agent", shell_complete=complete_agents, required=False)
@click.option("--limit", type=click.IntRange(min=1), help="Only so many changes, the newest.")
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print a Markdown table, such as for an audit.")
def command(agent: str | None, limit: int | None, stack: str, as_json: bool, markdown: bool) -> None:
    """Show every version of AGENT's lock, or of all, from git alone: who, when, by which pull request, with what.

    Reads the locks that the checked-out branch has committed, and tags as GTO names them. Asks nobody, changes nothing.
    """
    from gitune.history import read_history
    from gitune.project import Project
    from gitune.report.history import history_markdown, print_history

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    history = read_history(Project.open(stack))
    entries = history.entries if agent is None else history.of(agent)
    shown = entries[:limit]
    left = len(entries) - len(shown)
    if as_json:
        facts = {"entries": [entry.as_dict() for entry in shown], "left_out": left, "missing": history.missing}
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    elif markdown:
        click.echo(history_markdown(shown, history, left), nl=False)
    else:
        print_history(shown, history, left)
