"""gitune pulumi"""

from __future__ import annotations

import os

import click


@click.command("pulumi", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run the Pulumi engine itself, with gitune's settings: gitune pulumi up -s dev."""
    from gitune.engine.install import ensure_engine
    from gitune.root import find_root
    from gitune.stack import stack_environment

    root = find_root()
    engine = ensure_engine()
    os.chdir(root)
    os.execve(engine.command, ["pulumi", *arguments], {**os.environ, **stack_environment(root, engine)})
