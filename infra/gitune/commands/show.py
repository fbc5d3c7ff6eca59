"""gitune show"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("show")
@click.argument("name", shell_complete=complete_agents, metavar="AGENT[@VERSION]")
@stack_option
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(name: str, stack: str, as_json: bool, markdown: bool) -> None:
    """Show everything about one version of an agent: its lock, and what became of it. Default: the newest version."""
    from gitune.history import read_history, split_version
    from gitune.project import Project
    from gitune.report.history import print_version, version_markdown

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other", click.get_current_context())
    history = read_history(Project.open(stack))
    agent, version = split_version(name)
    entries = history.version(agent, version) if version is not None else history.newest(agent)
    if as_json:
        lock = entries[0].lock.data
        facts = {"lock": lock, "entries": [entry.as_dict() for entry in entries], "missing": history.missing}
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
    elif markdown:
        click.echo(version_markdown(entries, history), nl=False)
    else:
        print_version(entries, history)
