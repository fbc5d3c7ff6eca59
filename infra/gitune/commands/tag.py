"""gitune tag"""

from __future__ import annotations

import json

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_agents


@click.command("tag")
@click.argument("agents", shell_complete=complete_agents, metavar="[AGENT]...", nargs=-1)
@click.option("--stage", help="Also assign the versions to this stage, such as production once they are deployed.")
@click.option(
    "--push", "remote", metavar="REMOTE", help="Fetch the tags of this remote first, and push them all to it."
)
@click.option("--dry-run", is_flag=True, help="Say which tags are missing; write and push none.")
@stack_option
@json_option
def command(
    agents: tuple[str, ...], stage: str | None, remote: str | None, dry_run: bool, stack: str, as_json: bool
) -> None:
    """Write the annotated tags that the committed locks lack, as GTO names them: support@v1.2.0, support#production#3.

    A version's tag is put on the commit that brought it. A tag that exists is left as it is, or refused where it says
    something else; none is moved.
    """
    from gitune.git import fetch_tags
    from gitune.gto import STAGE
    from gitune.history import read_history
    from gitune.project import Project
    from gitune.tagging import read_lock_at, wanted_tags, write_tags
    from gitune.taken_back import taken_back_locks

    if stage is not None and not STAGE.fullmatch(stage):
        raise click.UsageError(
            "a stage is letters, digits, _, - and /, such as production", click.get_current_context()
        )
    project = Project.open(stack)
    if remote is not None and not dry_run:
        fetch_tags(project.root, remote)
    history = read_history(project)
    taken_back = [one.agent for one in taken_back_locks(project)] if stage is not None else []
    for agent in taken_back:
        click.echo(f"{agent}: not assigned to {stage}: its model was taken back", err=True)
    named = [agent for agent in agents or history.agents if agent not in taken_back]
    tags = wanted_tags(history, named, stage, read_lock_at(project.root)) if named else ()
    if not dry_run:
        write_tags(project.root, tags, remote)
    if as_json:
        found = [{"tag": tag.name, "commit": tag.commit, "written": not (tag.exists or dry_run)} for tag in tags]
        click.echo(json.dumps(found, indent=2))
        return
    for tag in tags:
        what = "there already" if tag.exists else "missing" if dry_run else "written"
        click.echo(f"{tag.name} at {tag.commit[:12]}: {what}")
    if not tags:
        click.echo("no lock is committed here: nothing to tag")
    elif remote is not None and not dry_run:
        click.echo(f"pushed to {remote}")
