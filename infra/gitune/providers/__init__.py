"""The providers, by name. The literal dict lets the type checker hold each one to the protocol."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from gitune.errors import UserError
from gitune.providers.base import Provider
from gitune.providers.local import LocalProvider
from gitune.spec import StackSpec

_Open = Callable[[Path, StackSpec], Provider]


def _local(root: Path, stack: StackSpec) -> Provider:
    settings = stack.providers.get("local")
    return LocalProvider(root / ".gitune" / "jobs", concurrency=settings.concurrency if settings else 1)


PROVIDERS: dict[str, _Open] = {"local": _local}


def open_provider(name: str, root: Path, stack: StackSpec) -> Provider:
    """The provider with this name, set up as the stack says. Raises UserError for a name nobody knows."""
    if name not in PROVIDERS:
        close = difflib.get_close_matches(name, PROVIDERS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(PROVIDERS))}"
        raise UserError(f"no provider '{name}'", hint=hint)
    return PROVIDERS[name](root, stack)
