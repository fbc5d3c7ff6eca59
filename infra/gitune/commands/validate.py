"""gitune validate"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from gitune.commands import json_option, program_name, stack_option


@click.command("validate")
@stack_option
@json_option
def command(stack: str, as_json: bool) -> int:
    """Check every agent's files. Starts nothing, needs no engine and no network."""
    from gitune.errors import InvalidInput
    from gitune.project import Project, check_project
    from gitune.spec import NO_AGENT

    specs, problems = check_project(Project.open(stack))
    empty = problems == (NO_AGENT,)
    problems = () if empty else problems
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in sorted(set(problems))], indent=2, ensure_ascii=False))
        return 1 if problems else 0
    if problems:
        raise InvalidInput(problems)
    if empty:
        click.echo(f"no agent yet: {program_name()} new AGENT --from FILE")
        return 0
    click.echo(f"{len(specs)} agent(s) are right: {', '.join(spec.name for spec in specs)}")
    return 0
