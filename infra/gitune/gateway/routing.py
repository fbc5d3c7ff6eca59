"""Which model answers a request. Pure, but for a look at the routes file."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

from gitune.deploy import Entry, Route, read_entries


class RoutesFile:
    """The routes as the file has them now: it is read again when it has changed, and replaced in one step by `up`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._entries: Mapping[str, Entry] = {}

    def entries(self) -> Mapping[str, Entry]:
        """By alias; none while nothing is deployed. Raises UserError for what is no routes file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return {}
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._entries, self._seen = read_entries(self.path), seen
        return self._entries


def choose_route(entry: Entry, user: str | None) -> Route:
    """The entry's route, or what was there before it, by the canary's share.

    A user whom the client names (`user` of the request) has the same model for as long as the share stays; other
    requests draw by lot.
    """
    if entry.canary is None or entry.previous is None:
        return entry.route
    return entry.route if _draw(entry.route, user) < entry.canary else entry.previous


def _draw(route: Route, user: str | None) -> float:
    if user is None:
        return random.random()
    digest = hashlib.sha256(f"{route.agent} {route.version} {user}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
