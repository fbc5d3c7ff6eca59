"""Questions of commands: asked on a terminal only, and each answer is also a flag."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

Ask = Callable[[str, str], str]
"""(question, proposal) → answer"""

yes_option = click.option("-y", "--yes", is_flag=True, help="Ask nothing: take what is proposed.")


def asks(quiet: bool) -> Ask | None:
    """How to ask; None where nobody is there to answer, or nobody wants to."""
    if quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return _ask


def _ask(question: str, proposal: str) -> str:
    answer: str = click.prompt(question, default=proposal, show_default=bool(proposal), err=True)
    return answer.strip()
