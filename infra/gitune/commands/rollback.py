"""gitune rollback"""

from __future__ import annotations

import json
import shlex

import click

from gitune.commands import json_option, program_name
from gitune.commands.words import complete_agents


@click.command("rollback")
@click.argument("agent", shell_complete=complete_agents)
@click.option("--to", "version", help="The version, such as 1.2.0. Default: the one before the present one.")
@click.option("--dry-run", is_flag=True, help="Ask the provider and say what would be done; write nothing.")
@click.option(
    "-s",
    "--stack",
    default="production",
    show_default=True,
    envvar="GITUNE_STACK",
    help="The stack whose locks and provider settings are used.",
)
@json_option
def command(agent: str, version: str | None, dry_run: bool, stack: str, as_json: bool) -> None:
    """Write the lock of an earlier version of AGENT, as git holds it, after checking that its model still exists.

    Trains nothing and deploys nothing: the lock is yours to commit, and what is committed is deployed.
    """
    from gitune.project import Project
    from gitune.rollback import check_model, find_rollback, write_rollback

    project = Project.open(stack)
    found = find_rollback(project, agent, version)
    changes = found.changes
    if changes:
        check_model(project, found)
    if changes and not dry_run:
        write_rollback(found)
    file = found.file.relative_to(project.root).as_posix()
    to = found.to
    commit = f"git commit -m {shlex.quote(f'Roll {agent} back to {to.version}')} -- {shlex.quote(file)}"
    deploy = f"{program_name()} up -s {stack}"
    if as_json:
        facts = {
            "agent": agent,
            "from": found.before,
            "to": to.version,
            "model_id": to.lock.model_id,
            "file": file,
            "commit": to.commit,
            "written": changes and not dry_run,
            "next": [commit, deploy] if changes else [],
        }
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    if not changes:
        click.echo(f"{agent} is at {to.version} already: nothing to do")
        return
    click.echo(f"{agent}: {found.before or 'no lock'} → {to.version}, {to.lock.model_id} on {to.lock.provider}")
    click.echo(f"{'would write' if dry_run else 'wrote'} {file} as commit {to.commit[:12]} has it")
    click.echo(f"next: {commit}\nthen a pull request, whose merge deploys it; or at once: {deploy}")
