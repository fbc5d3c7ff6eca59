"""gitune adopt"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option
from gitune.commands.words import complete_agents


@click.command("adopt")
@click.argument("agent", shell_complete=complete_agents)
@click.option("--provider", required=True, help="Whose model it is, such as mistral.")
@click.option(
    "--model", "model_id", required=True, help="The provider's ID of the model, such as ft:open-mistral-7b:..."
)
@click.option("--job", "job_id", help="The provider's ID of the job that trained it, for the record.")
@click.option("--examples", type=click.IntRange(min=1), help="How many examples it was trained on, for the record.")
@click.option(
    "-s",
    "--stack",
    default="training",
    show_default=True,
    envvar="GITUNE_STACK",
    help="The stack whose locks and provider settings are used.",
)
@json_option
def command(
    agent: str, provider: str, model_id: str, job_id: str | None, examples: int | None, stack: str, as_json: bool
) -> None:
    """Record an existing model as AGENT's, in its lock, after checking that the provider has it. Trains nothing."""
    from gitune.adopt import adopt
    from gitune.project import Project, checked_agents

    project = Project.open(stack)
    (spec,) = checked_agents(project, [agent])
    lock, written = adopt(spec, project, provider, model_id, job_id=job_id, examples=examples)
    file = project.lock_file(agent).relative_to(project.root).as_posix()
    if as_json:
        facts = {"agent": agent, "version": lock.version, "model_id": lock.model_id, "written": written, "file": file}
        click.echo(json.dumps(facts, indent=2))
    elif written:
        click.echo(f"{agent} {lock.version}: {lock.model_id} on {lock.provider}\nwrote {file}; commit it to deploy it")
        click.echo("no gate has judged it: agent.yaml has to allow unproven-model (gitune's docs/rules.md)")
    else:
        click.echo(f"{agent} {lock.version} has this model already: nothing to do")
