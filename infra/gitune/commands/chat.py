"""gitune chat"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from gitune.commands import json_option, stack_option
from gitune.commands.words import complete_aliases


@click.command("chat")
@click.argument("alias", shell_complete=complete_aliases)
@click.argument("message", required=False)
@stack_option
@json_option
def command(alias: str, message: str | None, stack: str, as_json: bool) -> None:
    """Ask an agent through its alias. Without MESSAGE: standard input, or a conversation on a terminal."""
    from gitune.chat import open_chat
    from gitune.project import Project

    chat = open_chat(Project.open(stack), alias)
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()
        if not message:
            raise click.UsageError("no message on standard input")
    if message is not None:
        _answer(chat.ask(message), as_json, alias)
        return
    click.echo(f"{alias} {chat.route.version}; Ctrl-D ends", err=True)
    while (line := _read_line()) is not None:
        if line.strip():
            _answer(chat.ask(line), as_json, alias)


def _answer(pieces: Iterator[str], as_json: bool, alias: str) -> None:
    if as_json:
        click.echo(json.dumps({"alias": alias, "answer": "".join(pieces).strip()}, ensure_ascii=False))
        return
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None
