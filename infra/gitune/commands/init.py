"""gitune init"""

from __future__ import annotations

import json
from pathlib import Path

import click

from gitune.commands import json_option, program_name
from gitune.commands.questions import asks, yes_option


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--name", help="Of the Pulumi project.  [default: as written, else the folder's]")
@click.option(
    "--gitune-repository",
    metavar="OWNER/NAME",
    help="Where gitune is on GitHub; the workflows call its own.  [default: as written, else where pip got it from]",
)
@click.option(
    "--gitune-ref",
    metavar="REF",
    help="Its tag, branch or commit.  [default: as written, else as installed, else this version's tag]",
)
@click.option("--no-github", is_flag=True, help="Leave out .github: no workflows, no CODEOWNERS.")
@click.option(
    "--owner",
    "owners",
    multiple=True,
    help="Who reviews workflows, program and stacks: @user, @org/team, e-mail.  [default: git's user.email]",
)
@click.option(
    "--force",
    multiple=True,
    metavar="PATH",
    help="A file, or a folder of files, that is written anew although it is there; repeatable.",
)
@yes_option
@json_option
def command(
    folder: Path,
    name: str | None,
    gitune_repository: str | None,
    gitune_ref: str | None,
    no_github: bool,
    owners: tuple[str, ...],
    force: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Write a repository for agents into FOLDER: stacks, program, workflows, README. Files that are there stay.

    Run it again whenever you like: it writes what is missing, and names what differs.
    """
    from gitune.errors import UserError
    from gitune.git import own_email
    from gitune.gitune_source import find_source
    from gitune.new_repository import (
        Wanted,
        draft_repository,
        project_name,
        write_repository,
        written_owners,
        written_source,
    )

    asking = asks(yes or as_json)
    if no_github and (gitune_repository or gitune_ref or owners):
        raise click.UsageError("--no-github needs no repository, ref or owner", click.get_current_context())
    source = None if no_github else find_source(gitune_repository, gitune_ref, written_source(folder))
    if source is None and not no_github:
        if not asking:
            hint = "--gitune-repository OWNER/NAME says it; --no-github leaves the workflows out"
            raise UserError("where gitune is on GitHub is not known, and the workflows call it there", hint=hint)
        told = asking("Where is gitune on GitHub, as owner/name (empty: no workflows yet)?", "")
        source = find_source(told, gitune_ref) if told else None
    if source is not None and not owners:
        owners = written_owners(folder)
    if source is not None and not owners:
        known = own_email(Path.cwd())
        told = asking("Who reviews workflows, program and stacks?", known) if asking else known
        owners = tuple(told.split())
    draft = draft_repository(folder, Wanted(name or project_name(folder), source, owners), force)
    write_repository(draft)
    following = [f"cd {folder}"] if folder.resolve() != Path.cwd() else []
    following += [f"{program_name()} new AGENT --from FILE"]
    if as_json:
        facts = {
            "folder": str(folder),
            "written": sorted(draft.written),
            "same": sorted(draft.same),
            "kept": sorted(draft.kept),
            "gitune": {"repository": source.repository, "commit": source.commit} if source else None,
            "next": following,
        }
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for path in sorted(draft.written):
        click.echo(f"wrote {path}")
    for path in sorted(draft.kept):
        click.echo(f"kept {path}: it was there and differs; --force {path} writes it anew")
    if not draft.written:
        click.echo("nothing to write")
    if source is not None and not owners:
        click.echo("no CODEOWNERS: --owner @org/team says who reviews workflows and stacks")
    if source is not None and draft.git_root is not None and draft.git_root != folder.resolve():
        click.echo(f"GitHub reads .github at the root of a repository only, which is {draft.git_root}: move it there")
    click.echo(f"next: {' && '.join(following)}")
