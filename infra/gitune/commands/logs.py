"""gitune logs"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("logs")
@click.argument("agent", shell_complete=complete_agents)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends. Ctrl-C leaves, and the job goes on.")
@stack_option
@json_option
def command(agent: str, follow: bool, stack: str, as_json: bool) -> None:
    """Show what an agent's current or last job says.

    Its output where the provider has it (local, ray, huggingface), else what the provider says of it. Changes nothing.
    With --json one object a line.
    """
    from gitune.logs import find_agent_job, follow_log, how_it_ended, read_log
    from gitune.project import Project
    from gitune.report.text import harmless

    def tell(text: str) -> None:
        click.echo(text, err=True)

    project = Project.open(stack)
    job = find_agent_job(project, agent)
    if job.note:
        tell(job.note)
    facts = {"agent": job.agent, "provider": job.provider, "job_id": job.job_id}
    for line in follow_log(project, job, tell) if follow else read_log(project, job):
        click.echo(json.dumps({**facts, "text": line}, ensure_ascii=False) if as_json else harmless(line))
    ended = how_it_ended(project, job) if follow else None
    if ended is not None:
        tell(f"job {job.job_id} on {job.provider}: {ended.error.message if ended.error else ended.status}")
