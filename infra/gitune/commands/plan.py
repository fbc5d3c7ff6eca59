"""gitune plan"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option


@click.command("plan")
@stack_option
@json_option
def command(stack: str, as_json: bool) -> int:
    """Show what `up` would do, and why. Changes nothing.

    Exits with 1 where a rule refuses it.
    """
    from gitune.notices import project_notices
    from gitune.plan import plan_pass
    from gitune.project import Project
    from gitune.report.rules import print_rulings
    from gitune.report.terminal import print_plan

    project = Project.open(stack)
    plan = plan_pass(project)
    notices = project_notices(project)
    if as_json:
        items = [one.as_dict() for one in plan.rulings] + [one.as_dict() for one in plan.changes]
        items += [one.as_dict() for one in notices]
        click.echo(json.dumps(items, indent=2, ensure_ascii=False))
    else:
        print_rulings(plan.rulings)
        print_plan(plan.changes, notices)
    return 1 if plan.blocked else 0
