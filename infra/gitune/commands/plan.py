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
    from gitune.notices import project_notices
    from gitune.plan import plan_changes
    from gitune.project import Project
    from gitune.report.terminal import print_plan

    project = Project.open(stack)
    changes = plan_changes(project)
    notices = project_notices(project)
    if as_json:
        items = [*(change.as_dict() for change in changes), *(notice.as_dict() for notice in notices)]
        click.echo(json.dumps(items, indent=2, ensure_ascii=False))
    else:
        print_plan(changes, notices)
