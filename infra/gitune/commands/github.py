"""gitune github"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gitune.commands import json_option, stack_option
from gitune.errors import InvalidInput, Problem, UserError

if TYPE_CHECKING:
    from gitune.github.client import Client

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.group("github")
def command() -> None:
    """Comment, propose, record and report on GitHub: what the workflows do.

    In a workflow the repository, the commit and the pull request are known; elsewhere the repository is that of the
    remote `origin`. GITHUB_TOKEN is the token. Each command may be called again, and does only what is not done yet.
    """


@command.command("comment")
@click.argument("file", type=_FILE)
@click.option("--pull-request", type=click.IntRange(min=1), help="Its number.  [default: the event's]")
@json_option
def comment(file: Path, pull_request: int | None, as_json: bool) -> int:
    """Put FILE, which `gitune plan --markdown FILE` wrote, on the pull request, and a check beside its commit.

    One comment for each pull request, updated in place. Exits with 0 also where the plan is blocked: the check says so.
    """
    with _client() as client:
        from gitune.github.comment import parse_comment, put_comment

        number = pull_request or client.context.pull_request
        if number is None:
            raise UserError("which pull request is not known", hint="name it: --pull-request NUMBER")
        head = client.context.head if number == client.context.pull_request else None
        done = put_comment(client, number, head, parse_comment(_text(file), str(file)))
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
    else:
        click.echo(f"comment {done.comment}{f': {done.url}' if done.url else ''}; check: {done.check}")
        if done.note:
            click.echo(done.note)
    return 0


@command.command("propose")
@stack_option
@click.option("--outcomes", type=_FILE, help="What `gitune up --json` said: cases that got worse, what is overtaken.")
@json_option
def propose(stack: str, outcomes: Path | None, as_json: bool) -> int:
    """Open or update a pull request for each lock that differs from the commit, with its passport.

    Branches are gitune/lock/AGENT. What is overtaken is closed, if --outcomes says what is wanted now.
    """
    from gitune.project import Project

    project, said = Project.open(stack), _outcomes(outcomes) if outcomes else None
    with _client() as client:
        from gitune.github.propose import propose as propose_all

        proposed = propose_all(client, project, said)
        lines = ((one, f"{one.agent}: {_done(one.what, one.pull_request, one.reason)}") for one in proposed)
        told = _tell(lines, as_json, "no lock differs from the commit")
    return 1 if any(one.what == "failed" for one in told) else 0


@command.command("deployment")
@stack_option
@click.option("--state", type=click.Choice(["success", "failure"]), required=True, help="How `gitune up` ended.")
@json_option
def deployment(stack: str, state: Literal["success", "failure"], as_json: bool) -> int:
    """Record on GitHub which model each alias answers with: one environment for each alias, STACK/ALIAS."""
    from gitune.project import Project

    project = Project.open(stack)
    with _client() as client:
        from gitune.github.deployment import tell_deployments

        told = tell_deployments(client, project, state)
        _tell(((one, f"{one.alias}: {one.version}: {one.state}") for one in told), as_json, "GitHub knows all of it")
    return 0


@command.command("revert")
@stack_option
@json_option
def revert(stack: str, as_json: bool) -> int:
    """Propose the locks of before for the models that failed and were taken back. Branch gitune/revert."""
    from gitune.project import Project

    project = Project.open(stack)
    with _client() as client:
        from gitune.github.revert import revert as revert_push

        done = revert_push(client, project)
    agents = ", ".join(done.agents) or "nothing"
    _tell([(done, f"{agents}: {_done(done.what, done.pull_request, done.reason)}")], as_json, "")
    return 0


@command.command("issues")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@json_option
def issues(files: tuple[Path, ...], as_json: bool) -> int:
    """Keep one issue for each agent that drifts, by FILES, which `gitune drift --json` wrote, one for each stack.

    Closes what is gone.
    """
    from gitune.drift import read_findings

    findings = tuple(dict.fromkeys(finding for file in files for finding in read_findings(file)))
    with _client() as client:
        from gitune.github.issues import file_issues

        filed = file_issues(client, findings)
        _tell(((one, f"{one.subject}: {_done(one.what, one.url, '')}") for one in filed), as_json, "no drift, no issue")
    return 0


@contextmanager
def _client() -> Iterator[Client]:
    from gitune.root import find_root

    try:
        from gitune.github.client import connected
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("github", "requests"):
            raise
        raise UserError("gitune github needs PyGithub", hint="pip install 'gitune[github]'") from error
    from gitune.github.context import read_context

    with connected(read_context(os.environ, find_root())) as client:
        yield client


def _tell(done: Iterable[tuple[Any, str]], as_json: bool, nothing: str) -> list[Any]:
    """One line for each as it is done; or all of them as JSON. Returns them."""
    kept = []
    for one, line in done:
        kept.append(one)
        if not as_json:
            click.echo(line)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in kept], indent=2, ensure_ascii=False))
    elif not kept:
        click.echo(nothing)
    return kept


def _done(what: str, url: str | None, reason: str) -> str:
    return f"{what}{f', {url}' if url else ''}{f': {reason}' if reason else ''}"


def _outcomes(file: Path) -> list[dict[str, Any]] | None:
    """None for an empty file: `up` did not come to an end."""
    text = _text(file)
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) and "agent" in one for one in found):
        hint = "gitune up --json > FILE writes one"
        raise InvalidInput([Problem(str(file), 0, "not the outcomes of gitune up", hint)])
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput([Problem(str(file), 0, "not UTF-8 text")]) from error
