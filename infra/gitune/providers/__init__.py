"""The providers, by name. The literal dict lets the type checker hold each one to the protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gitune.errors import UserError
from gitune.hints import did_you_mean, one_of
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
        raise UserError(f"no provider '{name}'", hint=did_you_mean(name, PROVIDERS) or one_of(sorted(PROVIDERS)))
    return PROVIDERS[name](root, stack)
