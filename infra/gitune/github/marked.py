"""What is found again by a hidden marker in its first line, and by who wrote it: anybody can write the marker."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from gitune.github.client import Client


class Marked(Protocol):
    """A comment, an issue or a pull request."""

    @property
    def user(self) -> Any: ...

    @property
    def body(self) -> str: ...


def marker(kind: str, *values: str) -> str:
    """A first line, which GitHub does not show. Values are names, versions and hashes."""
    return f"<!-- gitune:{':'.join((kind, *map(_plain, values)))} -->"


def marker_values(body: str | None, kind: str) -> tuple[str, ...] | None:
    """The values in the first line of a text; None where it has no such marker."""
    first = (body or "").partition("\n")[0].rstrip("\r")
    found = re.fullmatch(rf"<!-- gitune:{kind}:(.*) -->", first)
    return tuple(found[1].split(":")) if found else None


def ours(client: Client, texts: Iterable[Any], first_line: str) -> list[Any]:
    """Those by the token's owner that begin with the marker, oldest first; `texts` are all pages."""
    return [
        one for one in texts if client.is_ours(one.user) and (one.body or "").partition("\n")[0].rstrip() == first_line
    ]


def _plain(value: str) -> str:
    return re.sub(r"[^\w.@/+=,-]", "_", value).replace("--", "-_")
