"""gitune schema"""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of agent.yaml, for editors and for checks."""
    from gitune.spec import agent_schema

    click.echo(json.dumps(agent_schema(), indent=2))
