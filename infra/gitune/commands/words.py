"""What the shell completes: names that the repository's folders and files give away. Nothing is checked for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from gitune.errors import UserError
from gitune.root import agent_names, find_root, stack_names

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
_ALIAS = re.compile(r"^alias:\s*([^\s#]+)", re.MULTILINE)


def _completing(names: Callable[[Path], Iterable[str]]) -> Complete:
    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in names(find_root()) if name.startswith(incomplete)]
        except (UserError, OSError):  # outside of a repository there is nothing to complete
            return []

    return complete


def _aliases(root: Path) -> Iterable[str]:
    for name in agent_names(root):
        text = (root / "agents" / name / "agent.yaml").read_text(encoding="utf-8", errors="replace")
        named = _ALIAS.search(text)
        yield named[1].strip("'\"") if named else name


complete_agents = _completing(agent_names)
complete_aliases = _completing(_aliases)
complete_stacks = _completing(stack_names)
