"""gitune retrain"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, program_name
from gitune.commands.words import complete_agents


@click.command("retrain")
@click.argument("agent", shell_complete=complete_agents)
@click.option("--on", "provider", required=True, help="The provider that becomes the first candidate, such as local.")
@click.option("--base-model", help="The provider's name of the base model; left out: the listed one, or the default.")
@click.option(
    "-s",
    "--stack",
    default="training",
    show_default=True,
    envvar="GITUNE_STACK",
    help="The stack whose provider settings the result is checked with.",
)
@json_option
def command(agent: str, provider: str, base_model: str | None, stack: str, as_json: bool) -> None:
    """Move AGENT to another provider by editing its agent.yaml. Starts no training."""
    from gitune.notices import notices_of
    from gitune.project import Project
    from gitune.report.terminal import notice_lines
    from gitune.retrain import retrain

    project = Project.open(stack)
    move = retrain(agent, provider, base_model, project)
    notices = notices_of([move.spec], project)
    following = f"{program_name()} plan -s {stack}"
    if as_json:
        facts = {"agent": agent, "provider": provider, "file": move.file, "written": bool(move.diff), "diff": move.diff}
        sunset = [notice.as_dict() for notice in notices]
        click.echo(json.dumps({**facts, "next": following, "sunset": sunset}, indent=2, ensure_ascii=False))
        return
    if not move.diff:
        click.echo(f"{provider} is {agent}'s first candidate already: nothing to do")
        return
    click.echo(f"{move.diff}\nwrote {move.file}")
    for line in notice_lines(notices):
        click.echo(line)
    for other in dict.fromkeys(candidate.provider for candidate in move.spec.training[1:]):
        click.echo(f"a model that {other} has trained for these data and settings stays while {other} is listed")
    click.echo(f"next: {following}")
