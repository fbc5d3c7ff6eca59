"""gitune serve"""

from __future__ import annotations

import os

import click

from gitune.commands import stack_option

_TOKEN = "GITUNE_GATEWAY_TOKEN"


@click.command("serve")
@stack_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
def command(stack: str, host: str, port: int) -> int:
    """Serve the aliases of a stack as models of an OpenAI-compatible API.

    What `gitune up` deploys is served with the next request; nothing is restarted. Set GITUNE_GATEWAY_TOKEN to ask
    clients for an API key. Ctrl-C ends it once the requests in flight are answered.
    """
    from gitune.gateway.server import serve
    from gitune.project import Project

    token = os.environ.get(_TOKEN) or None
    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"anybody who reaches {host} may ask: set {_TOKEN} to change that", err=True)
    serve(Project.open(stack), host, port, token, lambda text: click.echo(text, err=True))
    return 0
