"""gitune status"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option


@click.command("status")
@stack_option
@json_option
def command(stack: str, as_json: bool) -> None:
    """Show where each agent stands. Reads only."""
    from gitune.backend import recorded_deployment
    from gitune.project import Project
    from gitune.status import read_status

    project = Project.open(stack)
    rows = read_status(project, recorded_deployment(project))
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2, ensure_ascii=False))
        return
    from gitune.report.terminal import print_status

    print_status(rows)
