"""gitune verify"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("verify")
@click.argument("agent", shell_complete=complete_agents, required=False)
@stack_option
@json_option
def command(agent: str | None, stack: str, as_json: bool) -> int:
    """Check where each locked model came from, from lock to evaluation log. Asks no provider.

    Exits with 1 where a link is broken. What is not on this machine is unchecked, not broken.
    """
    from gitune.project import Project
    from gitune.report.provenance import print_links
    from gitune.verify import verify_project

    links = verify_project(Project.open(stack), agent)
    if as_json:
        click.echo(json.dumps([link.as_dict() for link in links], indent=2, ensure_ascii=False))
    else:
        print_links(links)
    return 1 if any(link.state == "broken" for link in links) else 0
