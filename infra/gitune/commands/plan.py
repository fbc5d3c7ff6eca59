"""gitune plan"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option


@click.command("plan")
@stack_option
@json_option
def command(stack: str, as_json: bool) -> None:
    """Show what `up` would do, and why. Changes nothing."""
    from gitune.plan import plan_changes
    from gitune.project import Project
    from gitune.report.terminal import print_plan

    changes = plan_changes(Project.open(stack))
    if as_json:
        click.echo(json.dumps([change.as_dict() for change in changes], indent=2, ensure_ascii=False))
    else:
        print_plan(changes)
